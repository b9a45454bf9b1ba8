"""Deletion curves: what becomes of a score as the most important cells are masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hessx.run import Run, check_choice, check_inputs
from hessx.score.cells import Cells, cells_of
from hessx.score.class_scores import ClassScores, ScoreQuery

DEFAULT_STEPS = 20


@dataclass(frozen=True, eq=False, repr=False)
class DeletionCurve:
    """A score against the share of cells masked, the most important first.

    Attributes:
        fractions: ``(F,)`` float64, the shares of the cells that were masked, in whole cells.
        scores: ``(B, F)`` or ``(K, B, F)`` float64.
        auc: ``(B,)`` or ``(K, B)`` float64: the area under the curve by trapezoids, divided by its
            width, which is the mean height. The smaller, the faster the score falls.
        n_evaluations: All examples that the model was asked for.
    """

    fractions: Tensor
    scores: Tensor
    auc: Tensor
    n_evaluations: int

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.4g}" for value in self.auc.flatten()[:4].tolist())
        more = ", ..." if self.auc.numel() > 4 else ""
        return (
            f"DeletionCurve(scores={tuple(self.scores.shape)}, "
            f"fractions={self.fractions[0]:.3g} to {self.fractions[-1]:.3g}, auc=[{shown}{more}])"
        )


def deletion_curve(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Tensor,
    target: Any = None,
    *,
    baseline: float | Sequence[float] | Tensor = 0.0,
    fractions: Sequence[float] | None = None,
    ranking: Literal["magnitude", "signed"] = "magnitude",
    grid: Sequence[int] | None = None,
    output: Literal["log-odds", "log-probability", "probability", "raw"] = "log-odds",
    returns: Literal["logits", "probabilities"] = "logits",
    additional_forward_args: Any = None,
    max_examples_per_batch: int | None = None,
    memory_limit: int | None = None,
    show_progress: bool = False,
) -> DeletionCurve:
    """Mask the cells of each input in the order of their importance and follow the score.

    A cell is a number of a map: a pixel, or, where the map is coarser than the picture, the pixels
    ``i`` with ``floor(i cells / pixels)`` equal to the cell's number, all masked together in every
    channel. The importance of a cell is the mean over its pixels of

    * ``"magnitude"``: ``sum_channels |a|``, for maps whose sign says in which direction to change a
      pixel (gradients, LEG);
    * ``"signed"``: ``sum_channels a``, for maps whose sign says whether a pixel speaks for or
      against the class (Shapley values, LIME): what speaks against it is masked last.

    Cells of equal importance are masked in row-major order, from the top left. Nothing is random.

    Args:
        forward_func: From ``(N, *shape)`` to ``(N,)`` or ``(N, c)``; no gradient is needed, and
            NumPy arrays may be returned.
        inputs: ``(B, *shape)``, finite. A ``shape`` of three or more dimensions has its channels
            first, ``(C, H, W)``; one of one or two dimensions, ``(d,)`` or ``(H, W)``, has none.
        attributions: The maps, finite: ``(B, C', h, w)`` with any number of channels, ``(B, h, w)``
            without, or ``(K, B, C', h, w)`` for K maps of each input, scored from one set of calls
            (``(B, h, w)`` and ``(K, B, h, w)`` where inputs have no channels). h <= H and w <= W.
            The path of ``hessx.leg_tv``, ``gamma (B, M, C', h, w)`` for M values of L, is passed as
            ``gamma.movedim(1, 0)``.
        target: Which output, in Captum's convention; None for a single output. A
            ``hessx.Contrast(a, b)`` is the difference of their scores.
        baseline: What masked pixels become, in the units of ``inputs`` (black is not 0 for inputs
            from which a mean was subtracted): a number, one for each channel, a picture ``shape``,
            or one for each input ``(B, *shape)``.
        fractions: Shares of the cells to mask, increasing, in [0, 1]; each is rounded to whole
            cells. 0, .05, ..., 1 unless given.
        ranking: What counts as important, see above.
        grid: Rows and columns of the cells, if coarser than the map: finer maps are averaged, so
            that several can be compared at one size. The map's own unless given.
        output: The score of the target: "log-odds" ``log(p / (1 - p))``, "log-probability",
            "probability", with p the softmax's (the sigmoid's of a single output), or "raw", what
            ``forward_func`` returns.
        returns: What ``forward_func`` returns, "logits" or "probabilities". A probability of 0 or 1
            is taken as its type's smallest normal number away from it, so that logarithms stay
            finite.
        additional_forward_args: Passed to ``forward_func`` after the inputs.
        max_examples_per_batch: The most examples in one call of the model.
        memory_limit: Bytes of working storage; a share of what is free unless given.
        show_progress: Show a progress bar with the time left.

    Returns:
        The curve, of the shape of ``attributions`` without channels and cells.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range or shapes do not fit, or if the model returns a
            value that is not finite, or no probabilities although ``returns`` says so.

    Source:
        Statistically Consistent Saliency Estimation (LEG), section 5.2.

    Example:
        >>> import torch, hessx
        >>> weight = torch.tensor([4.0, -2.0, 1.0])
        >>> x = torch.ones(1, 3)
        >>> thirds = [0, 1 / 3, 2 / 3, 1]
        >>> f = lambda x: x @ weight
        >>> hessx.deletion_curve(f, x, weight[None], fractions=thirds).scores
        tensor([[ 3., -1.,  1.,  0.]], dtype=torch.float64)
        >>> hessx.deletion_curve(f, x, weight[None], fractions=thirds, ranking="signed").scores
        tensor([[ 3., -1., -2.,  0.]], dtype=torch.float64)
    """
    run = Run(
        additional_forward_args=additional_forward_args,
        max_examples_per_batch=max_examples_per_batch,
        memory_limit=memory_limit,
        show_progress=show_progress,
    )
    check_inputs(inputs)
    check_choice("ranking", ranking, ("magnitude", "signed"))
    scores = ClassScores(output, returns)
    filling = _checked_baseline(baseline, inputs)
    shares = _checked_fractions(fractions)
    with run.own_arithmetic(inputs.device):
        cells = cells_of(attributions, inputs, grid, signed=ranking == "signed")
        counts, place = (shares * cells.number).round().long().unique(return_inverse=True)
        jobs = _jobs(cells, counts)
        query = ScoreQuery(forward_func, inputs, target, run, scores)
        curve = _curve(query, inputs, cells, counts, jobs, filling, run)[:, :, place]
        exact = counts[place].to(inputs.device) / cells.number
        auc = _mean_height(curve, exact)
    if attributions.dim() <= inputs.dim():
        curve, auc = curve[0], auc[0]
    return DeletionCurve(exact, curve, auc, query.n_examples)


def _jobs(cells: Cells, counts: Tensor) -> Tensor:
    """Return ``(n, 3)``: map, row and place in ``counts`` of every picture to ask about.

    Once all is masked, the order in which it was does not matter: the first map stands for all.
    """
    K, B = (torch.arange(size, device="cpu") for size in cells.rank.shape[:2])
    inner = ((counts > 0) & (counts < cells.number)).nonzero()[:, 0]
    full = (counts == cells.number).nonzero()[:, 0]
    return torch.cat([torch.cartesian_prod(K, B, inner), torch.cartesian_prod(K[:1], B, full)])


def _curve(
    query: ScoreQuery,
    inputs: Tensor,
    cells: Cells,
    counts: Tensor,
    jobs: Tensor,
    filling: Tensor,
    run: Run,
) -> Tensor:
    """Return the scores ``(K, B, F)``."""
    K, B = cells.rank.shape[:2]
    curve = torch.empty(K, B, len(counts), dtype=torch.float64, device=inputs.device)
    curve[:, :, counts == 0] = query.value.double()[None, :, None]
    with run.progress(len(jobs), "deletion_curve", unit="call") as progress:
        # Where nothing is masked there is nothing to ask: no jobs still split into one empty part.
        for some in jobs.split(query.examples_per_batch) if len(jobs) else ():
            k, row, column = some.to(inputs.device).unbind(1)
            masked = cells.masked(k, row, counts.to(inputs.device)[column])
            x = torch.where(masked, filling[row] if len(filling) > 1 else filling, inputs[row])
            curve[k, row, column] = query.values(x, row).double()
            progress.update(len(some))
    full = counts == cells.number
    curve[:, :, full] = curve[:1, :, full]
    return curve


def _mean_height(curve: Tensor, fractions: Tensor) -> Tensor:
    width = float(fractions[-1] - fractions[0])
    if width == 0:
        return curve.mean(-1)
    return torch.trapezoid(curve, fractions, dim=-1) / width


def _checked_fractions(fractions: Sequence[float] | None) -> Tensor:
    if fractions is None:
        return torch.linspace(0, 1, DEFAULT_STEPS + 1, dtype=torch.float64, device="cpu")
    try:
        shares = torch.as_tensor(fractions, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"fractions must be numbers, got {fractions!r}") from error
    if shares.dim() != 1 or not len(shares):
        raise ValueError(f"fractions must be one or more numbers, got {fractions!r}")
    within = (shares >= 0) & (shares <= 1)
    if not within.all() or (shares.diff() <= 0).any():
        raise ValueError(f"fractions must increase within [0, 1], got {shares.tolist()}")
    return shares


def _checked_baseline(baseline: Any, inputs: Tensor) -> Tensor:
    """Return it as ``(1 or B, *shape)``, or of sizes that broadcast to that."""
    try:
        value = torch.as_tensor(baseline, device=inputs.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"baseline must be of numbers, got {baseline!r}") from error
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"baseline must be of numbers, got {value.dtype}")
    value = value.to(inputs.dtype)
    if not value.isfinite().all():
        raise ValueError("baseline must be finite")
    shape = inputs.shape[1:]
    if value.shape == inputs.shape:
        return value
    if value.shape == shape:
        return value[None]
    if value.dim() == 0:
        return value.expand(1, *shape)
    if len(shape) >= 3 and value.shape == shape[:1]:
        return value.reshape(1, -1, *[1] * (len(shape) - 1))
    raise ValueError(
        f"baseline must be a number, one for each channel, of shape {tuple(shape)} or of shape "
        f"{tuple(inputs.shape)}, got shape {tuple(value.shape)}"
    )
