"""What LEG and LEG-TV begin with: their arguments, checked, and the regression on values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessx import covariance as covariances
from hessx.explain.regression import Regression
from hessx.features import FeatureMap, Features, Identity
from hessx.perturb import Covariates, GridTVCovariates, NormalDraws, RootCovariates
from hessx.query import BlackBoxQuery
from hessx.run import Run, accumulation_dtype, check_inputs, check_int, check_kind

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
        self.inputs = torch.as_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs
        check_inputs(self.inputs)
        check_kind("covariance", covariance, covariances.Covariance)
        check_kind("features", features, Features)
        for name, value in (("centred", centred), ("antithetic", antithetic)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
        check_int("n_samples", n_samples, 2)
        if antithetic and n_samples % 2:
            raise ValueError(f"n_samples must be even with antithetic=True, got {n_samples}")
        self._clip = _checked_clip(clip)
        self._signs = (1.0, -1.0) if antithetic else (1.0,)
        self._n_draws = n_samples // len(self._signs)
        # The odd part of f has mean 0: it has nothing to centre.
        self._centred = centred and not antithetic
        self._run = run
        self.features = (features or Identity()).bind(self.inputs.shape[1:])
        number, scale = covariances.check_sigma(sigma, self.features.n_features)
        self.covariance = covariance or default_covariance(self.features, sigma)
        self.law = self._law(number, scale)

    def fit(self, query: BlackBoxQuery) -> tuple[Tensor, Tensor]:
        """Return the slopes and their standard errors, ``(T, B, k)`` each, float64."""
        n_rows, n_targets = query.value.shape
        k = self.features.n_features
        block = max(1, min(_BLOCK, _NUMBERS_IN_BLOCK // k))
        # Displacements, covariates, their squares and one copy; the sums and what is made of them.
        row = 4 * block * k * accumulation_dtype(self.inputs).itemsize + 8 * n_targets * k * 8
        rows_at_once = self._run.rows_in_memory(row, self.inputs.device, f"{k} features")
        parts = []
        with self._run.progress(n_rows * self._n_draws * len(self._signs), "leg", "call") as bar:
            for start in range(0, n_rows, rows_at_once):
                rows = torch.arange(
                    start, min(start + rows_at_once, n_rows), device=self.inputs.device
                )
                sums = Regression(k, len(rows) * n_targets, self.inputs.device)
                for first in range(0, self._n_draws, block):
                    count = min(block, self._n_draws - first)
                    t, w = self.law.draw(first, count)
                    sums.add(w, self._responses(query, rows, t, bar).flatten(1))
                slopes, stderr = sums.slopes(self._centred)
                parts.append(torch.stack([slopes, stderr]).unflatten(1, (len(rows), n_targets)))
        slopes, stderr = torch.cat(parts, 1).transpose(1, 2).contiguous()
        return slopes, stderr

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
        """Return f less f(x0), or its odd part, ``(count, rows, T)``."""
        y = t.new_empty(len(t), len(rows), query.value.shape[1])
        draws_at_once = min(len(t), query.examples_per_batch)
        rows_at_once = max(1, query.examples_per_batch // draws_at_once)
        for d in range(0, len(t), draws_at_once):
            displacement = self.features.lift(t[d : d + draws_at_once])
            for r in range(0, len(rows), rows_at_once):
                part = rows[r : r + rows_at_once]
                answers = [self._ask(query, part, s * displacement, bar) for s in self._signs]
                if len(answers) == 2:
                    change = (answers[0] - answers[1]) / 2
                else:
                    change = answers[0] - query.value[part].double()
                y[d : d + draws_at_once, r : r + rows_at_once] = change
        return y

    def _ask(self, query: BlackBoxQuery, rows: Tensor, displacement: Tensor, bar: Any) -> Tensor:
        x = self.inputs[rows] + displacement[:, None]
        if self._clip is not None:
            x = x.clamp(*self._clip)
        owner = rows.repeat(len(displacement))
        values = query.values(x.to(self.inputs.dtype).flatten(0, 1), owner)
        bar.update(len(values))
        return values.double().unflatten(0, (len(displacement), len(rows)))


def default_covariance(features: FeatureMap, sigma: float | Tensor) -> covariances.Covariance:
    """Return GridTV where the features lie on a grid and share one sigma, else Identity."""
    if features.grid is None or torch.as_tensor(sigma).dim() > 0:
        return covariances.Identity()
    return covariances.GridTV()


def _checked_clip(clip: Any) -> tuple[float, float] | None:
    if clip is None:
        return None
    try:
        low, high = (float(bound) for bound in clip)
    except (TypeError, ValueError) as error:
        raise TypeError(f"clip must be a pair of numbers, got {clip!r}") from error
    if not low < high:
        raise ValueError(f"clip must be (low, high), low < high, got {clip}")
    return low, high
