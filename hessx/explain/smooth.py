"""Smoothed explanations: the mean of any explanation over points around the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hessx.generators import seeded_generators
from hessx.perturb.neighbours import KERNELS, Neighbours
from hessx.query import ExplanationQuery
from hessx.run import Run, check_choice, check_int, check_positive, check_tensors

_STREAM = 211


def smooth_explanation(
    explanation_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    *,
    kernel: Literal["uniform", "gaussian"] = "uniform",
    radius: float,
    n_samples: int = 200,
    seed: int = 0,
    return_stderr: bool = False,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
    **kwargs: Any,
) -> Any:
    """Average an explanation over a kernel around each input.

    ``Phi_k(x) = integral of Phi(z) k(x, z) dz``, by the mean over points z drawn from the kernel.
    For the gradient under a Gaussian kernel this is SmoothGrad. Smoothing never raises the
    sensitivity above the kernel's average of the sensitivities nearby (Theorem 4.1), and infidelity
    by a factor at most (Theorem 4.2).

    Args:
        explanation_func: From inputs ``(N, *shape)`` and ``kwargs`` to explanations, a tensor or a
            tuple of tensors with N examples each: a Captum method's ``attribute``, a function of
            ``hessx``, any callable. It may use autograd. It is given a tuple where ``inputs`` is
            one.
        inputs: ``(B, *shape)``, finite, floating point, or a tuple of such.
        kernel: "uniform" in the L_inf ball around the input, or "gaussian", independent for each
            number.
        radius: That of the ball, or the standard deviation of the Gaussian; > 0, in units of
            ``inputs``.
        n_samples: Points around each input, >= 1 (>= 2 for standard errors).
        seed: Key of the points; they are shared by all inputs. Points, and sums in float64 in their
            order, do not depend on batches or on what else is explained; explanations that draw
            numbers of their own do. The generators of torch, NumPy and Python are seeded inside and
            left as they were found.
        return_stderr: Return standard errors, too.
        max_examples_per_batch: The most examples in one call of ``explanation_func``.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.
        **kwargs: Handed to ``explanation_func``. ``target``, ``baselines``, ``feature_mask`` and
            ``additional_forward_args`` with an entry for each input go with it.

    Returns:
        What ``explanation_func`` returns for ``inputs``, a tensor or a tuple, in its types (those
        that are not of floating point in float32); with ``return_stderr`` a pair of such, the
        second the standard errors of each number.

    Raises:
        TypeError: If an argument is of a wrong type, or ``explanation_func`` returns no tensors.
        ValueError: If an argument is out of range, or explanations are of a wrong shape or not
            finite.

    Source:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations (NeurIPS 2019), section 4;
        kernels and radii: appendix B.1.

    Example:
        >>> import torch, hessx
        >>> def gradient(x):
        ...     x = x.requires_grad_()
        ...     return torch.autograd.grad(x.abs().sum(), x)[0]
        >>> x = torch.tensor([[0.0, 0.5, 2.0]])
        >>> smooth, stderr = hessx.smooth_explanation(
        ...     gradient, x, radius=1.0, n_samples=1000, return_stderr=True
        ... )
        >>> truth = torch.tensor([[0.0, 0.5, 1.0]])
        >>> bool(((smooth - truth).abs() <= 4 * stderr).all())
        True
    """
    run = Run(
        seed=seed,
        max_examples_per_batch=max_examples_per_batch,
        memory_limit=memory_limit,
        show_progress=show_progress,
    )
    tensors = check_tensors(inputs)
    check_choice("kernel", kernel, KERNELS)
    check_positive("radius", radius)
    if not isinstance(return_stderr, bool):
        raise TypeError(f"return_stderr must be True or False, got {return_stderr!r}")
    check_int("n_samples", n_samples, 2 if return_stderr else 1)
    device = tensors[0].device
    with run.own_arithmetic(device), seeded_generators(seed, device):
        query = ExplanationQuery(
            explanation_func, tensors, kwargs, run, takes_tuple=isinstance(inputs, tuple)
        )
        points = Neighbours(query.inputs, kernel, radius, seed, _STREAM)
        sums = _summed(query, points, n_samples, run)
        means = tuple(s.mean(n_samples) for s in sums)
        if not return_stderr:
            return means if query.returns_tuple else means[0]
        errors = tuple(s.stderr(n_samples) for s in sums)
    return (means, errors) if query.returns_tuple else (means[0], errors[0])


def _summed(query: ExplanationQuery, points: Neighbours, n: int, run: Run) -> list[_Sums]:
    """Return the sums of each tensor of the explanations."""
    n_rows = len(query.inputs[0])
    sums: list[_Sums] = []
    with run.progress(n_rows * n, "smooth_explanation", unit="call") as bar:
        for rows, first, count in query.pieces(n):
            owner = rows.repeat_interleave(count)
            found = query(points(rows, first, count), owner)
            sums = sums or [_Sums(n_rows, explanation) for explanation in found]
            for total, explanation in zip(sums, found, strict=True):
                total.add(rows.to(explanation.device), explanation.unflatten(0, (-1, count)))
            bar.update(len(owner))
    return sums


class _Sums:
    """Sums of explanations and of their squares, both of what they differ from the first one by.

    The spread of explanations can be far below their size: sums of plain squares would cancel.

    Args:
        n_rows: The number of inputs.
        like: Explanations ``(N, ...)``.
    """

    def __init__(self, n_rows: int, like: Tensor):
        shape = n_rows, *like.shape[1:]
        self._dtype = like.dtype if like.is_floating_point() else torch.float32
        self._first = torch.empty(shape, dtype=torch.float64, device=like.device)
        self._total = torch.zeros_like(self._first)
        self._squares = torch.zeros_like(self._first)
        self._begun = torch.zeros(n_rows, dtype=torch.bool, device=like.device)

    def add(self, rows: Tensor, explanations: Tensor) -> None:
        """Add the next ``(len(rows), count, ...)`` of some rows."""
        new = rows[~self._begun[rows]]
        if len(new):
            self._first[new] = explanations[~self._begun[rows], 0].double()
            self._begun[new] = True
        first, total, squares = (t[rows] for t in (self._first, self._total, self._squares))
        # One by one: no batch size changes the order of the sum.
        for explanation in explanations.unbind(1):
            change = explanation.double() - first
            total += change
            squares.addcmul_(change, change)
        self._total[rows], self._squares[rows] = total, squares

    def mean(self, n: int) -> Tensor:
        """Return the mean of n explanations."""
        return (self._first + self._total / n).to(self._dtype)

    def stderr(self, n: int) -> Tensor:
        """Return its standard error."""
        spread = (self._squares - self._total.square() / n).clamp(min=0)
        return (spread / (n - 1) / n).sqrt().to(self._dtype)
