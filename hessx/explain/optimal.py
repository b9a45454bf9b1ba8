"""Optimal explanations: those of the least infidelity under a perturbation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessx.explain.least_squares import Fit, fit_calls, fit_law
from hessx.explain.linear_model import as_tensor
from hessx.perturb import BoundPerturbation, Perturbation
from hessx.query import BlackBoxQuery, Targets
from hessx.run import Run, accumulation_dtype, check_inputs, check_int
from hessx.score.perturb_call import PerturbCall, single
from hessx.solve.least_squares.squares import fixed_ridge


@dataclass(frozen=True, eq=False, repr=False)
class Optimal:
    """The explanation of each input that has the least infidelity under a perturbation.

    With :class:`hessx.Targets` the first four fields have a leading T.

    Attributes:
        attributions: ``(B, *shape)``: to be multiplied by the perturbations; the smallest with
            these coefficients.
        coefficients: ``(B, *features)``: what each removed feature takes from f, in the features'
            shape. Like ``attributions`` where every input number is perturbed by itself.
        infidelity: ``(B,)``, float64, of the perturbations that were used.
        residual: ``(B,)``, float64: that over ``E[(f(x) - f(x - I))^2]``, the infidelity of no
            explanation: 0 where f answers the perturbations as a linear function does.
        condition: ``(B,)``, float64: the condition number, to a few percent, of the matrix
            ``E[I I^T]`` in coordinates, less what an input adds to all its perturbations; with a
            ridge that was given, of the two together. inf where the perturbations do not determine
            the explanation to ten digits; nan where it is not known (many coordinates).
        ridge: ``(B,)``, float64: what was added to the diagonal of that matrix.
        perturb_func: As given.
        n_samples: Perturbations of each input.
        n_evaluations: All examples that f was asked for.
        seconds: Wall clock of the whole call.
        model_seconds: Of it, the host's time inside the model.
    """

    attributions: Tensor
    coefficients: Tensor
    infidelity: Tensor
    residual: Tensor
    condition: Tensor
    ridge: Tensor
    perturb_func: Perturbation | Callable[..., Any]
    n_samples: int
    n_evaluations: int
    seconds: float
    model_seconds: float

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(attributions={tuple(self.attributions.shape)}, "
            f"{self._name}, n_samples={self.n_samples}, mean residual "
            f"{self.residual.mean().item():.2g}{self._ridge_note})"
        )

    def _repr_html_(self) -> str:
        return (
            f"<p>Optimal explanation for {self._name}, attributions "
            f"{tuple(self.attributions.shape)}, {self.n_samples} samples, mean residual "
            f"{self.residual.mean().item():.2g}{self._ridge_note}</p>"
        )

    @property
    def _name(self) -> str:
        kind = self.perturb_func
        name = type(kind) if isinstance(kind, Perturbation) else kind
        return getattr(name, "__name__", type(name).__name__)

    @property
    def _ridge_note(self) -> str:
        largest = self.ridge.max().item()
        return f", ridge up to {largest:.1g}" if largest > 0 else ""


def optimal_explanation(
    forward_func: Callable[..., Any],
    inputs: Tensor | np.ndarray,
    target: Any = None,
    *,
    perturb_func: Perturbation | Callable[..., Any],
    baselines: Any = None,
    n_samples: int | None = 20000,
    ridge: float | str = "auto",
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> Optimal:
    """Find the explanation that predicts best what perturbations I of an input do.

    ``Phi = argmin E_I[(I^T Phi - (f(x) - f(x - I)))^2]
    = E[I I^T]^-1 E[I (f(x) - f(x - I))]``, least squares of the differences on the perturbations.
    For ``Gaussian`` noise it tends to the gradient as the noise does to 0, ``Subsets(size=1)``
    gives occlusion, ``Shap`` the Shapley values; ``NoisyBaseline`` and ``Square`` are the paper's
    NB and Square.

    Args:
        forward_func: Any function from ``(N, *shape)`` to ``(N,)`` or ``(N, c)``; no gradient is
            needed, and NumPy arrays may be returned.
        inputs: ``(B, *shape)``, finite. For a NumPy array ``forward_func`` is called with NumPy
            arrays.
        target: Which output, in Captum's convention; None for a single output. Or a
            ``hessx.Contrast``, or ``hessx.Targets`` for several from the same calls.
        perturb_func: A law of ``hessx.perturb``: all inputs share its draws and one matrix. Or a
            function in Captum's convention, of inputs (and baselines, if given) to perturbations
            and perturbed inputs, called for one input at a time with the generators of torch, NumPy
            and Python seeded and put back; each input has a matrix of its own.
        baselines: What removed numbers become: a number, a tensor of B or 1 examples, or None
            for 0.
        n_samples: Perturbations of each input, >= 1; None for all that there are, with a law that
            lists them (``Square``, small ``Subsets`` and ``Shap``). Fewer than coordinates give the
            smallest of the explanations that answer them all.
        ridge: What is added to the diagonal of ``E[I I^T]`` in coordinates, >= 0. ``"auto"``:
            nothing unless its condition exceeds 1e10 (1e12 for all squares), then the least that
            brings it there. With more than 4,096 coordinates the matrix is not formed and
            ``"auto"`` adds nothing, except to squares without side 1.
        seed: Key of the draws; those of :func:`hessx.infidelity` with the same seed.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        An :class:`Optimal`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, the perturbations are not
            listed and ``n_samples`` is None, ``ridge=0`` and the matrix is singular, inputs,
            perturbations or outputs are not finite, or ``memory_limit`` is too small.

    Source:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations (NeurIPS 2019),
        Propositions 2.1 to 2.5; appendix B.2 for masks that multiply the explanation.

    Example:
        >>> import torch, hessx
        >>> f = lambda x: 2 * x[:, 0] - 3 * x[:, 1] + x[:, 0] * x[:, 2]
        >>> shapley = hessx.perturb.Shap()
        >>> result = hessx.optimal_explanation(
        ...     f, torch.tensor([[1.0, 1.0, 4.0]]), perturb_func=shapley, n_samples=None
        ... )
        >>> result.attributions
        tensor([[ 4., -3.,  2.]])
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    x = as_tensor(inputs)
    check_inputs(x)
    fixed = fixed_ridge(ridge)
    if n_samples is not None:
        check_int("n_samples", n_samples, 1)
    source = _source(perturb_func, x, baselines, n_samples, seed)
    with run.own_arithmetic(x.device):
        query = BlackBoxQuery(forward_func, x, target, run, arrays=isinstance(inputs, np.ndarray))
        if isinstance(source, BoundPerturbation):
            fit = fit_law(query, source, n_samples, fixed, run)
            w, n = fit.solution.w, n_samples or source.size
            rows = torch.arange(len(x), device=x.device)
            attributions = source.lift(w.movedim(1, 0), rows)
            shape = source.coordinate_shape
        else:
            assert n_samples is not None
            fit = fit_calls(query, source, n_samples, fixed, run)
            w, n, shape = fit.solution.w, n_samples, x.shape[1:]
            attributions = w.movedim(1, 0).unflatten(-1, shape)
        assert n is not None
        several = isinstance(target, Targets)
        dtype = accumulation_dtype(x)

        def shown(values: Tensor) -> Tensor:
            """Return what has a leading T as the caller's targets have it."""
            return values if several else values[0]

        attributions, coefficients = attributions.to(dtype), w.movedim(1, 0).to(dtype)
        _check_result(attributions, coefficients, fit)
        return Optimal(
            attributions=shown(attributions),
            coefficients=shown(coefficients.unflatten(-1, shape)),
            infidelity=shown(fit.solution.infidelity.mT),
            residual=shown(fit.residual.mT),
            condition=fit.solution.condition,
            ridge=fit.solution.ridge,
            perturb_func=perturb_func,
            n_samples=n,
            n_evaluations=query.n_examples,
            seconds=time.perf_counter() - started,
            model_seconds=query.seconds,
        )


def _source(
    perturb_func: Any, inputs: Tensor, baselines: Any, n: int | None, seed: int
) -> BoundPerturbation | PerturbCall:
    if not callable(perturb_func):
        raise TypeError(f"perturb_func must be callable, got {type(perturb_func).__name__}")
    if not isinstance(perturb_func, Perturbation):
        if n is None:
            raise ValueError("n_samples must be given where perturb_func is a function")
        return PerturbCall(perturb_func, (inputs,), baselines)
    law = perturb_func.bind(inputs, single(baselines), seed)
    if n is None and law.size is None:
        raise ValueError(
            f"n_samples must be given: {type(perturb_func).__name__} does not list its "
            "perturbations for such inputs"
        )
    return law


def _check_result(attributions: Tensor, coefficients: Tensor, fit: Fit) -> None:
    for found in (attributions, coefficients, fit.solution.infidelity):
        if not found.isfinite().all():
            raise ValueError(
                f"attributions must fit {attributions.dtype}: forward_func returns too large "
                "values, or the perturbations are too small"
            )
