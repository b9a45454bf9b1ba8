"""CASO and CAFO: sparse perturbations that raise the loss most, to second and to first order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hessx.explain.curvature import Smoothing, curvatures
from hessx.explain.engines import (
    MOST_VECTORS,
    Engine,
    FirstOrderEngine,
    Part,
    second_order_engine,
)
from hessx.explain.settings import Settings, checked, checked_path, checked_rule
from hessx.explain.sparse_saliency import SparsePath, SparseSaliency, zero_share
from hessx.query import LossQuery
from hessx.run import Run, accumulation_dtype, check_inputs


def caso(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any = None,
    *,
    lambda1: float | Tensor | Literal["auto", "cafo", "search"] = "auto",
    lambda2: float | Tensor | None = None,
    c1: float = 10.0,
    k: int | None = None,
    sparsity: tuple[float, float] = (0.75, 1.0),
    smooth_sigma: float | None = None,
    n_samples: int = 50,
    exact: bool = False,
    solver: Literal["newton", "fista", "fista-constant"] = "newton",
    n_iter: int | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> SparseSaliency:
    """Explain a prediction by the sparse perturbation that raises its loss most, to second order.

    CASO (Definition 3): the maximiser of ``g^T D + D^T H D / 2 - lambda1 |D|_1 - lambda2 |D|_2^2``
    with the gradient g and the Hessian H of the cross-entropy of ``target`` at each input. H is
    ``W (diag p - p p^T) W^T`` (Proposition 1), W the Jacobian of the logits: the whole Hessian for
    piecewise-linear models, its Gauss-Newton part for others.

    Args:
        forward_func: From ``(N, *shape)`` to logits ``(N, c)``; a module or any callable.
        inputs: ``(B, *shape)``; of images ``(B, C, H, W)`` a pixel is zero when its channels are.
        target: The class y: an int, a tensor or list of B ints, or None for the predicted class.
        lambda1: A number, or ``(B,)``; ``"auto"``: the smallest whose solution has a ``sparsity``
            in the range, which also has the highest objective among them; ``"cafo"``: the same of
            the first-order solution (section 2 of the paper); ``"search"``: the trials of section
            4.1, literally.
        lambda2: A number, or ``(B,)``, above half the largest eigenvalue L of H; ``L / 2 + c1``
            unless given, with L bounded from above.
        c1: > 0.
        k: At most so many pixels (Definition 1), in place of ``sparsity``; none where more than k
            are equally large.
        sparsity: ``(low, high)``: zero pixels / pixels in ``[low, high)``; where no lambda1 gives
            that, as with equally large pixels, the next denser solution.
        smooth_sigma: Smooth CASO (Definition 4): g and H are means over inputs with noise of this
            standard deviation, in the units of ``inputs``; the paper takes 0.15.
        n_samples: Noisy copies of each input.
        exact: For models that are not piecewise linear, the whole Hessian by double backward. It
            need not be positive semidefinite: the solver must be one of the two of FISTA.
        solver: ``"newton"``: in low rank, with solutions appended until the gap is at most ``tol``
            or rounding stops the progress;
            ``"fista"``: as the paper states it, ``n_iter`` iterations with backtracking;
            ``"fista-constant"``: with the step and momentum that L allows, until the gap is at
            most ``tol`` or after ``n_iter`` iterations. With ``lambda1="auto"`` or ``"search"``
            every trial of FISTA is a run of its own.
        n_iter: 10 for ``"fista"``, 500 for ``"fista-constant"`` unless given.
        tol: Relative gap of the objective to reach.
        seed: Key of the noise and of the random start for L.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar over the inputs.

    Returns:
        A `SparseSaliency`; its ``gap`` is an upper bound that holds when ``curvature_bound`` is at
        least L (docs/numerics.md: with what probability it may not be).

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, inputs or logits are not
            finite, the model does not return logits ``(N, c)``, the gradient does not reach the
            inputs, or ``lambda2`` leaves the objective without a maximum.

    Source:
        Singla, Wallace, Feng and Feizi, "Understanding impacts of high-order loss approximations
        and features in deep learning interpretation" (ICML 2019), Definitions 1, 3 and 4, Theorem
        3, sections 2 and 4.1. The Newton solver and its certificate are hessx's own:
        docs/numerics.md.

    Example:
        >>> import torch, hessx
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> net = Sequential(Linear(16, 32), ReLU(), Linear(32, 4))
        >>> result = hessx.caso(net, torch.randn(3, 16))
        >>> result.delta.shape, bool((result.sparsity >= 0.75).all())
        (torch.Size([3, 16]), True)
        >>> bool((result.gap <= 1e-4).all())
        True
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    settings = checked(inputs, checked_rule(inputs, lambda1, k), lambda2, c1, k, sparsity)
    smoothing = Smoothing.checked(smooth_sigma, n_samples)
    engine = second_order_engine(solver, n_iter, tol, exact)
    return _explain(forward_func, inputs, target, settings, smoothing, engine, run, started)[0]


def caso_path(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any = None,
    *,
    lambda1s: Any,
    lambda2: float | Tensor | None = None,
    c1: float = 10.0,
    smooth_sigma: float | None = None,
    n_samples: int = 50,
    exact: bool = False,
    solver: Literal["newton", "fista", "fista-constant"] = "newton",
    n_iter: int | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> SparsePath:
    """Solve CASO for several values of lambda1 at once.

    They share the model queries and every pass of the solver: four cost little more than one.

    Args:
        forward_func: As for `caso`, and so are all arguments but ``lambda1s``.
        inputs: ``(B, *shape)``.
        target: The class y.
        lambda1s: M numbers >= 0, or ``(B, M)``: M for each input.
        lambda2: A number, or ``(B,)``.
        c1: > 0.
        smooth_sigma: Standard deviation of the noise of Smooth CASO.
        n_samples: Noisy copies of each input.
        exact: The whole Hessian by double backward.
        solver: ``"newton"``, ``"fista"`` or ``"fista-constant"``.
        n_iter: Iterations of FISTA.
        tol: Relative gap of the objective to reach.
        seed: Key of the noise and of the random start for L.
        additional_forward_args: Passed to ``forward_func`` after the inputs.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage.
        show_progress: Show a progress bar over the inputs.

    Returns:
        A `SparsePath`; ``result[j]`` is the `SparseSaliency` of the j-th value.

    Raises:
        TypeError: As `caso`.
        ValueError: As `caso`.

    Source:
        As `caso`; Figure 3 of the paper is such a path.

    Example:
        >>> import torch, hessx
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> net = Sequential(Linear(16, 32), ReLU(), Linear(32, 4))
        >>> path = hessx.caso_path(net, torch.randn(3, 16), lambda1s=[0.0, 0.01, 0.1])
        >>> path.delta.shape, path[0].delta.shape
        (torch.Size([3, 3, 16]), torch.Size([3, 16]))
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    lambdas = checked_path(inputs, lambda1s)
    settings = checked(inputs, lambdas, lambda2, c1)
    smoothing = Smoothing.checked(smooth_sigma, n_samples)
    engine = second_order_engine(solver, n_iter, tol, exact)
    return _explain(forward_func, inputs, target, settings, smoothing, engine, run, started)


def cafo(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any = None,
    *,
    lambda1: float | Tensor | Literal["auto", "cafo", "search"] = "auto",
    lambda2: float | Tensor | None = None,
    c1: float = 10.0,
    k: int | None = None,
    sparsity: tuple[float, float] = (0.75, 1.0),
    smooth_sigma: float | None = None,
    n_samples: int = 50,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> SparseSaliency:
    """Explain a prediction by the sparse perturbation that raises its loss most, to first order.

    CAFO (Definition 2) maximises ``g^T D - lambda1 |D|_1 - lambda2 |D|_2^2``; the maximiser is
    ``D = S(g, lambda1) / (2 lambda2)``, S the soft threshold. lambda2 scales it and no more; give
    it, and only the gradient is asked of the model: the paper's ``L / 2 + c1`` needs the Hessian.

    Args:
        forward_func: From ``(N, *shape)`` to logits ``(N, c)``; a module or any callable.
        inputs: ``(B, *shape)``; of images ``(B, C, H, W)`` a pixel is zero when its channels are.
        target: The class y: an int, a tensor or list of B ints, or None for the predicted class.
        lambda1: As for `caso`; ``"auto"`` and ``"cafo"`` are one here.
        lambda2: A number > 0, or ``(B,)``; ``L / 2 + c1`` unless given.
        c1: > 0.
        k: At most so many pixels (Definition 1), in place of ``sparsity``.
        sparsity: ``(low, high)``: zero pixels / pixels in ``[low, high)``.
        smooth_sigma: Smooth CAFO: g is the mean over inputs with noise of this standard deviation.
        n_samples: Noisy copies of each input.
        seed: Key of the noise and of the random start for L.
        additional_forward_args: Passed to ``forward_func`` after the inputs.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage.
        show_progress: Show a progress bar over the inputs.

    Returns:
        A `SparseSaliency` with a ``gap`` of 0.

    Raises:
        TypeError: As `caso`.
        ValueError: As `caso`, but for lambda2: any number > 0 will do.

    Source:
        Singla et al. (ICML 2019), Definitions 1, 2 and 4, sections 2 and 4.1; the closed form is
        the proximal operator of section 4.

    Example:
        >>> import torch, hessx
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> net = Sequential(Linear(16, 32), ReLU(), Linear(32, 4))
        >>> result = hessx.cafo(net, torch.randn(3, 16), k=2)
        >>> int((result.delta != 0).sum(1).max()) <= 2
        True
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    settings = checked(inputs, checked_rule(inputs, lambda1, k), lambda2, c1, k, sparsity)
    smoothing = Smoothing.checked(smooth_sigma, n_samples)
    engine = FirstOrderEngine()
    return _explain(forward_func, inputs, target, settings, smoothing, engine, run, started)[0]


def _explain(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any,
    settings: Settings,
    smoothing: Smoothing | None,
    engine: Engine,
    run: Run,
    started: float,
) -> SparsePath:
    with run.own_arithmetic(inputs.device):
        query = LossQuery(forward_func, inputs, target, run, exact=engine.exact)
        # Vectors, images and basis of the low-rank model; solutions, their images and what they
        # threshold, for the eight trials of lambda1 at least.
        vectors = 3 * MOST_VECTORS + 6 * max(settings.n_programs, 8)
        row = vectors * inputs[0].numel() * accumulation_dtype(inputs).itemsize
        what = f"inputs of {inputs[0].numel()} numbers"
        at_once = run.rows_in_memory(row, inputs.device, what)
        parts = []
        with run.progress(len(inputs), engine.method, "input") as progress:
            products = engine.asks_products(settings)
            for curvature in curvatures(query, inputs, smoothing, at_once, run.seed, products):
                parts.append(engine(curvature, settings, run.seed))
                progress.update(len(curvature.rows))
        return _assemble(parts, inputs, settings.n_channels, query, engine, started)


def _assemble(
    parts: list[Part],
    inputs: Tensor,
    n_channels: int,
    query: LossQuery,
    engine: Engine,
    started: float,
) -> SparsePath:
    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors).to(accumulation_dtype(inputs))

    delta = torch.cat([part.solved.delta for part in parts])
    n_programs = delta.shape[1]
    rows = torch.arange(len(inputs), device=inputs.device).repeat_interleave(n_programs)
    shaped = delta.view(len(inputs), n_programs, *inputs.shape[1:])
    moved = (inputs[:, None] + shaped).to(inputs.dtype).flatten(0, 1)
    loss = query.losses(moved, rows).view(len(inputs), n_programs)
    return SparsePath(
        delta=shaped,
        gradient=torch.cat([part.gradient for part in parts]).view(inputs.shape),
        lambda1=joined([part.solved.lambda1 for part in parts]),
        lambda2=joined([part.lambda2[:, 0] for part in parts]),
        sparsity=joined([zero_share(delta, n_channels)]),
        objective=torch.cat([part.solved.objective for part in parts]),
        gap=torch.cat([part.solved.gap for part in parts]),
        loss_change=loss - query.loss[:, None],
        curvature_bound=joined([part.bound for part in parts]),
        target=query.target,
        method=engine.method,
        hessian=engine.hessian(query),
        seconds=time.perf_counter() - started,
        model_seconds=query.seconds,
    )
