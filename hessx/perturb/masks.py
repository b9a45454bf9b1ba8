"""Perturbations that replace groups of input numbers by a baseline: ``I = z (x - baseline)``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from hessx.features import FeatureMap, Features, Grid, Identity
from hessx.perturb.perturbation import BoundPerturbation, Perturbation, baseline_tensor
from hessx.run import accumulation_dtype, check_kind


@dataclass(frozen=True)
class Masks(Perturbation):
    """A law of sets of features to remove: ``z = S u`` with ``u`` in {0, 1}^k.

    Args:
        features: Groups of input numbers that are removed together, or None.
        multiplied: What an explanation is multiplied by: z, or I.
    """

    _: KW_ONLY
    features: Features | None = None
    multiplied: bool = True

    def __post_init__(self) -> None:
        check_kind("features", self.features, Features)
        if not isinstance(self.multiplied, bool):
            raise TypeError(f"multiplied must be True or False, got {self.multiplied!r}")

    def bind(self, inputs: Tensor, baselines: Any, seed: int) -> BoundMasks:
        """See :meth:`Perturbation.bind`."""
        baseline = baseline_tensor(baselines, inputs)
        shape = inputs.shape[1:]
        # A pixel is removed with all its channels.
        default = Grid((shape[1], shape[2])) if len(shape) == 3 else Identity()
        features = (self.features or default).bind(shape)
        _check_groups(features)
        return self._bound(Removal(inputs, baseline, features, self.multiplied), seed)

    @abstractmethod
    def _bound(self, removal: Removal, seed: int) -> BoundMasks:
        """Return the law for features that were bound to inputs.

        Raises:
            ValueError: If it does not apply to them.
        """


class Removal:
    """What removing features does to inputs, and how explanations meet it.

    Args:
        inputs: ``(B, *shape)``.
        baseline: Broadcasts with ``inputs``.
        features: Disjoint groups that cover every number.
        multiplied: See `Masks`.
    """

    def __init__(self, inputs: Tensor, baseline: Tensor, features: FeatureMap, multiplied: bool):
        self.inputs = inputs
        self.features = features
        self.multiplied = multiplied
        self._baseline = baseline.expand(inputs.shape)

    def change(self, rows: Tensor) -> Tensor:
        """Return ``x - baseline``, ``(len(rows), *shape)``, in the type that is computed in."""
        dtype = accumulation_dtype(self.inputs)
        return self.inputs[rows].to(dtype) - self._baseline[rows].to(dtype)

    def removed(self, u: Tensor, rows: Tensor) -> Tensor:
        """Return the inputs with the baseline in place of the features of ``u``."""
        z = self.features.lift(u) > 0
        return torch.where(z, self._baseline[rows], self.inputs[rows])


class BoundMasks(BoundPerturbation):
    """Sets of features to remove.

    Args:
        removal: What removing them does.
        seed: Key of the draws.
    """

    binary = True

    def __init__(self, removal: Removal, seed: int):
        super().__init__(removal.inputs)
        self.features = removal.features
        self.n_coordinates = self.features.n_features
        self._removal = removal
        self._seed = seed

    @property
    def coordinate_shape(self) -> torch.Size:
        """See :attr:`BoundPerturbation.coordinate_shape`."""
        return self.features.feature_shape

    def perturbations(self, u: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`BoundPerturbation.perturbations`."""
        z = self.features.lift(u)
        if self._removal.multiplied:
            return z.expand(-1, len(rows), *self.features.shape)
        return z * self._removal.change(rows)

    def perturbed(self, u: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`BoundPerturbation.perturbed`."""
        return self._removal.removed(u, rows)

    def project(self, attributions: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`BoundPerturbation.project`."""
        if self._removal.multiplied:
            return self.features.pull(attributions)
        return self.features.pull(attributions * self._removal.change(rows).to(attributions))

    def lift(self, w: Tensor, rows: Tensor) -> Tensor:
        """See :meth:`BoundPerturbation.lift`."""
        if self._removal.multiplied:
            return self.features.lift_minimal(w)
        # With D = diag(x - baseline) it is D S (S^T D^2 S)^+ w; the groups of S are disjoint.
        change = self._removal.change(rows).to(w)
        energy = self.features.pull(change.square())
        return change * self.features.lift(torch.where(energy > 0, w / energy, 0.0))

    def reachable(self, rows: Tensor) -> Tensor | None:
        """See :meth:`BoundPerturbation.reachable`: features that removing changes."""
        if self._removal.multiplied:
            return None
        return self.features.pull((self._removal.change(rows) != 0).double()) > 0

    def _zeros(self, count: int) -> Tensor:
        dtype = accumulation_dtype(self.inputs)
        return self.inputs.new_zeros(count, self.n_coordinates, dtype=dtype)


def _check_groups(features: FeatureMap) -> None:
    """Raise ValueError unless every input number is in exactly one feature."""
    ones = torch.ones(features.n_features, dtype=torch.float64, device="cpu")
    if features.gram().dim() != 1 or (features.lift(ones) != 1).any():
        raise ValueError(
            "features must be groups of input numbers to remove: Identity(), Grid(...) with "
            'mode="nearest" or Segments(...)'
        )
