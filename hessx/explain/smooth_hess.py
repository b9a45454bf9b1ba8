"""SmoothHess: the Hessian of a network convolved with a Gaussian, from gradients alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hessx import covariance as covariances
from hessx.explain.sampling import (
    Part,
    Sampler,
    estimate_rows,
    rows_in_memory,
    sample_counts,
)
from hessx.features import Features, Identity
from hessx.operators import SymmetricOperator
from hessx.perturb import SAMPLINGS, FeatureNoise, InputNoise, Noise, NormalDraws
from hessx.query import GradientQuery
from hessx.run import (
    Run,
    accumulation_dtype,
    check_choice,
    check_inputs,
    check_int,
    check_kind,
)
from hessx.solve.symmetrize import ESTIMATORS


@dataclass(frozen=True, eq=False, repr=False)
class SmoothHess(SymmetricOperator):
    """SmoothHess of a batch of inputs, in feature units, factored.

    Row ``i`` as a single operator is ``result[i]``. With fewer samples than features (and ``gls``)
    nothing of size ``k x k`` exists until :meth:`to_dense` is called. A ``relative_error`` of nan
    means that all gradients were equal: no kink was seen, and H is 0.

    Attributes:
        value: ``(B,)``, ``f(x0)``.
        gradient: ``(B, *shape)``, SmoothGrad from the same queries.
        feature_gradient: ``(B, k)``, SmoothGrad in features, ``S^T`` of :attr:`gradient`.
        n_samples: ``(B,)``, gradients used for each row.
        converged: ``(B,)``, whether ``rtol`` was reached (never by an error of nan); all True when
            none was asked for.
        identified: ``(k,)``, False for features that the perturbation does not reach: their
            entries of H are 0 and mean nothing.
        estimand: ``"features"``: H of ``f * N(0, sigma^2 S Sigma S^T)`` along S; ``"input"``: the
            sums over features, ``S^T H S``, of the input Hessian of ``f * N(0, sigma^2 I)``.
        estimator: ``"gls"``, ``"centered"`` or ``"stein"``.
        seconds: Wall clock of the whole call.
        model_seconds: Of it, the host's time inside the model, forward and backward (on a GPU, the
            time to launch it).
    """

    value: Tensor
    gradient: Tensor
    feature_gradient: Tensor
    n_samples: Tensor
    converged: Tensor
    identified: Tensor
    estimand: str
    estimator: str
    seconds: float
    model_seconds: float

    def __repr__(self) -> str:
        rows, k = self.basis.shape[:2]
        error = ", ".join(f"{e:.3f}" for e in self.relative_error[:4].tolist())
        samples = ", ".join(str(n) for n in self.n_samples[:4].tolist())
        more = ", ..." if rows > 4 else ""
        return (
            f"SmoothHess({rows} x {k} x {k}, noise on {self.estimand}, {self.estimator}, "
            f"relative_error=[{error}{more}], n_samples=[{samples}{more}])"
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{row}</td><td>{value:.4g}</td><td>{eigenvalue:.4g}</td>"
            f"<td>{error:.3f}</td><td>{n}</td></tr>"
            for row, (value, eigenvalue, error, n) in enumerate(
                zip(
                    self.value.tolist(),
                    self.eigenvalues[:, 0].tolist(),
                    self.relative_error.tolist(),
                    self.n_samples.tolist(),
                    strict=True,
                )
            )
        )
        return (
            f"<p>SmoothHess, {self.basis.shape[1]} features, noise on {self.estimand}, "
            f"{self.estimator}</p><table><tr><th>row</th><th>f(x0)</th><th>top eigenvalue</th>"
            f"<th>relative error</th><th>gradients</th></tr>{cells}</table>"
        )


def smooth_hess(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any = None,
    *,
    sigma: float | Tensor,
    covariance: covariances.Covariance | None = None,
    features: Features | None = None,
    noise: Literal["features", "input"] = "features",
    estimator: Literal["gls", "centered", "stein"] = "gls",
    sampling: Literal["iid", "antithetic", "frames"] = "iid",
    n_samples: int | None = None,
    rtol: float | None = None,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> SmoothHess:
    """Estimate the Hessian of ``f`` convolved with a Gaussian, at each input.

    ``H = Hessian of (f * N(0, Sigma)) at x0 = Sigma^-1 E[delta grad f(x0 + delta)^T]`` with
    ``delta ~ N(0, Sigma)``, ``Sigma = sigma^2`` times the covariance: non-zero for ReLU networks,
    whose own Hessian vanishes almost everywhere. SmoothGrad, ``E[grad f(x0 + delta)]``, comes from
    the same gradients. The result says how large its own error is.

    Args:
        forward_func: A module or callable from ``(N, *shape)`` to ``(N,)`` or ``(N, c)``: logits,
            probabilities, an inner neuron, a regression output. Its mode, parameters and their
            gradients are left as found.
        inputs: ``(B, *shape)``, finite. float32 or float64 (then everything is float64); half
            types are queried in their own type and accumulated in float32.
        target: Which output, in Captum's convention: an int, a tensor or list of B ints, a tuple
            for outputs of several dimensions or a list of B tuples. None for a single output.
        sigma: Standard deviation in the units of ``inputs``: a number > 0, or one per feature
            ``(k,)``, >= 0 and not all 0. A feature of sigma 0 is not perturbed and not explained.
        covariance: Of the features, up to ``sigma^2``: ``hessx.covariance.Identity()`` (default),
            ``Diagonal``, ``Factor`` or ``GridTV``. Where it is singular only the part of H inside
            its range is identified.
        features: What is perturbed and explained, ``x = x0 + S t``: ``Identity()`` (default),
            ``Grid``, ``Segments`` or ``Basis``.
        noise: ``"features"`` perturbs the features: the Hessian of ``f * N(0, sigma^2 S Sigma
            S^T)`` along S. ``"input"`` perturbs every input number and reports ``S^T H S``, the
            group sums of the input Hessian (appendix F.4); needs one sigma and no covariance. The
            two are different quantities (40 to 70 % apart on Fashion-MNIST).
        estimator: ``"gls"``; ``"centered"``, the sample covariance averaged with its transpose;
            ``"stein"``, Eq. (8) as printed.
        sampling: ``"iid"``; ``"antithetic"`` queries both signs of each draw (``n_samples`` even);
            ``"frames"`` draws orthogonal blocks.
        n_samples: Gradients an input, 256 unless given. With ``rtol``, the cap: 12,800 unless
            given.
        rtol: Ask for this ``relative_error``: draws are appended until each row's estimate of it
            is below, or the cap is reached. It is met on average, not guaranteed: ask for
            ``rtol / 1.15`` where most runs must meet it. Where all gradients are equal (an error of
            nan) the cap is reached.
        seed: Key of the noise; samples are shared by all rows.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        A :class:`SmoothHess`. Below ``n_samples = k`` its rank is at most ``n_samples - 1``: H is
        0 outside the span of the gradients.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, inputs or outputs are not
            finite, the gradient does not reach the inputs, or ``memory_limit`` is too small.

    Source:
        Torop et al., SmoothHess (NeurIPS 2023), Definition 1, Proposition 1, Eq. (8), appendix
        F.4. The GLS estimator, its error and its control variate are hessx's own:
        docs/numerics.md.

    Example:
        >>> import torch, hessx
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> net = Sequential(Linear(3, 16), ReLU(), Linear(16, 2))
        >>> H = hessx.smooth_hess(net, torch.zeros(1, 3), target=0, sigma=0.5, n_samples=512)
        >>> H.to_dense().shape, H.gradient.shape
        (torch.Size([1, 3, 3]), torch.Size([1, 3]))
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    check_choice("noise", noise, ("features", "input"))
    check_choice("estimator", estimator, ESTIMATORS)
    check_choice("sampling", sampling, SAMPLINGS)
    check_kind("covariance", covariance, covariances.Covariance)
    check_kind("features", features, Features)
    counts = sample_counts(n_samples, rtol, sampling)
    with run.own_arithmetic(inputs.device):
        law = _noise(inputs, sigma, covariance, features, noise, sampling, run.seed)
        query = GradientQuery(forward_func, inputs, target, run)
        rows = rows_in_memory(inputs, law, counts[-1], run)
        parts = []
        with run.progress(len(inputs) * counts[-1], "smooth_hess") as progress:
            for start in range(0, len(inputs), rows):
                index = torch.arange(start, min(start + rows, len(inputs)), device=inputs.device)
                sampler = Sampler(inputs, index, law, query, sampling == "antithetic", progress)
                parts += list(estimate_rows(sampler, counts, rtol, estimator))
        return _assemble(parts, query, law, estimator, started)


def sigma_for_radius(radius: float, d: int) -> float:
    """Return the sigma whose isotropic noise has length about ``radius`` in ``d`` dimensions.

    ``sigma = radius / sqrt(d)``: ``|delta|`` concentrates there (SmoothHess, section 4, and the
    choice of sigma in section 5).

    Args:
        radius: > 0, in the units of the inputs.
        d: The number of perturbed numbers, >= 1.

    Raises:
        ValueError: If either is out of range.
        TypeError: If ``d`` is not an integer.

    Example:
        >>> round(sigma_for_radius(0.5, 784), 4)
        0.0179
    """
    check_int("d", d, 1)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be > 0 and finite, got {radius}")
    return radius / math.sqrt(d)


def _noise(
    inputs: Tensor,
    sigma: float | Tensor,
    covariance: covariances.Covariance | None,
    features: Features | None,
    noise: str,
    sampling: str,
    seed: int,
) -> Noise:
    mapping = (features or Identity()).bind(inputs.shape[1:])
    number, scale = covariances.check_sigma(sigma, mapping.n_features)
    dtype = accumulation_dtype(inputs)

    def draws(dim: int) -> NormalDraws:
        return NormalDraws(dim, seed, sampling, dtype, inputs.device)

    if noise == "features":
        law = covariance or covariances.Identity()
        root = law.root(mapping.n_features, scale, mapping.grid)
        return FeatureNoise(mapping, root, number, draws(root.rank))
    if scale is not None or not isinstance(covariance, (type(None), covariances.Identity)):
        raise ValueError(
            'noise="input" takes one sigma for all input numbers and no covariance: group sums of '
            "the input Hessian are defined for isotropic noise"
        )
    gram = mapping.gram()
    if gram.dim() == 1:
        root = covariances.Diagonal(gram).root(mapping.n_features)
    else:
        values, vectors = torch.linalg.eigh(gram)
        root = covariances.Factor(vectors * values.clamp(min=0).sqrt()).root(mapping.n_features)
    return InputNoise(mapping, root, number, draws(math.prod(inputs.shape[1:])))


def _assemble(
    parts: list[Part], query: GradientQuery, law: Noise, estimator: str, started: float
) -> SmoothHess:
    order = torch.cat([part.rows for part in parts]).argsort()

    def joined(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat(list(tensors))[order]

    operator = SymmetricOperator.joined([part.operator for part in parts]).rows(order)
    mean = joined(part.mean_gradient for part in parts)
    shift = joined(law.expand(part.mean_shift) for part in parts)
    basis = operator.basis
    return SmoothHess(
        basis=basis,
        core=operator.core,
        variance=operator.variance,
        contributions=operator.contributions,
        value=query.value.to(basis),
        gradient=(mean + law.features.lift_minimal(shift)).to(basis),
        feature_gradient=(law.features.pull(mean) + shift).to(basis),
        n_samples=joined(torch.full_like(part.rows, part.n_samples) for part in parts),
        converged=joined(part.converged for part in parts),
        identified=law.identified.to(basis.device),
        estimand=law.estimand,
        estimator=estimator,
        seconds=time.perf_counter() - started,
        model_seconds=query.seconds,
    )
