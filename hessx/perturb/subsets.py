"""Sets of features to remove, drawn by probability or by size."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from hessx import ops
from hessx.perturb.masks import BoundMasks, Masks, Removal
from hessx.run import check_int

_MEMBERS, _SIZES = 203, 204
# Laws that are listed have at most this many sets: all subsets of 16 features.
_MOST_FEATURES_LISTED = 16
_MOST_SETS_LISTED = 2**_MOST_FEATURES_LISTED


@dataclass(frozen=True)
class Subsets(Masks):
    """Random sets of features, replaced by the baseline: ``I = z (x - baseline)``.

    Each feature is removed with a probability of its own, or a uniformly drawn set of a given size.
    ``size=1`` is occlusion, ``size`` of all features the difference to the baseline. Connected sets
    are :class:`Square`; all sizes with the weights that give Shapley values :class:`Shap`. Sets are
    listed (``n_samples=None``) where there are at most 65,536.

    Args:
        probability: Of each feature, in (0, 1); .5 unless ``size`` is given.
        size: Features in a set, at least 1, at most all.
        features: Groups of input numbers that are removed together: ``Identity()``,
            ``Grid((p1, p2))`` or ``Segments(labels)``. None takes every pixel with all its channels
            for inputs (C, H, W), every number for others.
        multiplied: True: an explanation is multiplied by z, as suits those that already hold the
            input (gradient times input, Shapley values). False: by I.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If one is out of range, or both ``probability`` and ``size`` are given.

    Source:
        On the (In)fidelity and Sensitivity of Explanations, Proposition 2.4 (size 1).

    Example:
        >>> import torch, hessx
        >>> z, perturbed = hessx.perturb.Subsets(size=2)(torch.ones(3, 5))
        >>> z.sum(1), perturbed.sum(1)
        (tensor([2., 2., 2.]), tensor([3., 3., 3.]))
    """

    probability: float | None = None
    _: KW_ONLY
    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            if self.probability is not None:
                raise ValueError(
                    "probability and size exclude each other, got "
                    f"probability={self.probability} and size={self.size}"
                )
            check_int("size", self.size, 1)
        elif self.probability is None:
            object.__setattr__(self, "probability", 0.5)
        elif isinstance(self.probability, bool) or not isinstance(self.probability, (int, float)):
            raise TypeError(f"probability must be a number, got {self.probability!r}")
        elif not 0 < self.probability < 1:
            raise ValueError(f"probability must be in (0, 1), got {self.probability}")

    def _bound(self, removal: Removal, seed: int) -> BoundMasks:
        if self.size is not None:
            return _SetsOfOneSize(removal, seed, self.size)
        assert self.probability is not None
        return _IndependentFeatures(removal, seed, self.probability)


@dataclass(frozen=True)
class Shap(Masks):
    """Coalitions of the Shapley kernel, replaced by the baseline: ``I = z (x - baseline)``.

    A size s from 1 to M - 1 with weight ``1 / (s (M - s))``, M the number of features, then a
    uniform set of that size: the kernel ``1 / (C(M, s) s (M - s))`` itself, where drawing sets by
    coin flips (:class:`Subsets`) and weighting them leaves few that count. Removing all has
    infinite weight: optimal explanations add up to ``f(x) - f(baseline)``, and are the Shapley
    values. Sets are listed (``n_samples=None``) for up to 16 features.

    Args:
        features: Groups of input numbers that are removed together: ``Identity()``,
            ``Grid((p1, p2))`` or ``Segments(labels)``. None takes every pixel with all its channels
            for inputs (C, H, W), every number for others.
        multiplied: True: an explanation is multiplied by z, as Shapley values are. False: by I.

    Raises:
        TypeError: If an argument is of a wrong type.

    Source:
        On the (In)fidelity and Sensitivity of Explanations, Proposition 2.5, appendix D.4; Lundberg
        and Lee (2017), "A unified approach to interpreting model predictions", theorem 2.

    Example:
        >>> import torch, hessx
        >>> z, _ = hessx.perturb.Shap()(torch.ones(1000, 4))
        >>> sorted(set(z.sum(1).tolist()))
        [1.0, 2.0, 3.0]
    """

    def _bound(self, removal: Removal, seed: int) -> BoundMasks:
        return _Coalitions(removal, seed)


class _Sets(BoundMasks):
    def _uniform(self, first: int, count: int, length: int, stream: int) -> Tensor:
        # float64 has 32 random bits: the ties of 24 would be seen among many features.
        return ops.uniform(
            count,
            length,
            seed=self._seed,
            first_sample=first,
            stream=stream,
            dtype=torch.float64,
            device=self.inputs.device,
        )

    def _uniform_sets(self, first: int, count: int, sizes: Tensor) -> Tensor:
        """Return uniform sets of sizes ``(count, 1)``: the features with the least numbers."""
        k = self.n_coordinates
        order = self._uniform(first, count, k, _MEMBERS).argsort(dim=1, stable=True)
        taken = torch.arange(k, device=order.device) < sizes
        u = self._zeros(count)
        return u.scatter_(1, order, taken.to(u).expand_as(u))

    def _subsets(self, first: int, count: int) -> Tensor:
        """Return the sets whose members are the binary digits of ``first ...``."""
        device = self.inputs.device
        number = torch.arange(first, first + count, device=device)
        digits = number[:, None] >> torch.arange(self.n_coordinates, device=device)
        return (digits & 1).to(self._zeros(0))


class _IndependentFeatures(_Sets):
    def __init__(self, removal: Removal, seed: int, probability: float):
        super().__init__(removal, seed)
        self._probability = probability
        if self.n_coordinates <= _MOST_FEATURES_LISTED:
            self.size = 2**self.n_coordinates

    def draw(self, first: int, count: int) -> Tensor:
        numbers = self._uniform(first, count, self.n_coordinates, _MEMBERS)
        return (numbers < self._probability).to(self._zeros(0))

    def enumerated(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        u = self._subsets(first, count)
        removed = u.double().sum(1)
        kept = self.n_coordinates - removed
        return u, self._probability**removed * (1 - self._probability) ** kept


class _SetsOfOneSize(_Sets):
    def __init__(self, removal: Removal, seed: int, set_size: int):
        super().__init__(removal, seed)
        if set_size > self.n_coordinates:
            raise ValueError(f"size must be at most {self.n_coordinates} features, got {set_size}")
        self._set_size = set_size
        n_sets = math.comb(self.n_coordinates, set_size)
        if n_sets <= _MOST_SETS_LISTED:
            self.size = n_sets

    def draw(self, first: int, count: int) -> Tensor:
        sizes = torch.tensor([[self._set_size]], device=self.inputs.device)
        return self._uniform_sets(first, count, sizes)

    def enumerated(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        assert self.size is not None
        u = self._zeros(count)
        u.scatter_(1, self._members[first : first + count].to(u.device), 1.0)
        return u, torch.full((count,), 1 / self.size, dtype=torch.float64, device=u.device)

    @cached_property
    def _members(self) -> Tensor:
        sets = combinations(range(self.n_coordinates), self._set_size)
        return torch.tensor(list(sets), dtype=torch.long, device="cpu")


class _Coalitions(_Sets):
    completes = True

    def __init__(self, removal: Removal, seed: int):
        super().__init__(removal, seed)
        k = self.n_coordinates
        if k < 2:
            raise ValueError(f"features must be at least 2 for Shap, got {k}")
        sizes = torch.arange(1, k, dtype=torch.float64, device=self.inputs.device)
        weights = 1 / (sizes * (k - sizes))
        self._size_law = weights / weights.sum()
        if k <= _MOST_FEATURES_LISTED:
            # Neither the empty set nor all.
            self.size = 2**k - 2

    def draw(self, first: int, count: int) -> Tensor:
        number = self._uniform(first, count, 1, _SIZES)
        # The last bound is 1 up to rounding, and would be out of reach for a number above it.
        sizes = 1 + torch.searchsorted(self._size_law.cumsum(0)[:-1], number, right=True)
        return self._uniform_sets(first, count, sizes)

    def enumerated(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        k = self.n_coordinates
        u = self._subsets(first + 1, count)
        of_size = [p / math.comb(k, s) for s, p in enumerate(self._size_law.tolist(), start=1)]
        weights = torch.tensor(of_size, dtype=torch.float64, device=u.device)
        return u, weights[u.sum(1).long() - 1]
