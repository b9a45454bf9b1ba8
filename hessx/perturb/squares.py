"""Squares of pixels to remove, all of them listed or drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.perturb.masks import BoundMasks, Masks, Removal
from hessx.run import check_int

_SQUARES = 202


@dataclass(frozen=True)
class Square(Masks):
    """Squares of pixels, replaced by the baseline: ``I = z (x - baseline)``.

    Each square of the given sides at each position inside the picture is equally likely:
    ``N = sum_s (p1 - s + 1)(p2 - s + 1)`` of them, 5,605 for sides 1 to 10 on 28 x 28. All are
    listed (``n_samples=None``) or drawn. Sets without a shape are :class:`Subsets` and
    :class:`Shap`.

    Args:
        sides: In cells of the grid of features, each at most its rows and columns, kept in
            increasing order. The paper takes 1 to 10 for MNIST, 1 to 15 for CIFAR-10, and 10 to 30
            for ImageNet with superpixels.
        features: The pixels: a grid that the channels share. None takes every pixel;
            ``hessx.Grid((112, 112))`` on 224 x 224 gives 2 x 2 superpixels.
        multiplied: True: an explanation is multiplied by z, as suits those that already hold the
            input (gradient times input, Shapley values). False: by I.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If ``sides`` is empty, holds a number twice or one below 1.

    Source:
        On the (In)fidelity and Sensitivity of Explanations, appendices B.1 and B.2.

    Example:
        >>> import torch, hessx
        >>> square = hessx.perturb.Square(sides=[2])
        >>> z, perturbed = square(torch.ones(1, 3, 4, 4))
        >>> z.sum().item(), perturbed.sum().item()
        (12.0, 36.0)
    """

    sides: Sequence[int] = range(1, 11)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sides, str) or not isinstance(self.sides, Sequence):
            raise TypeError(f"sides must be a list or range of integers, got {self.sides!r}")
        for side in self.sides:
            check_int("sides", side, 1)
        sides = tuple(sorted(self.sides))
        if not sides or len(set(sides)) < len(sides):
            raise ValueError(f"sides must be different integers, at least one, got {sides}")
        object.__setattr__(self, "sides", sides)

    def _bound(self, removal: Removal, seed: int) -> BoundSquares:
        return BoundSquares(removal, seed, list(self.sides))


class BoundSquares(BoundMasks):
    """The squares of given sides at all positions on a grid, in the order of `ops.box_sums`.

    Args:
        removal: As for `BoundMasks`.
        seed: As for `BoundMasks`.
        sides: In cells.

    Attributes:
        grid: ``(p1, p2)``.
        sides: As given.

    Raises:
        ValueError: If the features are not one grid, or a side is larger than it.
    """

    def __init__(self, removal: Removal, seed: int, sides: list[int]):
        super().__init__(removal, seed)
        grid = self.features.grid
        if grid is None or grid[0] != 1:
            raise ValueError(
                "features must lie on one grid for squares, shared by the channels: Grid((p1, p2)) "
                f"for pictures (C, H, W), got inputs of shape {tuple(self.features.shape)} with "
                f"{self.n_coordinates} features"
            )
        _, p1, p2 = grid
        if max(sides) > min(p1, p2):
            raise ValueError(
                f"sides must fit into the grid {(p1, p2)}, got {max(sides)} > {min(p1, p2)}"
            )
        self.grid = p1, p2
        self.sides = sides
        counts = [(p1 - s + 1) * (p2 - s + 1) for s in sides]
        device = self.inputs.device
        self._ends = torch.tensor(counts, device=device).cumsum(0)
        self._side = torch.tensor(sides, device=device)
        self.size = sum(counts)

    def draw(self, first: int, count: int) -> Tensor:
        """See :meth:`BoundPerturbation.draw`."""
        return self._squares(self.numbers(first, count))

    def enumerated(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See :meth:`BoundPerturbation.enumerated`."""
        assert self.size is not None
        number = torch.arange(first, first + count, device=self.inputs.device)
        weights = torch.full((count,), 1 / self.size, dtype=torch.float64, device=number.device)
        return self._squares(number), weights

    def numbers(self, first: int, count: int) -> Tensor:
        """Return which squares of the list the numbered draws are, ``(count,)``."""
        assert self.size is not None
        number = ops.uniform(
            count,
            1,
            seed=self._seed,
            first_sample=first,
            stream=_SQUARES,
            dtype=torch.float64,
            device=self.inputs.device,
        )
        return (number[:, 0] * self.size).long()

    def all_dots(self, w: Tensor) -> Tensor:
        """See :meth:`BoundPerturbation.all_dots`: sums of pictures over squares."""
        return ops.box_sums(w.double().unflatten(1, self.grid), self.sides)

    def _squares(self, number: Tensor) -> Tensor:
        """Return the squares ``(n, k)`` of these numbers in the list."""
        p1, p2 = self.grid
        kind = torch.searchsorted(self._ends, number, right=True)
        side = self._side[kind]
        columns = p2 - side + 1
        position = number - (self._ends[kind] - (p1 - side + 1) * columns)
        top, left = position // columns, position % columns
        inside = [
            (at >= start[:, None]) & (at < (start + side)[:, None])
            for start, at in (
                (top, torch.arange(p1, device=number.device)),
                (left, torch.arange(p2, device=number.device)),
            )
        ]
        u = inside[0][:, :, None] & inside[1][:, None, :]
        return u.flatten(1).to(self._zeros(0))
