"""What LEG and LEG-TV begin with: their arguments, checked, and the regression on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessx import covariance as covariances
from hessx.explain.regression import Regression
from hessx.features import FeatureMap, Features, Identity
from hessx.perturb import Covariates, GridTVCovariates, NormalDraws, RootCovariates
from hessx.query import BlackBoxQuery
from hessx.run import Run, accumulation_dtype, check_inputs, check_int, check_kind, checked_range

# Draws are added in blocks of so many, fewer where a draw is long, whatever the batch sizes: sums
# are rounded in the same places.
_BLOCK = 256
_NUMBERS_IN_BLOCK = 2**24


class LinearModel:
    """The best linear model of a function around each input, with the arguments of `leg`.

    Attributes:
        inputs: As a tensor.
        features: The map from features to inputs.
        covariance: As given, or the default.
        centre: The inputs, clipped.
        law: The displacements and their covariates.
    """

    def __init__(
        self,
        inputs: Any,
        sigma: float | Tensor,
        covariance: covariances.Covariance | None,
        features: Features | None,
        n_samples: int,
        centred: bool,
        antithetic: bool,
        clip: Any,
        run: Run,
    ):
        self.inputs = as_tensor(inputs)
        check_inputs(self.inputs)
        check_kind("covariance", covariance, covariances.Covariance)
        check_kind("features", features, Features)
        for name, value in (("centred", centred), ("antithetic", antithetic)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
        # Two draws at least: a single one has no spread.
        check_int("n_samples", n_samples, 4 if antithetic else 2)
        if antithetic and n_samples % 2:
            raise ValueError(f"n_samples must be even with antithetic=True, got {n_samples}")
        self._clip = checked_range("clip", clip)
        self._signs = (1.0, -1.0) if antithetic else (1.0,)
        self._n_draws = n_samples // len(self._signs)
        # The odd part of f has mean 0: it has nothing to centre.
        self._centred = centred and not antithetic
        self._run = run
        self.features = (features or Identity()).bind(self.inputs.shape[1:])
        number, scale = covariances.check_sigma(sigma, self.features.n_features)
        self.covariance = covariance or default_covariance(self.features, sigma)
        self.law = self._law(number, scale)
        # f is explained as it is behind the clipping.
        self.centre = self._clipped(self.inputs)

    def fit(self, query: BlackBoxQuery) -> tuple[Tensor, Tensor]:
        """Return the slopes and their standard errors, ``(T, B, k)`` each, float64."""
        n_rows, n_targets = query.value.shape
        k = self.features.n_features
        block = max(1, min(_BLOCK, _NUMBERS_IN_BLOCK // k))
        # Displacements, covariates, their squares and one copy are shared by all rows.
        shared = 4 * block * k * accumulation_dtype(self.inputs).itemsize
        sums = 8 * n_targets * k * 8
        rows_at_once = self._run.rows_in_memory(
            sums, self.inputs.device, f"{k} features", shared_bytes=shared
        )
        parts = []
        with self._run.progress(n_rows * self._n_draws * len(self._signs), "leg", "call") as bar:
            for start in range(0, n_rows, rows_at_once):
                rows = torch.arange(
                    start, min(start + rows_at_once, n_rows), device=self.inputs.device
                )
                found = torch.stack(self._fit_rows(query, rows, block, bar))
                parts.append(found.unflatten(1, (len(rows), n_targets)))
        slopes, stderr = torch.cat(parts, 1).transpose(1, 2).contiguous()
        return slopes, stderr

    def _fit_rows(
        self, query: BlackBoxQuery, rows: Tensor, block: int, bar: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the slopes and their standard errors of some rows, ``(rows T, k)`` each."""
        n_responses = len(rows) * query.value.shape[1]
        sums = Regression(self.features.n_features, n_responses, self.inputs.device)
        for first in range(0, self._n_draws, block):
            t, w = self.law.draw(first, min(block, self._n_draws - first))
            y = self._responses(query, rows, t, bar).flatten(1)
            if first == 0:
                # Responses keep their digits when they lose what they have in common; the slopes
                # of the centred form do not change.
                common = y.mean(0) if self._centred else torch.zeros_like(y[0])
                scale = _power_of_two((y - common).abs().amax(0))
            sums.add(w, ((y - common) / scale).to(w))
        unit = (scale / self.law.sigma)[:, None]
        slopes, stderr = sums.slopes(self._centred)
        return slopes * unit, stderr * unit

    def _law(self, sigma: float, scale: Tensor | None) -> Covariates:
        dtype, device, grid = (
            accumulation_dtype(self.inputs),
            self.inputs.device,
            self.features.grid,
        )
        root = self.covariance.root(self.features.n_features, scale, grid)
        if isinstance(self.covariance, covariances.GridTV):
            assert grid is not None
            return GridTVCovariates(grid, sigma, self._run.seed, dtype, device)
        draws = NormalDraws(root.rank, self._run.seed, "iid", dtype, device)
        return RootCovariates(root, sigma, draws)

    def _responses(self, query: BlackBoxQuery, rows: Tensor, t: Tensor, bar: Any) -> Tensor:
        """Return f less f(x0), or its odd part, ``(count, rows, T)`` float64."""
        answers = []
        for sign in self._signs:

            def points(part: slice, sign: float = sign) -> Callable[[Tensor], Tensor]:
                moved = sign * self.features.lift(t[part])[:, None]
                return lambda some: self._clipped(self.inputs[some] + moved).to(self.inputs.dtype)

            answers.append(query.values_at_draws(points, len(t), rows, bar))
        if len(answers) == 2:
            return (answers[0] - answers[1]) / 2
        return answers[0] - query.value[rows].double()

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self._clip is None else x.clamp(*self._clip)


def as_tensor(inputs: Any) -> Any:
    """Return NumPy arrays as tensors, anything else as it is."""
    return (
        torch.from_numpy(np.array(inputs, order="C")) if isinstance(inputs, np.ndarray) else inputs
    )


def default_covariance(features: FeatureMap, sigma: float | Tensor) -> covariances.Covariance:
    """Return GridTV where the features lie on a grid and share one sigma, else Identity."""
    _, scale = covariances.check_sigma(sigma, features.n_features)
    if features.grid is None or scale is not None:
        return covariances.Identity()
    return covariances.GridTV()


def _power_of_two(largest: Tensor) -> Tensor:
    """Return powers of two that numbers up to ``largest`` are of the order of 1 in; 1 for 0."""
    exponent = torch.frexp(largest).exponent
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), 1.0)
