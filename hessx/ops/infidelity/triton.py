"""Triton kernels of the infidelity ops: dot products by rows, then residuals and their moment.

Two readings of the perturbations: a program's share of them and of the gradient, in float64, are
too large to keep in registers for rows of real inputs, and the second reading finds them in the
last cache where they fit it.

Everything is added up in float64, in the order that a program goes through a slot (a run of tiles
of columns, or of rows, that depends on d or n alone); the slots are added up in order, without
atomics. An input gets the same bits alone and in company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from hessx.ops.infidelity import rules
from hessx.ops.moments.triton import add_slots

# Tiles of a slot at least, and slots at most: enough programs for the largest current GPUs where
# there are few rows or columns, and few slots to add up in order.
_TILES_PER_SLOT = 16
_MAX_SLOTS = 64
_WORKSPACE_BYTES = 64 * 2**20
# Rows whose residuals a program takes at once.
_RESIDUAL_ROWS = 64


@triton.jit(do_not_specialize=["n", "explanations", "batch", "first_slot", "tiles_per_slot"])
def _dots_kernel(
    perturbations,
    attributions,
    dots,
    d,
    n,
    explanations,
    batch,
    first_slot,
    tiles_per_slot,
    stride_perturbations_batch,
    stride_perturbations_row,
    stride_perturbations_column,
    stride_attributions_batch,
    stride_attributions_row,
    stride_attributions_column,
    ROWS: tl.constexpr,
    EXPLANATIONS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Multiply a block of perturbations by a block of explanations over one slot of columns.

    Explanations come first in the numbers of programs: those of the same rows read them at once.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_k = tl.cdiv(explanations, EXPLANATIONS)
    blocks_n = tl.cdiv(n, ROWS)
    rows = pid // blocks_k % blocks_n * ROWS + tl.arange(0, ROWS)
    k = pid % blocks_k * EXPLANATIONS + tl.arange(0, EXPLANATIONS)
    b = pid // blocks_k // blocks_n % batch
    slot = pid // blocks_k // blocks_n // batch
    in_n = rows < n
    in_k = k < explanations
    perturbations += b * stride_perturbations_batch + rows[:, None] * stride_perturbations_row
    attributions += b * stride_attributions_batch + k[:, None] * stride_attributions_row

    total = tl.zeros((ROWS, EXPLANATIONS, COLUMNS), tl.float64)
    begin = (first_slot + slot) * tiles_per_slot * COLUMNS
    end = (first_slot + slot + 1) * tiles_per_slot * COLUMNS
    for start in range(begin, tl.minimum(d, end), COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        in_d = columns < d
        perturbation = tl.load(
            perturbations + columns[None, :] * stride_perturbations_column,
            mask=in_n[:, None] & in_d[None, :],
            other=0.0,
        ).to(tl.float64)
        attribution = tl.load(
            attributions + columns[None, :] * stride_attributions_column,
            mask=in_k[:, None] & in_d[None, :],
            other=0.0,
        ).to(tl.float64)
        total += perturbation[:, None, :] * attribution[None, :, :]
    dots += (slot * batch + b) * n * explanations
    tl.store(
        dots + rows[:, None] * explanations + k[None, :],
        tl.sum(total, axis=2),
        mask=in_n[:, None] & in_k[None, :],
    )


@triton.jit(do_not_specialize=["n", "explanations", "batch", "first_slot", "tiles_per_slot"])
def _residuals_kernel(
    dots,
    differences,
    weights,
    residuals,
    loss,
    n,
    explanations,
    batch,
    first_slot,
    tiles_per_slot,
    ROWS: tl.constexpr,
    EXPLANATIONS: tl.constexpr,
):
    """Store the weighted residuals of one slot of rows, and add up the loss.

    Not in place: several threads may hold a number, and one would read what another has written.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks_k = tl.cdiv(explanations, EXPLANATIONS)
    k = pid % blocks_k * EXPLANATIONS + tl.arange(0, EXPLANATIONS)
    b = pid // blocks_k % batch
    slot = pid // blocks_k // batch
    in_k = k < explanations
    dots += b * n * explanations
    differences += b * n * explanations
    residuals += b * n * explanations

    squares = tl.zeros((ROWS, EXPLANATIONS), tl.float64)
    begin = (first_slot + slot) * tiles_per_slot * ROWS
    end = (first_slot + slot + 1) * tiles_per_slot * ROWS
    for start in range(begin, tl.minimum(n, end), ROWS):
        rows = start + tl.arange(0, ROWS)
        in_n = rows < n
        at = rows[:, None] * explanations + k[None, :]
        mask = in_n[:, None] & in_k[None, :]
        residual = tl.load(dots + at, mask=mask, other=0.0)
        residual -= tl.load(differences + at, mask=mask, other=0.0)
        weighted = residual
        if weights is not None:
            weighted = residual * tl.load(weights + rows, mask=in_n, other=0.0)[:, None]
        squares += weighted * residual
        tl.store(residuals + at, weighted, mask=mask)
    tl.store(loss + (slot * batch + b) * explanations + k, tl.sum(squares, axis=0), mask=in_k)


@triton.jit(do_not_specialize=["n", "explanations", "batch", "first_slot", "tiles_per_slot"])
def _moment_kernel(
    perturbations,
    residuals,
    gradient,
    d,
    n,
    explanations,
    batch,
    first_slot,
    tiles_per_slot,
    stride_perturbations_batch,
    stride_perturbations_row,
    stride_perturbations_column,
    ROWS: tl.constexpr,
    EXPLANATIONS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up residuals times perturbations, a block of columns over one slot of rows."""
    pid = tl.program_id(0).to(tl.int64)
    blocks_k = tl.cdiv(explanations, EXPLANATIONS)
    blocks_d = tl.cdiv(d, COLUMNS)
    columns = pid // blocks_k % blocks_d * COLUMNS + tl.arange(0, COLUMNS)
    k = pid % blocks_k * EXPLANATIONS + tl.arange(0, EXPLANATIONS)
    b = pid // blocks_k // blocks_d % batch
    slot = pid // blocks_k // blocks_d // batch
    in_d = columns < d
    in_k = k < explanations
    perturbations += b * stride_perturbations_batch + columns[None, :] * stride_perturbations_column
    residuals += b * n * explanations + k[None, :]

    total = tl.zeros((ROWS, EXPLANATIONS, COLUMNS), tl.float64)
    begin = (first_slot + slot) * tiles_per_slot * ROWS
    end = (first_slot + slot + 1) * tiles_per_slot * ROWS
    for start in range(begin, tl.minimum(n, end), ROWS):
        rows = start + tl.arange(0, ROWS)
        in_n = rows < n
        residual = tl.load(
            residuals + rows[:, None] * explanations,
            mask=in_n[:, None] & in_k[None, :],
            other=0.0,
        )
        perturbation = tl.load(
            perturbations + rows[:, None] * stride_perturbations_row,
            mask=in_n[:, None] & in_d[None, :],
            other=0.0,
        ).to(tl.float64)
        total += residual[:, :, None] * perturbation[:, None, :]
    gradient += (slot * batch + b) * explanations * d
    tl.store(
        gradient + k[:, None] * d + columns[None, :],
        tl.sum(total, axis=0),
        mask=in_k[:, None] & in_d[None, :],
    )


@dataclass(frozen=True)
class _Tile:
    """Rows, explanations and columns that a program has under way."""

    rows: int
    explanations: int
    columns: int


def _dots_tile(explanations: int) -> _Tile:
    """Choose a tile of 32 float64 sums a thread at most."""
    at_once = _explanations_at_once(explanations)
    return _Tile(min(8, 32 // at_once), at_once, 128)


def _moment_tile(explanations: int) -> _Tile:
    """Choose a tile of 32 float64 sums and 16 residuals a thread at most."""
    at_once = _explanations_at_once(explanations)
    return _Tile(min(8, 16 // at_once), at_once, 256)


def _explanations_at_once(explanations: int) -> int:
    return min(8, triton.next_power_of_2(explanations))


def _over_slots(
    launch: Callable[[torch.Tensor, int, int, int], None], output: torch.Tensor, tiles: int
) -> None:
    """Run `launch(slots of output, first_slot, slots, tiles_per_slot)` until all tiles are in."""
    tiles_per_slot = max(_TILES_PER_SLOT, triton.cdiv(tiles, _MAX_SLOTS))
    slots = triton.cdiv(tiles, tiles_per_slot)
    if slots == 1:
        launch(output, 0, 1, tiles_per_slot)
        return
    output.zero_()
    bytes_of_slot = output.numel() * output.element_size()
    at_once = max(1, min(slots, _WORKSPACE_BYTES // bytes_of_slot))
    workspace = output.new_empty((at_once, *output.shape))
    for first_slot in range(0, slots, at_once):
        used = min(at_once, slots - first_slot)
        launch(workspace, first_slot, used, tiles_per_slot)
        add_slots(workspace, output, used)


def perturbation_dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    """I Phi^T; see `hessx.ops.perturbation_dots`."""
    rules.check_dots(perturbations, attributions)
    batch, explanations, _ = attributions.shape
    together = rules.attributions_together(perturbations, attributions)
    return rules.dots_apart(_dots(perturbations, together), batch, explanations)


def _dots(perturbations: torch.Tensor, attributions: torch.Tensor) -> torch.Tensor:
    dots = rules.perturbation_dots_fake(perturbations, attributions)
    batch, n, explanations = dots.shape
    if dots.numel() == 0:
        return dots
    d = perturbations.shape[2]
    tile = _dots_tile(explanations)
    programs = triton.cdiv(n, tile.rows) * triton.cdiv(explanations, tile.explanations) * batch

    def launch(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _dots_kernel[(programs * slots,)](
            perturbations,
            attributions,
            out,
            d,
            n,
            explanations,
            batch,
            first_slot,
            tiles_per_slot,
            *(perturbations.stride(axis) for axis in range(3)),
            *(attributions.stride(axis) for axis in range(3)),
            ROWS=tile.rows,
            EXPLANATIONS=tile.explanations,
            COLUMNS=tile.columns,
            num_warps=4,
        )

    with torch.cuda.device_of(perturbations):
        _over_slots(launch, dots, triton.cdiv(d, tile.columns))
    return dots


def perturbation_gradient(
    perturbations: torch.Tensor,
    attributions: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the gradient of infidelity, and infidelity; see `hessx.ops.perturbation_gradient`."""
    gradient, loss = rules.perturbation_gradient_fake(
        perturbations, attributions, differences, weights
    )
    if loss.numel() == 0:
        return gradient, loss
    dots = _dots(perturbations, rules.attributions_together(perturbations, attributions))
    differences = rules.dots_together(perturbations, differences).contiguous()
    weights = None if weights is None else weights.contiguous()
    with torch.cuda.device_of(perturbations):
        residuals = _residuals(dots, differences, weights, loss)
        _moment(perturbations, residuals, gradient)
    return gradient, loss


def _residuals(
    dots: torch.Tensor,
    differences: torch.Tensor,
    weights: torch.Tensor | None,
    loss: torch.Tensor,
) -> torch.Tensor:
    residuals = torch.empty_like(dots)
    batch, n, explanations = dots.shape
    at_once = _explanations_at_once(explanations)
    programs = triton.cdiv(explanations, at_once) * batch

    def launch(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _residuals_kernel[(programs * slots,)](
            dots,
            differences,
            weights,
            residuals,
            out,
            n,
            explanations,
            batch,
            first_slot,
            tiles_per_slot,
            ROWS=_RESIDUAL_ROWS,
            EXPLANATIONS=at_once,
            num_warps=4,
            # Left to itself, the assembler spills a few bytes to be there more often.
            maxnreg=64,
        )

    _over_slots(launch, loss, triton.cdiv(n, _RESIDUAL_ROWS))
    return residuals


def _moment(perturbations: torch.Tensor, residuals: torch.Tensor, gradient: torch.Tensor) -> None:
    batch, n, explanations = residuals.shape
    d = perturbations.shape[2]
    if d == 0:
        return
    tile = _moment_tile(explanations)
    programs = triton.cdiv(d, tile.columns) * triton.cdiv(explanations, tile.explanations) * batch

    def launch(out: torch.Tensor, first_slot: int, slots: int, tiles_per_slot: int) -> None:
        _moment_kernel[(programs * slots,)](
            perturbations,
            residuals,
            out,
            d,
            n,
            explanations,
            batch,
            first_slot,
            tiles_per_slot,
            *(perturbations.stride(axis) for axis in range(3)),
            ROWS=tile.rows,
            EXPLANATIONS=tile.explanations,
            COLUMNS=tile.columns,
            num_warps=4,
        )

    _over_slots(launch, gradient, triton.cdiv(n, tile.rows))
