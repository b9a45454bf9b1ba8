"""The cells of a picture and the order in which maps rank them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.run import check_int


@dataclass(frozen=True, eq=False)
class Cells:
    """K rankings of the cells of B pictures.

    Attributes:
        rank: ``(K, B, n)`` int32: place of a cell, 0 the most important; n of them in row-major
            order.
        of_pixel: ``(pixels,)``: which cell each pixel belongs to.
        spatial: Sizes of a picture without channels.
        n_channels: The number of channels, or None where pictures have none.
    """

    rank: Tensor
    of_pixel: Tensor
    spatial: torch.Size
    n_channels: int | None

    @property
    def number(self) -> int:
        """The number of cells."""
        return self.rank.shape[-1]

    def masked(self, k: Tensor, row: Tensor, count: Tensor) -> Tensor:
        """Return which pixels the ``count (N,)`` most important cells hold: ``(N, [1,] H, W)``."""
        cells = self.rank[k, row] < count[:, None]
        pixels = cells[:, self.of_pixel].reshape(len(k), *self.spatial)
        return pixels if self.n_channels is None else pixels.unsqueeze(1)


def cells_of(
    attributions: Any, inputs: Tensor, grid: Sequence[int] | None, *, signed: bool
) -> Cells:
    """Rank the cells of each input by the maps.

    Args:
        attributions: See `deletion_curve`.
        inputs: ``(B, *shape)``.
        grid: Sizes of the cells' grid, or None for the maps' own.
        signed: Rank by the sum over channels instead of the sum of magnitudes.

    Raises:
        TypeError: If ``attributions`` is no floating-point tensor or ``grid`` not of integers.
        ValueError: If they do not fit the inputs.
    """
    has_channels = inputs.dim() > 3
    spatial = inputs.shape[2 if has_channels else 1 :]
    maps = _checked_maps(attributions, inputs, has_channels, spatial)
    own = maps.shape[3:]
    sizes = own if grid is None else _checked_grid(grid, spatial)
    pixels = maps.double() if signed else maps.double().abs()
    importance = pixels.sum(2).flatten(2)
    of_pixel = _cell_of_pixel(spatial, sizes).to(inputs.device)
    if sizes != own:
        from_map = _cell_of_pixel(spatial, own).to(inputs.device)
        sums = importance.new_zeros(*importance.shape[:2], sizes.numel())
        sums.index_add_(2, of_pixel, importance[:, :, from_map])
        importance = sums / torch.bincount(of_pixel, minlength=sizes.numel())
    order = importance.sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(sizes.numel(), dtype=torch.int32, device=inputs.device)
    rank = torch.empty(order.shape, dtype=torch.int32, device=inputs.device)
    rank.scatter_(2, order, places.expand(order.shape))
    return Cells(rank, of_pixel, spatial, inputs.shape[1] if has_channels else None)


def _cell_of_pixel(spatial: torch.Size, sizes: torch.Size) -> Tensor:
    """Return the number of the cell that holds each pixel, both in row-major order."""
    cell = torch.zeros(1, dtype=torch.long, device="cpu")
    for pixels, cells in zip(spatial, sizes, strict=True):
        along = torch.arange(pixels, device="cpu") * cells // pixels
        cell = (cell[:, None] * cells + along).flatten()
    return cell


def _checked_maps(
    attributions: Any, inputs: Tensor, has_channels: bool, spatial: torch.Size
) -> Tensor:
    """Return the maps as ``(K, B, C', *cells)``."""
    if not isinstance(attributions, Tensor) or not attributions.is_floating_point():
        kind = (
            attributions.dtype if isinstance(attributions, Tensor) else type(attributions).__name__
        )
        raise TypeError(f"attributions must be a floating-point tensor, got {kind}")
    if attributions.device != inputs.device:
        raise ValueError(
            f"attributions must be on {inputs.device} like the inputs, got {attributions.device}"
        )
    n_cells = len(spatial)
    extra = attributions.dim() - n_cells
    expected = (
        "(B, C', h, w), (B, h, w) or (K, B, C', h, w)"
        if has_channels
        else ("(B, h, w) or (K, B, h, w)" if n_cells == 2 else "(B, d) or (K, B, d)")
    )
    maps = attributions.detach()
    if extra == 1:
        maps = maps[None].unsqueeze(2)
    elif extra == 2:
        maps = maps[None] if has_channels else maps.unsqueeze(2)
    fits = extra in (1, 2, 3) if has_channels else extra in (1, 2)
    if (
        not fits
        or maps.numel() == 0
        or maps.shape[1] != len(inputs)
        or any(map(int.__gt__, maps.shape[3:], spatial))
    ):
        raise ValueError(
            f"attributions must be {expected} for the inputs {tuple(inputs.shape)} and no finer "
            f"than them, got {tuple(attributions.shape)}"
        )
    if not maps.isfinite().all():
        raise ValueError("attributions must be finite")
    return maps


def _checked_grid(grid: Any, spatial: torch.Size) -> torch.Size:
    if isinstance(grid, (str, int)) or not isinstance(grid, Sequence):
        raise TypeError(f"grid must be {len(spatial)} integers, got {grid!r}")
    if len(grid) != len(spatial):
        raise ValueError(f"grid must be {len(spatial)} integers, got {tuple(grid)}")
    for size, pixels in zip(grid, spatial, strict=True):
        check_int("grid", size, 1, pixels)
    return torch.Size(grid)
