"""LEG: the linearly estimated gradient of a black box."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hessx import covariance as covariances
from hessx.explain.linear_model import LinearModel
from hessx.features import FeatureMap, Features
from hessx.query import BlackBoxQuery, Targets
from hessx.run import Run, accumulation_dtype


@dataclass(frozen=True, eq=False, repr=False)
class Leg:
    """The linearly estimated gradient of each input, with standard errors.

    With :class:`hessx.Targets` every field with a B has a leading T.

    Attributes:
        gamma: ``(B, *features)``; features are shown in the input's shape, as ``(C, p1, p2)`` or
            ``(p1, p2)`` for a `Grid`, else as ``(k,)``. It has the sign of the gradient.
        stderr: Like ``gamma``: the standard error of each entry.
        value: ``(B,)``, f(x0), clipped if there is a range.
        identified: ``(*features)`` bool; False for features that the perturbation does not reach:
            their gamma is 0 and means nothing.
        sigma: As given.
        covariance: As given, or the default.
        features: The map from features to inputs.
        n_samples: Evaluations of f at perturbed inputs, for each input.
        n_evaluations: All examples that f was asked for.
        seconds: Wall clock of the whole call.
        model_seconds: Of it, the host's time inside the model.
    """

    gamma: Tensor
    stderr: Tensor
    value: Tensor
    identified: Tensor
    sigma: float | Tensor
    covariance: covariances.Covariance
    features: FeatureMap
    n_samples: int
    n_evaluations: int
    seconds: float
    model_seconds: float

    @property
    def clear_share(self) -> float:
        """The share of entries of gamma more than two standard errors from 0; 5 % by chance."""
        return (self.gamma.abs() > 2 * self.stderr).double().mean().item()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(gamma={tuple(self.gamma.shape)}, "
            f"n_samples={self.n_samples}, {self.clear_share:.0%} of the entries beyond 2 stderr)"
        )

    def _repr_html_(self) -> str:
        return (
            f"<p>LEG, gamma {tuple(self.gamma.shape)}, {self.n_samples} samples, "
            f"{self.clear_share:.0%} of the entries beyond 2 standard errors</p>"
        )


def leg(
    forward_func: Callable[..., Any],
    inputs: Tensor | np.ndarray,
    target: Any = None,
    *,
    sigma: float | Tensor = 0.1**0.5,
    covariance: covariances.Covariance | None = None,
    features: Features | None = None,
    n_samples: int = 3000,
    centred: bool = True,
    antithetic: bool = False,
    clip: tuple[float, float] | None = None,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> Leg:
    """Estimate the best linear model of ``f`` around each input, from values alone.

    ``gamma = argmin_g E[(f(x0 + z) - f(x0) - g^T z)^2] = Sigma^-1 E[(f(x0 + z) - f(x0)) z]`` with
    ``z ~ N(0, Sigma)``, ``Sigma = sigma^2`` times the covariance. By Stein's lemma that is the mean
    gradient ``E[grad f(x0 + z)]``, here for functions without one.

    Args:
        forward_func: Any function from ``(N, *shape)`` to ``(N,)`` or ``(N, c)``; no gradient is
            needed, and NumPy arrays may be returned.
        inputs: ``(B, *shape)``, finite. float32 or float64 (then everything is float64); half
            types are queried in their own type and accumulated in float32. For a NumPy array
            ``forward_func`` is called with NumPy arrays.
        target: Which output: in Captum's convention, an int, a tensor or list of B ints, a tuple
            for outputs of several dimensions or a list of B tuples; None for a single output.
            ``hessx.Contrast(a, b)`` explains ``f_a - f_b``, ``hessx.Targets([...])`` several of
            these from the same calls.
        sigma: Standard deviation in the units of ``inputs``: a number > 0, or one per feature
            ``(k,)``, >= 0 and not all 0 (not with GridTV). The paper takes sigma^2 from .05 to .3
            for inputs in [0, 1].
        covariance: Of the features, up to ``sigma^2``. ``hessx.covariance.GridTV()`` where the
            features lie on a grid, else ``Identity()``, unless given; ``Diagonal``, ``Factor``.
        features: What is perturbed and explained, ``x = x0 + S t``: ``Identity()`` (default),
            ``Grid``, ``Segments`` or ``Basis``.
        n_samples: Evaluations at perturbed inputs, for each input; all inputs share their noise.
        centred: Subtract the mean of ``f(x0 + z)`` in place of ``f(x0)``, which is Eq. (3): the
            same estimand, with the variance that ``E f(x0 + z) - f(x0)`` brings taken out.
        antithetic: Evaluate ``x0 + z`` and ``x0 - z``, half as many draws (``n_samples`` even, at
            least 4): the part of f that is even around x0 cancels, and with it what centring would
            remove.
        clip: ``(low, high)``: perturbed inputs are clipped to this range; gamma then belongs to
            ``x -> f(clip(x))``.
        seed: Key of the noise.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        A :class:`Leg`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, inputs or outputs are not
            finite, or ``memory_limit`` is too small.

    Source:
        Statistically Consistent Saliency Estimation, Lemma 1, Eqs. (1) and (3), section 4.2.
        (Definition 1 is printed with the opposite sign.)

    Example:
        >>> import torch, hessx
        >>> f = lambda x: (x[:, 0, :2] - x[:, 1, :2]).sum(1)
        >>> result = hessx.leg(f, torch.zeros(1, 2, 3), n_samples=20000)
        >>> result.gamma[0].round(decimals=1).abs()
        tensor([[1., 1., 0.],
                [1., 1., 0.]])
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    model = LinearModel(
        inputs, sigma, covariance, features, n_samples, centred, antithetic, clip, run
    )
    with run.own_arithmetic(model.inputs.device):
        arrays = isinstance(inputs, np.ndarray)
        query = BlackBoxQuery(forward_func, model.centre, target, run, arrays=arrays)
        several = isinstance(target, Targets)
        dtype = accumulation_dtype(model.inputs)

        def shown(values: Tensor) -> Tensor:
            return (values if several else values[0]).to(dtype)

        shape = model.features.feature_shape
        slopes, stderr = model.fit(query)
        for found in (slopes, stderr):
            if not found.to(dtype).isfinite().all():
                raise ValueError(
                    f"gamma must fit {dtype}, got {found.abs().max().item():.3g}: forward_func "
                    "returns too large values, or sigma is too small"
                )
        return Leg(
            gamma=shown(slopes.unflatten(-1, shape)),
            stderr=shown(stderr.unflatten(-1, shape)),
            value=shown(query.value.mT),
            identified=model.law.root.identified.reshape(shape),
            sigma=sigma,
            covariance=model.covariance,
            features=model.features,
            n_samples=n_samples,
            n_evaluations=query.n_examples,
            seconds=time.perf_counter() - started,
            model_seconds=query.seconds,
        )
