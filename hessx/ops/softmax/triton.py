"""Triton kernel of softmax_product: one program a row, three passes over its classes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hessx.ops.softmax.rules import softmax_product_fake


@triton.jit(do_not_specialize=["m"])
def _softmax_product_kernel(
    probabilities,
    vectors,
    out,
    m,
    classes,
    stride_probabilities,
    stride_vectors,
    BLOCK: tl.constexpr,
):
    """Compute p * (v - <p, v>) of one row; v = u - u_k, the likeliest class k being the origin.

    Everything is float64 until the result is rounded; what the passes read again is in cache.
    """
    row = tl.program_id(0).to(tl.int64)
    probabilities += row // m * stride_probabilities
    vectors += row * stride_vectors

    largest = tl.full((), float("-inf"), probabilities.dtype.element_ty)
    likeliest = tl.full((), 0, tl.int64)
    for start in range(0, classes, BLOCK):
        columns = start + tl.arange(0, BLOCK).to(tl.int64)
        p = tl.load(probabilities + columns, mask=columns < classes, other=float("-inf"))
        value, at = tl.max(p, axis=0, return_indices=True)
        likeliest = tl.where(value > largest, start + at, likeliest)
        largest = tl.maximum(value, largest)
    origin = tl.load(vectors + likeliest).to(tl.float64)

    mean = tl.full((), 0, tl.float64)
    for start in range(0, classes, BLOCK):
        columns = start + tl.arange(0, BLOCK).to(tl.int64)
        mask = columns < classes
        p = tl.load(probabilities + columns, mask=mask, other=0.0).to(tl.float64)
        u = tl.load(vectors + columns, mask=mask, other=0.0).to(tl.float64)
        mean += tl.sum(p * (u - origin), axis=0)

    for start in range(0, classes, BLOCK):
        columns = start + tl.arange(0, BLOCK).to(tl.int64)
        mask = columns < classes
        p = tl.load(probabilities + columns, mask=mask, other=0.0).to(tl.float64)
        u = tl.load(vectors + columns, mask=mask, other=0.0).to(tl.float64)
        w = p * (u - origin - mean)
        tl.store(out + row * classes + columns, w.to(out.dtype.element_ty), mask=mask)


def _tile(classes: int) -> tuple[int, int]:
    """Columns of a tile, and warps: one as far as eight numbers a thread, then four a thread."""
    columns = min(1024, max(16, triton.next_power_of_2(classes)))
    return columns, 1 if columns <= 256 else columns // 128


def _rows(x: torch.Tensor) -> torch.Tensor:
    """The rows of a tensor as a matrix with contiguous rows."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def softmax_product(probabilities: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(diag p - p p^T) u; see `hessx.ops.softmax_product`."""
    out = softmax_product_fake(probabilities, vectors)
    if out.numel() == 0:
        return out
    _, m, classes = vectors.shape
    p, u = _rows(probabilities), _rows(vectors)
    block, warps = _tile(classes)
    with torch.cuda.device_of(vectors):
        _softmax_product_kernel[(u.shape[0],)](
            p, u, out, m, classes, p.stride(0), u.stride(0), BLOCK=block, num_warps=warps
        )
    return out
