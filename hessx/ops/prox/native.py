"""The prox pass on the CPU: the fused kernels, torch's matrix product for many rows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessx import backends
from hessx.ops.prox.rules import gram_fake, prox_pass_fake

_FUSED_ROWS = 400
# Columns whose products torch adds up in the working precision.
_COLUMN_BLOCK = 4096


def prox_pass(
    basis: torch.Tensor,
    gradient: torch.Tensor,
    z: torch.Tensor,
    lambda1: torch.Tensor,
    with_gram: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of the soft-thresholded point; see `hessx.ops.prox_pass`."""
    w, sums, gram = prox_pass_fake(basis, gradient, z, lambda1, with_gram)
    basis, gradient = _contiguous_rows(basis), _contiguous_rows(gradient)
    z, lambda1 = z.contiguous(), lambda1.contiguous()
    batch, r, d = basis.shape
    _kernel("prox_pass", basis.dtype)(
        basis.data_ptr(),
        basis.stride()[:2],
        gradient.data_ptr(),
        gradient.stride(0),
        z.data_ptr(),
        lambda1.data_ptr(),
        batch,
        z.shape[1],
        r,
        d,
        w.data_ptr(),
        sums.data_ptr(),
        gram.data_ptr() if with_gram else 0,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return w, sums, gram


def gram(x: torch.Tensor) -> torch.Tensor:
    """Gram matrices of rows; see `hessx.ops.gram`."""
    return _fused_gram(x) if fused_gram_wins(x) else _blocked_gram(x)


def fused_gram_wins(x: torch.Tensor) -> bool:
    """Say whether the fused kernel beats torch's matrix product on fixed blocks of columns.

    Measured by ``python -m bench.prox --crossover`` (docs/ops.md): the kernel takes half of the
    products, which wins until rows no longer fit the second-level cache.
    """
    return x.shape[1] <= _FUSED_ROWS


def _fused_gram(x: torch.Tensor) -> torch.Tensor:
    out = gram_fake(x)
    x = _contiguous_rows(x)
    batch, rows, d = x.shape
    _kernel("gram", x.dtype)(
        x.data_ptr(),
        x.stride()[:2],
        batch,
        rows,
        d,
        out.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out


def _blocked_gram(x: torch.Tensor) -> torch.Tensor:
    out = gram_fake(x).zero_()
    for start in range(0, x.shape[2], _COLUMN_BLOCK):
        block = x[:, :, start : start + _COLUMN_BLOCK]
        out += block @ block.mT
    # The product is symmetric up to rounding only.
    return out.triu() + out.triu(1).mT


def _contiguous_rows(x: torch.Tensor) -> torch.Tensor:
    """Give x itself where its columns lie side by side, whatever the strides of the rest."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _kernel(name: str, dtype: torch.dtype) -> Callable[..., None]:
    suffix = "double" if dtype == torch.float64 else "float"
    return getattr(backends.native(), f"{name}_{suffix}")
