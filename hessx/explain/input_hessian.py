"""The Hessian of the cross-entropy in the inputs, as eigenpairs: Proposition 1 of CASO."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx import ops
from hessx.explain.curvature import FEW_CLASSES, SIGN_STREAM, PointCurvature, random_start
from hessx.query import Linearization, LossQuery
from hessx.query.softmax import likely_factor, softmax_factor
from hessx.run import Run, accumulation_dtype, check_inputs, check_int, check_positive
from hessx.solve.products import dot
from hessx.solve.spectrum import TopSpace, gram_bound, gram_spectrum, top_space

_DEFAULT_RANK = 10
# Likely classes whose gradients start the Krylov space, and the probability that they must have
# together: below it the prediction is flat and the loss's gradient is the better start.
_LIKELY_CLASSES = 4
_LIKELY_MASS = 0.9
# A Krylov space of rank r takes some 1.5 r products, the Gram matrix c.
_GRAM_SHARE = 0.5
_MOST_EXTRA = 48


@dataclass(frozen=True, eq=False, repr=False)
class InputHessian:
    """The largest eigenpairs of input Hessians of the cross-entropy.

    Attributes:
        gradient: ``(B, *shape)``, of the cross-entropy.
        probabilities: ``(B, c)`` float64.
        eigenvalues: ``(B, r)``, largest first.
        eigenvectors: ``(B, d, r)``, orthonormal columns; zero columns where H has a smaller rank,
            or of a direction that is rounding of the largest eigenvalue.
        residuals: ``(B, r)``, ``|H v - value v|``; 0 where all classes were used.
        top_bound: ``(B,)``, an upper bound of the largest eigenvalue: exact but for rounding where
            all classes were used, else value + residual (docs/numerics.md: when it can fail).
        trace: ``(B,)``: without bias, exact where all classes were used.
        trace_remainder: ``(B,)``, the part of the trace that was estimated.
        converged: ``(B,)``, whether ``rtol`` was reached.
        target: ``(B,)``, the class whose cross-entropy it is.
        n_classes: c.
        n_products: Hessian-vector products, of all inputs together.
        hessian: ``"exact"``, or ``"gauss-newton"`` where the model is not piecewise linear.
        seconds: Wall clock of the whole call.
        model_seconds: Of it, the host's time inside the model.
    """

    gradient: Tensor
    probabilities: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    top_bound: Tensor
    trace: Tensor
    trace_remainder: Tensor
    converged: Tensor
    target: Tensor
    n_classes: int
    n_products: int
    hessian: str
    seconds: float
    model_seconds: float

    def __repr__(self) -> str:
        batch, d, rank = self.eigenvectors.shape
        top = ", ".join(f"{value:.4g}" for value in self.eigenvalues[:4, 0].tolist())
        more = ", ..." if batch > 4 else ""
        return (
            f"InputHessian({batch} x {d} x {d}, {self.hessian}, {rank} eigenpairs, "
            f"largest=[{top}{more}], {self.n_classes} classes)"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{row}</td><td>{p:.3f}</td><td>{top:.4g}</td><td>{bound:.4g}</td>"
            f"<td>{trace:.4g}</td></tr>"
            for row, (p, top, bound, trace) in enumerate(
                zip(
                    self.probabilities.amax(1).tolist(),
                    self.eigenvalues[:, 0].tolist(),
                    self.top_bound.tolist(),
                    self.trace.tolist(),
                    strict=True,
                )
            )
        )
        return (
            f"<p>Input Hessian ({self.hessian}), {self.n_classes} classes</p><table><tr>"
            "<th>row</th><th>confidence</th><th>largest eigenvalue</th><th>bound</th>"
            f"<th>trace</th></tr>{rows}</table>"
        )


def input_hessian(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    target: Any = None,
    *,
    rank: int | None = None,
    rtol: float = 1e-2,
    exact: bool = False,
    seed: int = 0,
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> InputHessian:
    """Decompose the Hessian of the cross-entropy with respect to each input.

    ``H = W (diag p - p p^T) W^T = sum_i p_i (W_i - wbar)(W_i - wbar)^T`` with W_i the gradient of
    logit i, p the softmax and ``wbar = sum_i p_i W_i``: the whole Hessian for piecewise-linear
    models, its Gauss-Newton part for others.

    With up to 20 classes, or where ``rank`` is at least half of them, all class gradients give
    every eigenpair through the Gram matrix of ``B = W S, S S^T = diag p - p p^T``. The ``d x c``
    matrix of many classes is never kept, unless a ``memory_limit`` is given that holds it, which
    saves time. Else a Krylov space on Hessian-vector products is extended until ``rtol`` is
    reached. It starts from a random vector and from the likely classes, with all others taken
    together, or, where those are not likely enough, from the gradient of the loss.

    Args:
        forward_func: From ``(N, *shape)`` to logits ``(N, c)``; a module or any callable.
        inputs: ``(B, *shape)``.
        target: The class y of :attr:`InputHessian.gradient`: an int, a tensor or list of B ints, or
            None for the predicted class. H does not depend on it, but for ``exact`` with models
            that are not piecewise linear.
        rank: How many eigenpairs: all ``c - 1`` with up to 20 classes, else 10, unless given. There
            are at most ``c - 1``, but for ``exact`` with models that are not piecewise linear.
        rtol: Error of each eigenvalue asked for, relative to itself; the residual of the largest is
            below ``rtol`` times it.
        exact: For models that are not piecewise linear, the whole Hessian by double backward.
        seed: Key of the random start and signs.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar over the inputs.

    Returns:
        An `InputHessian`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, inputs or logits are not finite, the model does
            not return logits ``(N, c)``, or the gradient does not reach the inputs.

    Source:
        Singla, Wallace, Feng and Feizi, "Understanding impacts of high-order loss approximations
        and features in deep learning interpretation" (ICML 2019), Proposition 1, Theorem 2,
        appendix C.

    Example:
        >>> import torch, hessx
        >>> from torch.nn import Linear, ReLU, Sequential
        >>> net = Sequential(Linear(16, 32), ReLU(), Linear(32, 4))
        >>> H = hessx.input_hessian(net, torch.randn(3, 16))
        >>> H.eigenvalues.shape, H.eigenvectors.shape
        (torch.Size([3, 3]), torch.Size([3, 16, 3]))
    """
    started = time.perf_counter()
    run = Run(seed, additional_forward_args, max_examples_per_batch, memory_limit, show_progress)
    check_inputs(inputs)
    d = inputs[0].numel()
    if rank is not None:
        check_int("rank", rank, 1, d)
    check_positive("rtol", rtol)
    if not isinstance(exact, bool):
        raise TypeError(f"exact must be a bool, got {exact!r}")
    with run.own_arithmetic(inputs.device):
        query = LossQuery(forward_func, inputs, target, run, exact=exact)
        rank = min(d, _rank(rank, query.n_classes, exact))
        by_classes = query.n_classes <= FEW_CLASSES or rank >= _GRAM_SHARE * query.n_classes
        by_classes = by_classes and query.method != "double-backward"
        # Eigenvectors and some class gradients, or a Krylov space, its images and both lifted.
        vectors = 2 * rank + 8 if by_classes else 4 * (2 * rank + _MOST_EXTRA)
        row = vectors * d * accumulation_dtype(inputs).itemsize
        what = f"{rank} eigenpairs of inputs of {d} numbers"
        at_once = min(query.examples_per_batch, run.rows_in_memory(row, inputs.device, what))
        parts = []
        with run.progress(len(inputs), "input_hessian", "input") as progress:
            for start in range(0, len(inputs), at_once):
                rows = torch.arange(start, min(start + at_once, len(inputs)), device=inputs.device)
                curvature = PointCurvature(query, inputs, rows)
                if by_classes:
                    parts.append(_from_classes(curvature, rank, run))
                else:
                    parts.append(_from_products(curvature, rank, rtol, run.seed))
                progress.update(len(rows))
        return _assemble(parts, inputs, query, started)


@dataclass(frozen=True)
class _Part:
    """Finished rows of the batch; fields as in `InputHessian`, eigenvectors in rows."""

    gradient: Tensor
    values: Tensor
    vectors: Tensor
    residuals: Tensor
    bound: Tensor
    trace: Tensor
    remainder: Tensor
    converged: Tensor


def _rank(rank: int | None, n_classes: int, exact: bool) -> int:
    if rank is None:
        rank = n_classes - 1 if n_classes <= FEW_CLASSES else _DEFAULT_RANK
    # The whole Hessian of a model that is not piecewise linear can have any rank.
    return rank if exact else min(rank, n_classes - 1)


def _from_classes(curvature: PointCurvature, rank: int, run: Run) -> _Part:
    """Take all classes, through the Gram matrix (appendix C)."""
    linearization, gradient = curvature.linearization, curvature.gradient
    weights = softmax_factor(linearization.probabilities)
    values, mixing = gram_spectrum(_class_gram(linearization, weights, gradient, run))
    trace = values.sum(-1)
    values, mixing = values[:, :rank], mixing[..., :rank]
    # Below this, an eigenvalue is rounding of the largest and has no direction of its own.
    noise = values[:, :1] * weights.shape[1] * torch.finfo(gradient.dtype).eps
    scale = torch.where(values > noise, values, torch.inf).rsqrt()
    vectors = linearization.vjp((mixing * scale[:, None, :]).mT @ weights)
    bound = gram_bound(values, gradient.dtype)
    zero = torch.zeros_like(trace)
    true = torch.ones_like(trace, dtype=torch.bool)
    return _Part(gradient, values, vectors, torch.zeros_like(values), bound, trace, zero, true)


def _class_gram(
    linearization: Linearization, weights: Tensor, gradient: Tensor, run: Run
) -> Tensor:
    """Return ``B^T B (b, c, c)`` for the weighted, centred class gradients B.

    B of many classes is kept only if a ``memory_limit`` was given that holds it: some columns at a
    time are pushed forward again, for the logits' response to a column, weighted, is a row of the
    Gram matrix.
    """
    b, c, _ = weights.shape
    column = b * gradient.shape[1] * gradient.element_size()
    fitting = max(1, run.memory(gradient.device) // 4 // column)
    if fitting >= c and (c <= FEW_CLASSES or run.memory_limit is not None):
        return ops.gram(linearization.vjp(weights))
    rows = [
        linearization.jvp(linearization.vjp(some)) @ weights.mT
        for some in weights.split(fitting, 1)
    ]
    gram = torch.cat(rows, 1)
    return (gram + gram.mT) / 2


def _from_products(curvature: PointCurvature, rank: int, rtol: float, seed: int) -> _Part:
    """Take a Krylov space on Hessian-vector products."""
    gradient = curvature.gradient
    start = random_start(gradient, seed)
    if not curvature.indefinite:
        likely = _likely_direction(curvature.linearization)
        # Where the prediction is flat, the gradient of the loss is the better start.
        flat = (likely == 0).all(-1, keepdim=True)
        start = torch.cat([torch.where(flat, start[:, :1], likely), start[:, 1:]], 1)
    # Fewer vectors can miss the largest eigenvalue beside a cluster of others.
    fewest = max(rank, curvature.first_space)
    most = 2 * rank + _MOST_EXTRA
    found = top_space(curvature.product, start, rank, rtol, fewest, most)
    captured = found.space.projected().diagonal(dim1=-2, dim2=-1).sum(-1)
    remainder = _trace_remainder(curvature, found, seed)
    values, residuals = found.ritz.values, found.ritz.residuals
    return _Part(
        gradient,
        values,
        found.ritz.vectors.mT,
        residuals,
        found.bound,
        captured + remainder,
        remainder,
        found.converged,
    )


def _likely_direction(linearization: Linearization) -> Tensor:
    """Return the top eigenvector ``(b, 1, d)`` of H with its unlikely classes taken as one.

    It is 0 for rows whose likely classes are not likely enough.
    """
    p = linearization.probabilities
    likely = p.topk(_LIKELY_CLASSES, 1).values.sum(1) >= _LIKELY_MASS
    if not likely.any():
        return linearization.gradient.new_zeros(len(p), 1, linearization.gradient.shape[1])
    factor = linearization.vjp(likely_factor(p, _LIKELY_CLASSES))
    _, mixing = gram_spectrum(ops.gram(factor))
    return mixing[..., :1].mT.to(factor) @ factor * likely[:, None, None]


def _trace_remainder(curvature: PointCurvature, found: TopSpace, seed: int) -> Tensor:
    """Estimate the trace of H outside the space from one random vector, without bias.

    For random signs s and the projector P out of the space, ``|P B s|^2`` with ``B B^T = H`` has
    the mean ``tr(P H P)``, at the price of one backward pass; where H is indefinite,
    ``(P s)^T H (P s)`` has, for signs of the inputs.
    """
    vectors = found.space.vectors

    def projected(x: Tensor) -> Tensor:
        return x - (x @ vectors.mT) @ vectors

    if curvature.indefinite:
        probe = projected(_signs(vectors.shape[-1], seed, vectors).expand(len(vectors), 1, -1))
        return dot(probe, curvature.product(probe))[:, 0]
    weights = softmax_factor(curvature.linearization.probabilities)
    signs = _signs(weights.shape[1], seed, weights)
    probe = projected(curvature.linearization.vjp((signs @ weights)[:, None]))
    return dot(probe, probe)[:, 0]


def _signs(n: int, seed: int, like: Tensor) -> Tensor:
    uniform = ops.uniform(1, n, seed=seed, stream=SIGN_STREAM, device=like.device)[0]
    return torch.where(uniform < 0.5, -1.0, 1.0).to(like)


def _assemble(parts: list[_Part], inputs: Tensor, query: LossQuery, started: float) -> InputHessian:
    def joined(name: str) -> Tensor:
        tensors = [getattr(part, name) for part in parts]
        # Many eigenvectors of one input are large: no second copy of them.
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    dtype = accumulation_dtype(inputs)
    return InputHessian(
        gradient=joined("gradient").view(inputs.shape),
        probabilities=query.probabilities,
        eigenvalues=joined("values").to(dtype),
        eigenvectors=joined("vectors").mT.to(dtype),
        residuals=joined("residuals").to(dtype),
        top_bound=joined("bound").to(dtype),
        trace=joined("trace").to(dtype),
        trace_remainder=joined("remainder").to(dtype),
        converged=joined("converged"),
        target=query.target,
        n_classes=query.n_classes,
        n_products=query.n_products,
        hessian=query.hessian,
        seconds=time.perf_counter() - started,
        model_seconds=query.seconds,
    )
