"""What the demo computes of LEG and LEG-TV: the gradient on a grid, from answers alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hessx.demo.classes import ClassScore, score_classes
from hessx.demo.classifier import Classifier
from hessx.demo.photograph import Photograph
from hessx.explain import Leg, LegTV, leg, leg_tv_from
from hessx.features import Grid
from hessx.run import check_choice
from hessx.score.class_scores import ClassScores

DEFAULT_LEG_GRID = 28
# The most at which the strong differences of chelsea.png stand clear of their noise with so many
# samples. The paper's sigma^2 from .05 to .3 for inputs in [0, 1] drowns a photograph.
DEFAULT_LEG_SIGMA = 0.03
DEFAULT_LEG_SAMPLES = 1500
DEFAULT_K_L = (0.05, 0.1, 0.2, 0.4, 0.6, 0.9)
# Larger batches are no faster on a CPU and take gigabytes.
_BATCH = 32


@dataclass(frozen=True, eq=False)
class LegMaps:
    """LEG, and LEG-TV for several values of L, of the log-odds of one class.

    Attributes:
        photograph: What was explained.
        classifier: The network that was asked.
        classes: The most probable classes, best first.
        target: The class whose log-odds it is.
        leg: The estimate from the answers, ``gamma (1, C, p1, p2)``; C is 1 for shared channels.
        path: LEG-TV of it for each of ``K_L``, ``gamma (1, M, C, p1, p2)``, or None.
        K_L: The shares of ``L_max``, empty without a path.
        seed: Of the noise.
        seconds: Wall clock of everything.
    """

    photograph: Photograph
    classifier: Classifier
    classes: tuple[ClassScore, ...]
    target: ClassScore
    leg: Leg
    path: LegTV | None
    K_L: tuple[float, ...]
    seed: int
    seconds: float

    @property
    def title(self) -> str:
        """The methods that it shows."""
        return "LEG" if self.path is None else "LEG, LEG-TV"


def explain_cells(
    classifier: Classifier,
    photograph: Photograph,
    *,
    method: str = "leg-tv",
    target: int | None = None,
    grid: int = DEFAULT_LEG_GRID,
    channels: Literal["shared", "separate"] = "shared",
    sigma: float = DEFAULT_LEG_SIGMA,
    n_samples: int = DEFAULT_LEG_SAMPLES,
    K_L: Sequence[float] = DEFAULT_K_L,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> LegMaps:
    """Explain the log-odds of one class by the cells that raise and lower it.

    The network is a black box here: it is asked for its answers to noisy pictures, clipped to what
    a picture can hold. The noise is interpolated between the cells, as steps from cell to cell
    would be edges that the network reacts to.

    Args:
        classifier: The network.
        photograph: The picture.
        method: ``"leg-tv"``, with LEG beside it, or ``"leg"`` alone.
        target: The class to explain, by default the most probable one.
        grid: Rows and columns of the grid.
        channels: Whether the colours of a cell are shifted together or each for itself.
        sigma: Of the GridTV noise, in units of the inputs, > 0; a cell inside the grid has twice
            that as its standard deviation.
        n_samples: Noisy pictures.
        K_L: The values of L, as shares of the one that leaves a constant, each in (0, 1].
        seed: Of the noise, >= 0.
        report: Called with a line of text when something is done.

    Returns:
        The maps.

    Raises:
        ValueError: If the target is no class, or an argument is outside its range.
    """
    started = time.perf_counter()
    check_choice("method", method, ("leg", "leg-tv"))
    inputs = classifier.inputs(photograph.pixels)
    classes, explained = score_classes(classifier, inputs, target)
    report(
        f"explains   the log-odds of {explained.name!r} (class {explained.index}): "
        f"probability {explained.probability:.3f}"
    )
    log_odds = ClassScores("log-odds", "logits")
    low, high = ((level - classifier.mean) / classifier.scale for level in (0, 255))
    estimate = leg(
        lambda x: log_odds(classifier.model(x)),
        inputs,
        explained.index,
        features=Grid((grid, grid), channels=channels, mode="bilinear"),
        sigma=sigma,
        n_samples=n_samples,
        clip=(low, high),
        seed=seed,
        max_examples_per_batch=_BATCH,
        show_progress=sys.stderr.isatty(),
    )
    path = None if method == "leg" else leg_tv_from(estimate, K_L=list(K_L))
    maps = LegMaps(
        photograph,
        classifier,
        classes,
        explained,
        estimate,
        path,
        () if path is None else tuple(K_L),
        seed,
        time.perf_counter() - started,
    )
    _report(report, maps)
    return maps


def _report(report: Callable[[str], None], maps: LegMaps) -> None:
    estimate, path = maps.leg, maps.path
    report(
        f"leg        {estimate.n_evaluations} evaluations, {estimate.seconds:.1f} s "
        f"({estimate.model_seconds / estimate.seconds:.1%} inside the model), "
        f"{estimate.clear_share:.0%} of the numbers beyond 2 standard errors"
    )
    if path is not None:
        values = "1 value" if len(maps.K_L) == 1 else f"{len(maps.K_L)} values"
        report(
            f"leg-tv     {values} of L, gap {float(path.gap.max()):.1g}, "
            f"{path.solver_seconds * 1000:.1f} ms"
        )
