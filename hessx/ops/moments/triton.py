"""Triton kernels of the moments ops: tiles of u^T v over fixed blocks of samples, added in order.

Products and sums inside a block of samples are float32 (float64 for float64 inputs); blocks are
added up in float64, first to last, without atomics. Where the output has too few tiles to occupy a
GPU, one program takes one block and a second kernel adds the blocks up, in the same order: both
ways give the same bits, so the batch a problem is part of cannot change its result. (Its place in
memory can, in the last bits of a float32 sum: the compiler loads unaligned columns otherwise, and
orders the samples of one step by how it loads them.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hessx.ops.moments import reference, rules
from hessx.ops.noise.triton import drawn_tile

# Two waves on the largest current GPUs: with fewer programs the samples are split as well.
_ENOUGH_PROGRAMS = 256
_WORKSPACE_BYTES = 64 * 2**20


@triton.jit
def _loaded_or_drawn(
    x,
    columns,
    in_k,
    samples,
    in_n,
    stride_n,
    noise,
    REAL: tl.constexpr,
    DRAWN: tl.constexpr,
):
    """Load the samples at `x`; with `x` None, draw them again as `normal` drew them, in DRAWN."""
    if x is None:
        seed, first_sample, stream, first_column = noise
        drawn = drawn_tile(
            samples + first_sample, first_column, seed, stream, True, REAL, 1.0, columns.shape[0]
        )
        # The draws of samples that are not there are numbers all the same.
        value = tl.where(in_n[:, None], drawn, 0.0).to(DRAWN)
    else:
        mask = in_n[:, None] & in_k[None, :]
        value = tl.load(x + samples[:, None] * stride_n, mask=mask, other=0.0)
    return value


@triton.jit
def _column_sums(
    x,
    weight,
    columns,
    in_k,
    n,
    block,
    blocks,
    stride_n,
    stride_weight_n,
    noise,
    SQUARED: tl.constexpr,
    REAL: tl.constexpr,
    DRAWN: tl.constexpr,
    SAMPLE_BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Sum the columns at `x`, weighted or squared, over `blocks` blocks of samples."""
    total = tl.zeros((BLOCK_K,), tl.float64)
    for begin in range(
        block * SAMPLE_BLOCK, tl.minimum(n, (block + blocks) * SAMPLE_BLOCK), SAMPLE_BLOCK
    ):
        partial = tl.zeros((BLOCK_K,), REAL)
        for start in range(begin, tl.minimum(n, begin + SAMPLE_BLOCK), BLOCK_N):
            samples = start + tl.arange(0, BLOCK_N).to(tl.int64)
            in_n = samples < n
            term = _loaded_or_drawn(
                x, columns, in_k, samples, in_n, stride_n, noise, REAL, DRAWN
            ).to(REAL)
            if SQUARED:
                term = term * term
            if weight is not None:
                w = tl.load(weight + samples * stride_weight_n, mask=in_n, other=0.0).to(REAL)
                term = term * w[:, None]
            partial += tl.sum(term, axis=0)
        total += partial.to(tl.float64)
    return total


@triton.jit(
    do_not_specialize=[
        "n",
        "batch",
        "batch_sum_u",
        "batch_sum_v",
        "first_block",
        "blocks_per_slot",
        "seed",
        "first_sample",
        "stream",
    ]
)
def _cross_moments_kernel(
    u,
    v,
    weight,
    sum_u,
    sum_v,
    uv,
    n,
    k,
    l,  # noqa: E741
    batch,
    batch_sum_u,
    batch_sum_v,
    first_block,
    blocks_per_slot,
    stride_u_batch,
    stride_u_n,
    stride_u_k,
    stride_v_batch,
    stride_v_n,
    stride_v_l,
    stride_weight_batch,
    stride_weight_n,
    seed: tl.int64,
    first_sample: tl.int64,
    stream: tl.int64,
    REAL: tl.constexpr,
    SAMPLE_BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """One tile of one batch entry of u^T diag(weight) v, over the sample blocks of one slot.

    With `u` None its samples are standard normal draws of v's dtype, made again from their numbers
    wherever they are needed and never stored. Outputs are contiguous with a leading axis of slots.
    The programs of the first column and row of tiles also write the sums, in a second pass because
    sums in the first made it spill registers; an operand shared by the batch is summed for batch
    entry 0 alone.
    """
    pid = tl.program_id(0).to(tl.int64)
    # An operand without columns still leaves the sums of the other one to write.
    tiles_k = tl.maximum(tl.cdiv(k, BLOCK_K), 1)
    tiles_l = tl.maximum(tl.cdiv(l, BLOCK_L), 1)
    tile_l = pid % tiles_l
    tile_k = pid // tiles_l % tiles_k
    b = pid // tiles_l // tiles_k % batch
    slot = pid // tiles_l // tiles_k // batch

    columns_k = tile_k * BLOCK_K + tl.arange(0, BLOCK_K)
    columns_l = tile_l * BLOCK_L + tl.arange(0, BLOCK_L)
    in_k = columns_k < k
    in_l = columns_l < l
    if u is not None:
        u += b * stride_u_batch + columns_k[None, :] * stride_u_k
    v += b * stride_v_batch + columns_l[None, :] * stride_v_l
    if weight is not None:
        weight += b * stride_weight_batch

    # Products of halves are exact in float32, so tensor cores may take the inputs as they are; a
    # weighted factor would have to be rounded first.
    drawn: tl.constexpr = v.dtype.element_ty
    left: tl.constexpr = drawn if u is None else u.dtype.element_ty
    as_they_are: tl.constexpr = weight is None and left == v.dtype.element_ty
    noise = (seed, first_sample, stream, tile_k * BLOCK_K)
    total = tl.zeros((BLOCK_K, BLOCK_L), tl.float64)
    block = first_block + slot * blocks_per_slot
    for begin in range(
        block * SAMPLE_BLOCK,
        tl.minimum(n, (block + blocks_per_slot) * SAMPLE_BLOCK),
        SAMPLE_BLOCK,
    ):
        partial = tl.zeros((BLOCK_K, BLOCK_L), REAL)
        for start in range(begin, tl.minimum(n, begin + SAMPLE_BLOCK), BLOCK_N):
            samples = start + tl.arange(0, BLOCK_N).to(tl.int64)
            in_n = samples < n
            x = _loaded_or_drawn(u, columns_k, in_k, samples, in_n, stride_u_n, noise, REAL, drawn)
            mask_v = in_n[:, None] & in_l[None, :]
            y = tl.load(v + samples[:, None] * stride_v_n, mask=mask_v, other=0.0)
            if not as_they_are:
                x = x.to(REAL)
                y = y.to(REAL)
            if weight is not None:
                w = tl.load(weight + samples * stride_weight_n, mask=in_n, other=0.0).to(REAL)
                x = x * w[:, None]
            partial = tl.dot(tl.trans(x), y, partial, input_precision="ieee", out_dtype=REAL)
        total += partial.to(tl.float64)

    tl.store(
        uv + (slot * batch + b) * k * l + columns_k[:, None] * l + columns_l[None, :],
        total,
        mask=in_k[:, None] & in_l[None, :],
    )
    if (tile_l == 0) & (b < batch_sum_u):
        total_u = _column_sums(
            u,
            weight,
            columns_k,
            in_k,
            n,
            block,
            blocks_per_slot,
            stride_u_n,
            stride_weight_n,
            noise,
            False,
            REAL,
            drawn,
            SAMPLE_BLOCK,
            BLOCK_N,
            BLOCK_K,
        )
        tl.store(sum_u + (slot * batch_sum_u + b) * k + columns_k, total_u, mask=in_k)
    if (tile_k == 0) & (b < batch_sum_v):
        total_v = _column_sums(
            v,
            weight,
            columns_l,
            in_l,
            n,
            block,
            blocks_per_slot,
            stride_v_n,
            stride_weight_n,
            noise,
            False,
            REAL,
            drawn,
            SAMPLE_BLOCK,
            BLOCK_N,
            BLOCK_L,
        )
        tl.store(sum_v + (slot * batch_sum_v + b) * l + columns_l, total_v, mask=in_l)


@triton.jit(do_not_specialize=["n", "batch", "first_block", "blocks_per_slot"])
def _core_moments_kernel(
    u,
    w,
    uw,
    u2w2,
    cross,
    w2,
    n,
    k,
    batch,
    first_block,
    blocks_per_slot,
    stride_u_batch,
    stride_u_n,
    stride_u_k,
    stride_w_batch,
    stride_w_n,
    stride_w_k,
    REAL: tl.constexpr,
    SAMPLE_BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One tile of u^T w, (u^2)^T w^2 and (u w)^T (u w) of one batch entry, over one slot.

    Tiles below the diagonal compute the symmetric product too, though only the others store it: a
    branch in the loop made it spill registers, of which three accumulators leave few.
    """
    pid = tl.program_id(0).to(tl.int64)
    tiles = tl.cdiv(k, BLOCK)
    tile_j = pid % tiles
    tile_i = pid // tiles % tiles
    b = pid // tiles // tiles % batch
    slot = pid // tiles // tiles // batch

    columns_i = tile_i * BLOCK + tl.arange(0, BLOCK)
    columns_j = tile_j * BLOCK + tl.arange(0, BLOCK)
    in_i = columns_i < k
    in_j = columns_j < k
    u += b * stride_u_batch
    w += b * stride_w_batch

    total_uw = tl.zeros((BLOCK, BLOCK), tl.float64)
    total_u2w2 = tl.zeros((BLOCK, BLOCK), tl.float64)
    total_cross = tl.zeros((BLOCK, BLOCK), tl.float64)
    block = first_block + slot * blocks_per_slot
    for begin in range(
        block * SAMPLE_BLOCK,
        tl.minimum(n, (block + blocks_per_slot) * SAMPLE_BLOCK),
        SAMPLE_BLOCK,
    ):
        partial_uw = tl.zeros((BLOCK, BLOCK), REAL)
        partial_u2w2 = tl.zeros((BLOCK, BLOCK), REAL)
        partial_cross = tl.zeros((BLOCK, BLOCK), REAL)
        for start in range(begin, tl.minimum(n, begin + SAMPLE_BLOCK), BLOCK_N):
            samples = start + tl.arange(0, BLOCK_N).to(tl.int64)
            mask_i = (samples < n)[:, None] & in_i[None, :]
            mask_j = (samples < n)[:, None] & in_j[None, :]
            at_u = u + samples[:, None] * stride_u_n
            at_w = w + samples[:, None] * stride_w_n
            u_i = tl.load(at_u + columns_i[None, :] * stride_u_k, mask=mask_i, other=0.0).to(REAL)
            w_j = tl.load(at_w + columns_j[None, :] * stride_w_k, mask=mask_j, other=0.0).to(REAL)
            partial_uw = tl.dot(
                tl.trans(u_i), w_j, partial_uw, input_precision="ieee", out_dtype=REAL
            )
            partial_u2w2 = tl.dot(
                tl.trans(u_i * u_i), w_j * w_j, partial_u2w2, input_precision="ieee", out_dtype=REAL
            )
            w_i = tl.load(at_w + columns_i[None, :] * stride_w_k, mask=mask_i, other=0.0).to(REAL)
            u_j = tl.load(at_u + columns_j[None, :] * stride_u_k, mask=mask_j, other=0.0).to(REAL)
            partial_cross = tl.dot(
                tl.trans(u_i * w_i),
                u_j * w_j,
                partial_cross,
                input_precision="ieee",
                out_dtype=REAL,
            )
        total_uw += partial_uw.to(tl.float64)
        total_u2w2 += partial_u2w2.to(tl.float64)
        total_cross += partial_cross.to(tl.float64)

    matrix = (slot * batch + b) * k * k
    at_ij = matrix + columns_i[:, None] * k + columns_j[None, :]
    at_ji = matrix + columns_j[None, :] * k + columns_i[:, None]
    mask = in_i[:, None] & in_j[None, :]
    tl.store(uw + at_ij, total_uw, mask=mask)
    tl.store(u2w2 + at_ij, total_u2w2, mask=mask)
    # Each unordered pair is written from one value: the result is symmetric to the last bit.
    ordered = columns_i[:, None] <= columns_j[None, :]
    tl.store(cross + at_ij, total_cross, mask=mask & ordered)
    tl.store(cross + at_ji, total_cross, mask=mask & (columns_i[:, None] < columns_j[None, :]))

    if tile_i == 0:
        total_w2 = _column_sums(
            w + columns_j[None, :] * stride_w_k,
            None,
            columns_j,
            in_j,
            n,
            block,
            blocks_per_slot,
            stride_w_n,
            0,
            None,
            True,
            REAL,
            None,
            SAMPLE_BLOCK,
            BLOCK_N,
            BLOCK,
        )
        tl.store(w2 + (slot * batch + b) * k + columns_j, total_w2, mask=in_j)


@triton.jit(do_not_specialize=["n_slots"])
def _add_slots_kernel(slots, total, n_slots, size, BLOCK: tl.constexpr):
    """total[i] += slots[0, i], slots[1, i], ... in this order."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < size
    value = tl.load(total + i, mask=mask)
    offsets = i
    for _ in range(n_slots):
        value += tl.load(slots + offsets, mask=mask)
        offsets += size
    tl.store(total + i, value, mask=mask)


@dataclass(frozen=True)
class _Tile:
    """Shape of one program: `edge` columns of either operand, `samples` a step, `warps`.

    `registers` a thread may be taken; left open, the assembler rather spills a few bytes than takes
    more than fit twice.
    """

    edge: int
    samples: int
    warps: int
    registers: int | None = None


def _tile(columns: int, *, doubles: bool, accumulators: int, converted: bool = False) -> _Tile:
    """Choose a tile for an output of `columns` a side, whose samples are all loaded.

    `converted`: halves are made float32 in the kernel before they are multiplied.

    Large tiles load less, small ones are more. Limits by registers, read from the assembler's
    report for sm_80, 90, 100 and 120: each accumulator has a float64 total beside it, and a step of
    more than 16 samples, whose factors are held too, spills. The choice must not depend on the
    batch: an entry gets the same bits alone and in company.
    """
    if accumulators > 1:
        small = doubles or columns <= 16
        return _Tile(edge=16, samples=16, warps=4) if small else _Tile(32, 16, 8)
    if columns <= 16:
        return _Tile(edge=16, samples=16, warps=4, registers=128)
    if doubles:
        return _Tile(edge=32, samples=16, warps=8, registers=168)
    # Halves converted in a tile wide enough for the tensor cores of sm_100 would be rounded to TF32
    # there, whatever precision is asked for (Triton issue 10176).
    return _Tile(edge=32 if columns <= 256 or converted else 64, samples=16, warps=8)


def _drawing_tile(dtype: torch.dtype) -> _Tile:
    """Choose a tile for samples of which one factor is drawn, by the same report."""
    registers = {torch.float32: None, torch.float64: 168}.get(dtype, 160)
    return _Tile(edge=32, samples=16, warps=8, registers=registers)


def _over_samples(
    launch: Callable[[tuple[torch.Tensor, ...], int, int, int], None],
    outputs: tuple[torch.Tensor, ...],
    n: int,
    programs: int,
) -> None:
    """Run `launch(outputs, first_block, blocks_per_slot, slots)` until all samples are in.

    One slot is `programs` programs; with enough of them one slot takes all the blocks of samples.
    """
    blocks = triton.cdiv(n, rules.SAMPLE_BLOCK)
    if blocks <= 1 or programs >= _ENOUGH_PROGRAMS:
        launch(outputs, 0, blocks, 1)
        return
    bytes_of_slot = sum(output.numel() * output.element_size() for output in outputs)
    slots = min(blocks, max(1, _WORKSPACE_BYTES // max(1, bytes_of_slot)))
    workspace = tuple(output.new_empty((slots, *output.shape)) for output in outputs)
    for output in outputs:
        output.zero_()
    for first_block in range(0, blocks, slots):
        used = min(slots, blocks - first_block)
        launch(workspace, first_block, 1, used)
        for slots_of_output, output in zip(workspace, outputs, strict=True):
            add_slots(slots_of_output, output, used)


def add_slots(slots: torch.Tensor, total: torch.Tensor, used: int) -> None:
    """Add the first `used` of the slots to a contiguous total, in their order."""
    size = total.numel()
    if size:
        _add_slots_kernel[(triton.cdiv(size, 512),)](
            slots, total, used, size, BLOCK=512, num_warps=4
        )


def _batch_stride(x: torch.Tensor) -> int:
    """Stride of the batch axis; 0 where one entry serves the whole batch."""
    return x.stride(0) if x.shape[0] > 1 else 0


def _real(*tensors: torch.Tensor | None) -> tl.dtype:
    """The working precision."""
    doubles = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return tl.float64 if doubles else tl.float32


def cross_moments(
    u: torch.Tensor, v: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products; see `hessx.ops.cross_moments`."""
    shapes = rules.cross_moments_shapes(u, v, weight)
    if shapes[2][0] == 0:
        return reference.cross_moments(u, v, weight)
    return _cross_moments(u, v, weight, shapes)


def normal_moments(
    v: torch.Tensor,
    weight: torch.Tensor | None,
    m: int,
    seed: int,
    first_sample: int,
    stream: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums and outer products with normal draws; see `hessx.ops.normal_moments`."""
    shapes = rules.normal_moments_shapes(v, weight, m)
    if shapes[2][0] == 0:
        return reference.normal_moments(v, weight, m, seed, first_sample, stream)
    return _cross_moments(None, v, weight, shapes, (seed, first_sample, stream))


def _cross_moments(
    u: torch.Tensor | None,
    v: torch.Tensor,
    weight: torch.Tensor | None,
    shapes: rules.CrossMomentsShapes,
    noise: tuple[int, int, int] = (0, 0, 0),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sum_u, sum_v, uv = (v.new_empty(shape, dtype=torch.float64) for shape in shapes)
    batch, k, l = shapes[2]  # noqa: E741
    n = v.shape[1]
    real = _real(u, v, weight)
    if u is None:
        tile = _drawing_tile(v.dtype)
    else:
        doubles = real == tl.float64
        converted = u.dtype != v.dtype or (weight is not None and v.dtype.itemsize == 2)
        tile = _tile(max(k, l), doubles=doubles, accumulators=1, converted=converted)
    programs = max(1, triton.cdiv(k, tile.edge)) * max(1, triton.cdiv(l, tile.edge)) * batch
    weights = None if weight is None else weight.expand(batch, n)

    def launch(out: tuple[torch.Tensor, ...], first_block: int, blocks: int, slots: int) -> None:
        _cross_moments_kernel[(programs * slots,)](
            u,
            v,
            weights,
            *out,
            n,
            k,
            l,
            batch,
            shapes[0][0],
            shapes[1][0],
            first_block,
            blocks,
            0 if u is None else _batch_stride(u),
            0 if u is None else u.stride(1),
            0 if u is None else u.stride(2),
            _batch_stride(v),
            v.stride(1),
            v.stride(2),
            0 if weights is None else weights.stride(0),
            0 if weights is None else weights.stride(1),
            *noise,
            REAL=real,
            SAMPLE_BLOCK=rules.SAMPLE_BLOCK,
            BLOCK_N=tile.samples,
            BLOCK_K=tile.edge,
            BLOCK_L=tile.edge,
            num_warps=tile.warps,
            maxnreg=tile.registers,
        )

    with torch.cuda.device_of(v):
        _over_samples(launch, (sum_u, sum_v, uv), n, programs)
    return sum_u, sum_v, uv


def core_moments(
    u: torch.Tensor, w: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three products of the estimator's core; see `hessx.ops.core_moments`."""
    uw, u2w2, cross, w2 = rules.core_moments_fake(u, w)
    batch, n, k = u.shape
    if batch == 0 or k == 0:
        return uw, u2w2, cross, w2
    real = _real(u, w)
    tile = _tile(k, doubles=real == tl.float64, accumulators=3)
    programs = triton.cdiv(k, tile.edge) ** 2 * batch

    def launch(out: tuple[torch.Tensor, ...], first_block: int, blocks: int, slots: int) -> None:
        _core_moments_kernel[(programs * slots,)](
            u,
            w,
            *out,
            n,
            k,
            batch,
            first_block,
            blocks,
            u.stride(0),
            u.stride(1),
            u.stride(2),
            w.stride(0),
            w.stride(1),
            w.stride(2),
            REAL=real,
            SAMPLE_BLOCK=rules.SAMPLE_BLOCK,
            BLOCK_N=tile.samples,
            BLOCK=tile.edge,
            num_warps=tile.warps,
            maxnreg=tile.registers,
        )

    with torch.cuda.device_of(u):
        _over_samples(launch, (uw, u2w2, cross, w2), n, programs)
    return uw, u2w2, cross, w2
