"""Max-sensitivity: how far an explanation moves when its input moves a little."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from hessx.generators import seeded_generators
from hessx.perturb.neighbours import Neighbours
from hessx.perturb.perturbation import Perturbation
from hessx.query import ExplanationQuery
from hessx.run import Run, all_finite, check_at_least_zero, check_choice, check_int, check_tensors

_STREAM = 210
# Points that a function of the user's draws at once where a seed is given: the generators are
# seeded anew for each such block, whatever the batches.
_BLOCK = 16


def sensitivity_max(
    explanation_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    perturb_func: Callable[..., Any] | None = None,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    norm_ord: float | str = "fro",
    max_examples_per_batch: int | None = None,
    *,
    normalize: Literal["captum", "unit"] | None = "captum",
    seed: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Return the largest change of an explanation over points near each input.

    ``SENS_MAX(Phi, x, r) = max over |u|_inf <= r of |Phi(x + u) - Phi(x)|``, the maximum taken over
    random points. A drop-in for Captum's function of this name: the arguments up to
    ``max_examples_per_batch`` and ``kwargs`` are its own. What it adds: reproducible points, three
    ways to normalise, half types, norms in float64, batches that fit in memory, and errors where an
    explanation is missing, misshapen or not finite.

    Args:
        explanation_func: From inputs ``(N, *shape)`` and ``kwargs`` to explanations, a tensor or a
            tuple of tensors with N examples each: a Captum method's ``attribute``, a function of
            ``hessx``, any callable. It may use autograd.
        inputs: ``(B, *shape)``, finite, or a tuple of such.
        perturb_func: From inputs, and ``perturb_radius`` if it has a second parameter (builtins
            without a signature have none), to perturbed inputs of the same shapes; it is given a
            tuple where inputs are several. Uniform noise in the L_inf ball unless given.
        perturb_radius: The radius r, >= 0.
        n_perturb_samples: Points around each input, >= 1.
        norm_ord: Of the vector norm over all numbers of an explanation: "fro" (2), a number, or
            +-inf. "nuc" is 2 as well: explanations are rows, matrices of rank one.
        max_examples_per_batch: The most examples in one call of ``explanation_func``. With
            ``seed=None`` it also decides, as in Captum, how many points ``perturb_func`` draws in
            one call.
        normalize: "captum": changes are divided by ``|Phi(x)|`` (by 1 where that is 0); "unit":
            every explanation is first divided by its own norm (0 stays 0), as in the paper's
            experiments; None: neither.
        seed: None makes the calls that Captum makes: ``perturb_func`` draws from the global
            generators for all inputs at once, each repeated, and ``explanation_func`` is given a
            tuple, also for a single tensor, unless ``perturb_func`` returns a tensor. An int is a
            key: points depend on it and on their number alone, not on batches or on what else is
            scored, and are shared by all inputs; ``explanation_func`` is given what ``inputs`` is,
            a tensor or a tuple, in batches that fit in memory; a ``perturb_func`` is called for one
            input at a time with the generators of torch, NumPy and Python seeded; they are left as
            they were found. An explanation that draws from them draws other numbers than
            ``perturb_func``, the same in every run, but others in other batches.
        memory_limit: Bytes of working storage; a share of what is free unless given. With
            ``seed=None``, calls of ``explanation_func`` are split only where it is given.
        show_progress: Show a progress bar with the time left.
        **kwargs: Handed to ``explanation_func``. ``target``, ``baselines``, ``feature_mask`` and
            ``additional_forward_args`` with an entry for each input go with it.

    Returns:
        ``(B,)``, float64.

    Raises:
        TypeError: If an argument is of a wrong type, or a function returns no tensors.
        ValueError: If an argument is out of range, or what a function returns is of a wrong shape
            or not finite.

    Source:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations (NeurIPS 2019),
        Definition 3.1; unit norm: appendix B.1.

    Example:
        >>> import torch, hessx
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> score = hessx.sensitivity_max(lambda x: 2 * x, x, normalize=None, seed=0)
        >>> bool((score <= 2 * 0.02 * 2**0.5).all())
        True
        >>> torch.equal(score[0], score[1])
        True
    """
    run = Run(
        seed=0 if seed is None else seed,
        max_examples_per_batch=max_examples_per_batch,
        memory_limit=memory_limit,
        show_progress=show_progress,
    )
    by_default = seed is not None and perturb_func is None
    tensors = check_tensors(inputs, floating=by_default)
    check_at_least_zero("perturb_radius", perturb_radius)
    radius = float(perturb_radius)
    perturb = None if perturb_func is None else _with_radius(perturb_func, radius)
    check_int("n_perturb_samples", n_perturb_samples, 1)
    order = _norm_order(norm_ord)
    if normalize is not None:
        check_choice("normalize", normalize, ("captum", "unit"))
    device = tensors[0].device
    with run.own_arithmetic(device):
        query = ExplanationQuery(
            explanation_func, tensors, kwargs, run, takes_tuple=isinstance(inputs, tuple)
        )
        if seed is None:
            perturb = perturb or (lambda x: _uniform_noise(x, radius))
            return _as_captum(query, perturb, n_perturb_samples, order, normalize, run)
        points = (
            Neighbours(query.inputs, "uniform", radius, seed, _STREAM)
            if perturb is None
            else _DrawnPoints(query.inputs, perturb, seed)
        )
        with seeded_generators(seed, device):
            return _by_number(query, points, n_perturb_samples, order, normalize, run)


def _by_number(
    query: ExplanationQuery,
    points: Callable[[Tensor, int, int], tuple[Tensor, ...]],
    n: int,
    order: float,
    normalize: str | None,
    run: Run,
) -> Tensor:
    """Return the largest change over numbered points."""
    change = _Change(query.at_inputs(), order, normalize)
    worst = torch.zeros(len(query.inputs[0]), dtype=torch.float64, device=change.device)
    with run.progress(len(worst) * n, "sensitivity_max", unit="call") as bar:
        for rows, first, count in query.pieces(n):
            owner = rows.repeat_interleave(count)
            found = change(query(points(rows, first, count), owner), owner)
            rows = rows.to(worst.device)
            worst[rows] = worst[rows].maximum(found.reshape(-1, count).amax(1))
            bar.update(len(owner))
    return worst


def _as_captum(
    query: ExplanationQuery,
    perturb: Callable[..., Any],
    n: int,
    order: float,
    normalize: str | None,
    run: Run,
) -> Tensor:
    """Return the largest change over points drawn as Captum draws them."""
    n_rows = len(query.inputs[0])
    rows = torch.arange(n_rows, device=query.inputs[0].device)
    at_once = n
    if run.max_examples_per_batch is not None:
        if run.max_examples_per_batch < n_rows:
            warnings.warn(
                f"max_examples_per_batch must be at least the batch size {n_rows} with seed=None, "
                f"got {run.max_examples_per_batch}: as in Captum, {n_rows} examples are taken",
                stacklevel=3,
            )
        at_once = min(max(run.max_examples_per_batch // n_rows, 1), n)
    change = _Change(query.ask(query.inputs), order, normalize)
    worst = torch.zeros(n_rows, dtype=torch.float64, device=change.device)
    with run.progress(n_rows * n, "sensitivity_max", unit="call") as bar:
        for first in range(0, n, at_once):
            count = min(at_once, n - first)
            owner = rows.repeat_interleave(count)
            x = _checked_points(perturb, tuple(t[owner] for t in query.inputs))
            step = len(owner) if run.memory_limit is None else query.examples_per_batch
            found = []
            for part in torch.arange(len(owner), device=owner.device).split(step):
                some = tuple(t[part] for t in x) if isinstance(x, tuple) else x[part]
                found.append(change(query.ask(some, owner[part]), owner[part]))
                bar.update(len(part))
            worst = worst.maximum(torch.cat(found).reshape(n_rows, count).amax(1))
    return worst


class _Change:
    """The norm of an explanation's change from that of its input, normalised.

    Args:
        clean: The explanations of the inputs, ``(B, ...)`` each.
        order: Of the norm.
        normalize: As for :func:`sensitivity_max`.
    """

    def __init__(self, clean: tuple[Tensor, ...], order: float, normalize: str | None):
        self._order = order
        self._unit = normalize == "unit"
        # A copy: the function may fill one buffer in every call.
        self._clean = _joined(clean).clone()
        size = self._size(self._clean)
        self._scale = size if normalize == "captum" else torch.ones_like(size)
        if self._unit:
            self._clean = self._clean / size[:, None]
        self.device = self._clean.device

    def __call__(self, found: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """Return it ``(N,)`` for explanations of examples that belong to these rows."""
        rows = rows.to(self.device)
        explained = _joined(found)
        if self._unit:
            explained = explained / self._size(explained)[:, None]
        # A single one is not repeated: it broadcasts.
        change = explained - (self._clean if len(self._clean) == 1 else self._clean[rows])
        return torch.linalg.vector_norm(change, self._order, dim=1) / self._scale[rows]

    def _size(self, explained: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(explained, self._order, dim=1)
        return torch.where(size == 0, 1.0, size)


class _DrawnPoints:
    """Points that a function of the user's draws, by number, in blocks with seeds of their own."""

    def __init__(self, inputs: tuple[Tensor, ...], perturb: Callable[..., Any], seed: int):
        self._inputs = inputs
        self._perturb = perturb
        self._seed = seed

    def __call__(self, rows: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
        """Return points ``first ...`` of some rows, ``(len(rows) count, *shape)`` each."""
        start = first - first % _BLOCK
        parts = []
        for row in rows.split(1):
            blocks = [self._block(row, block) for block in range(start, first + count, _BLOCK)]
            drawn = (torch.cat(part) for part in zip(*blocks, strict=True))
            parts.append([t[first - start : first - start + count] for t in drawn])
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _block(self, row: Tensor, first: int) -> tuple[Tensor, ...]:
        repeated = tuple(t[row].repeat_interleave(_BLOCK, dim=0) for t in self._inputs)
        with seeded_generators(self._seed, row.device, first):
            found = _checked_points(self._perturb, repeated)
        # Copies: it may fill one buffer in every call.
        return tuple(t.clone() for t in (found if isinstance(found, tuple) else (found,)))


def _checked_points(
    perturb: Callable[..., Any], x: tuple[Tensor, ...]
) -> Tensor | tuple[Tensor, ...]:
    """Ask for perturbed inputs and return them as they come."""
    found = perturb(x if len(x) > 1 else x[0])
    tensors = found if isinstance(found, tuple) else (found,)
    if not all(isinstance(t, Tensor) for t in tensors):
        kinds = ", ".join(type(t).__name__ for t in tensors)
        raise TypeError(f"perturb_func must return a tensor or a tuple of tensors, got {kinds}")
    shapes, expected = ([tuple(t.shape) for t in some] for some in (tensors, x))
    if shapes != expected:
        raise ValueError(f"perturb_func must return inputs of shape {expected}, got {shapes}")
    if not all(map(all_finite, tensors)):
        raise ValueError("perturb_func must return finite numbers")
    return found


def _uniform_noise(inputs: Tensor | tuple[Tensor, ...], radius: float) -> tuple[Tensor, ...]:
    """Add uniform noise from the global generator, in the type of the inputs."""
    return tuple(
        x
        # Always drawn in float32 on the CPU, as by Captum: the same numbers for every type.
        + torch.empty(x.shape, dtype=torch.float32, device="cpu")
        .uniform_(-radius, radius)
        .to(x.device, x.dtype if x.is_floating_point() else torch.float32)
        for x in (inputs if isinstance(inputs, tuple) else (inputs,))
    )


def _joined(explanations: tuple[Tensor, ...]) -> Tensor:
    """Return them as rows in float64, which may be the memory of the only one."""
    rows = [e.reshape(len(e), -1).double() for e in explanations]
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)


def _with_radius(perturb_func: Any, radius: float) -> Callable[..., Any]:
    """Return a function of inputs alone."""
    if not callable(perturb_func):
        raise TypeError(f"perturb_func must be callable, got {type(perturb_func).__name__}")
    if isinstance(perturb_func, Perturbation):
        raise TypeError(
            "perturb_func must return perturbed inputs: a law of hessx.perturb, which also returns "
            "the perturbations, is for infidelity"
        )
    try:
        parameters = signature(perturb_func).parameters
    except ValueError:
        # Builtins, as those of torch, have no signature.
        return perturb_func
    if len(parameters) > 1:
        return lambda x: perturb_func(x, radius)
    return perturb_func


def _norm_order(norm_ord: Any) -> float:
    if isinstance(norm_ord, str):
        check_choice("norm_ord", norm_ord, ("fro", "nuc"))
        return 2.0
    if isinstance(norm_ord, bool) or not isinstance(norm_ord, (int, float)):
        raise TypeError(f'norm_ord must be "fro", "nuc" or a number, got {norm_ord!r}')
    if math.isnan(norm_ord):
        raise ValueError("norm_ord must be a number, got nan")
    return float(norm_ord)
