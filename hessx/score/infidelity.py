"""Infidelity: how far an explanation's answers to perturbations are from the model's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hessx.perturb import Perturbation
from hessx.perturb.function import PerturbCall, as_tuple, law_of
from hessx.query import Targets
from hessx.query.joined import black_box_of
from hessx.run import Run, check_tensors
from hessx.score.answers import answers_by_number, answers_of_calls


def infidelity(
    forward_func: Callable[..., Any],
    perturb_func: Perturbation | Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    baselines: Any = None,
    additional_forward_args: Any = None,
    target: Any = None,
    n_perturb_samples: int | None = 10,
    max_examples_per_batch: int | None = None,
    normalize: bool = False,
    *,
    seed: int | None = None,
    return_stderr: bool = False,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Score explanations by the mean squared error of their answers to perturbations.

    ``INFD(Phi) = E_I[(I^T Phi - (f(x) - f(x - I)))^2]``. A drop-in for Captum's function of this
    name: the arguments up to ``normalize`` are its own. What it adds: several explanations and
    targets from the same evaluations of the model, standard errors, reproducible perturbations,
    sums without cancellation, evaluations that fit in memory.

    Args:
        forward_func: From examples ``(N, *shape)`` (one argument for each tensor of ``inputs``) to
            ``(N,)`` or ``(N, c)``; no gradient is needed, and NumPy arrays may be returned.
        perturb_func: A law of ``hessx.perturb``, or a function of inputs (and baselines, if given)
            that returns perturbations I and perturbed inputs ``x - I``, each shaped like its
            inputs; where those are a tuple, tuples. For explanations that have the input multiplied
            in (global ones) the perturbations are ``I / (x - baseline)``, which is what the masks
            of ``hessx.perturb`` return. One decorated with
            :func:`hessx.infidelity_perturb_func_decorator` returns perturbed inputs alone.
        inputs: ``(B, *shape)``, finite, or a tuple of such.
        attributions: Like ``inputs``, or with a leading axis of K explanations, ``(K, B, *shape)``.
            With ``Targets`` of T targets: ``(T, B, *shape)`` or ``(T, K, B, *shape)``.
        baselines: What removed numbers become, for ``perturb_func``: a number, a tensor of B or 1
            examples, or a tuple of these.
        additional_forward_args: Passed to ``forward_func`` after the inputs; tensors with a first
            dimension of B row by row.
        target: Which output, in Captum's convention; None for a single output. Or a
            ``hessx.Contrast``, or ``hessx.Targets``.
        n_perturb_samples: Perturbations of each input, >= 1; None for all that there are, with a
            law that lists them (``hessx.perturb.Square``).
        max_examples_per_batch: The most examples in one call of the model. With ``seed=None`` also
            decides, as in Captum, how many perturbations a call of ``perturb_func`` draws.
        normalize: Score ``beta Phi`` with ``beta = E[I^T Phi (f(x) - f(x - I))] / E[(I^T Phi)^2]``,
            the scale that answers best.
        seed: None draws as Captum does: ``perturb_func`` is called with each input repeated
            ``n_perturb_samples`` times in a row, in pieces of ``max_examples_per_batch``, and draws
            from the global generators. An int is a key: the perturbations then depend on it and on
            their number alone, not on batches or on what else is scored, and are shared by all
            inputs; a function is called for one input at a time with the generators of torch, NumPy
            and Python seeded and put back.
        return_stderr: Return standard errors, too.
        memory_limit: Bytes of working storage; a share of what is free unless given. Without it and
            with ``seed=None``, ``perturb_func`` is asked for what Captum would ask.
        show_progress: Show a progress bar with the time left.

    Returns:
        The scores, float64, ``(B,)`` with the leading axes of ``attributions``; with
        ``return_stderr`` a pair, the second ``std((I^T Phi - (f(x) - f(x - I)))^2) / sqrt(n)`` (nan
        for one perturbation, 0 for all listed ones).

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range, shapes do not fit, or inputs, explanations,
            perturbations or outputs are not finite.

    Source:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations (NeurIPS 2019),
        Definition 2.1; appendix B.1 for the optimal scaling.

    Example:
        >>> import torch, hessx
        >>> weight = torch.tensor([[1.0, -2.0, 3.0]])
        >>> f = lambda x: (x * weight).sum(1)
        >>> noise = hessx.perturb.Gaussian(0.1)
        >>> x = torch.ones(1, 3)
        >>> explanations = torch.stack([weight, torch.zeros(1, 3)])
        >>> scores = hessx.infidelity(f, noise, x, explanations, n_perturb_samples=1000, seed=0)
        >>> scores.round(decimals=2)
        tensor([[0.0000],
                [0.1400]], dtype=torch.float64)
    """
    run = Run(
        0 if seed is None else seed,
        additional_forward_args,
        max_examples_per_batch,
        memory_limit,
        show_progress,
    )
    for name, value in (("normalize", normalize), ("return_stderr", return_stderr)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    tensors = check_tensors(inputs)
    lead, explanations = _checked_attributions(attributions, tensors, target)
    law = law_of(perturb_func, tensors, baselines, n_perturb_samples, seed)
    call = None if law is not None else PerturbCall(perturb_func, tensors, baselines)
    n = n_perturb_samples if law is None or n_perturb_samples is not None else law.size
    assert n is not None
    with run.own_arithmetic(tensors[0].device):
        query = black_box_of(forward_func, tensors, target, run)
        parts = []
        for rows in _rows_at_once(explanations[0], n, run, whole=law is None and seed is None):
            if law is not None:
                some = explanations[0][rows]
                answers = answers_by_number(query, law, some, n_perturb_samples, run, rows)
            else:
                assert call is not None
                answers = answers_of_calls(query, call, explanations, n, seed, run, rows)
            errors = answers.errors(answers.scale() if normalize else None).square()
            parts.append((answers.mean(errors), answers.stderr(errors)))
    score, stderr = (
        torch.cat(found).movedim(0, -1).reshape(*lead, -1) for found in zip(*parts, strict=True)
    )
    return (score, stderr) if return_stderr else score


def _rows_at_once(explanations: Tensor, n: int, run: Run, whole: bool) -> Iterable[Tensor]:
    """Return numbers of inputs, as many at once as memory takes; all where ``whole``."""
    n_rows, n_targets, n_kinds, _ = explanations.shape
    # Answers, errors, their squares and one copy.
    numbers = n * n_targets * (4 * n_kinds + 2)
    rows = torch.arange(n_rows, device=explanations.device)
    what = f"{n} perturbations"
    if whole:
        run.rows_in_memory(8 * numbers * n_rows, rows.device, what)
        return (rows,)
    return rows.split(run.rows_in_memory(8 * numbers, rows.device, what))


def _checked_attributions(
    attributions: Any, tensors: tuple[Tensor, ...], target: Any
) -> tuple[torch.Size, list[Tensor]]:
    """Return the leading axes and the explanations of each input, ``(B, T, K, d)``."""
    given = as_tuple(attributions)
    if len(given) != len(tensors):
        raise ValueError(
            f"attributions must be as many tensors as inputs, {len(tensors)}, got {len(given)}"
        )
    several = (len(target),) if isinstance(target, Targets) else ()
    leads, explanations = [], []
    for i, (a, x) in enumerate(zip(given, tensors, strict=True)):
        name = "attributions" if len(given) == 1 else f"attributions[{i}]"
        if not isinstance(a, Tensor) or not a.is_floating_point():
            kind = a.dtype if isinstance(a, Tensor) else type(a).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
        lead = a.shape[: max(0, a.dim() - x.dim())]
        fits = a.shape[len(lead) :] == x.shape and lead[: len(several)] == several
        if not fits or len(lead) > len(several) + 1 or 0 in lead:
            one, more = (*several, *x.shape), (*several, "K", *x.shape)
            shapes = f"{one} or {more}".replace("'", "")
            raise ValueError(f"{name} must be of shape {shapes}, got {tuple(a.shape)}")
        if a.device != x.device:
            raise ValueError(f"{name} must be on {x.device} like the inputs, got {a.device}")
        if not a.isfinite().all():
            raise ValueError(f"{name} must be finite")
        leads.append(lead)
        # Half types go exactly into float32.
        exact = a.detach().to(torch.promote_types(a.dtype, torch.float32))
        split = exact.reshape(*(several or (1,)), -1, len(x), x[0].numel())
        explanations.append(split.movedim(2, 0))
    if any(lead != leads[0] for lead in leads):
        raise ValueError(f"attributions must have the same leading axes, got {leads}")
    return leads[0], explanations
