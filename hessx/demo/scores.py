"""What the demo computes of the scores of maps: infidelity by several laws, and sensitivity."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.demo.classes import ClassScore, score_classes
from hessx.demo.classifier import Classifier
from hessx.demo.laws import Law
from hessx.demo.photograph import Photograph
from hessx.demo.scored_maps import MapToScore, log_odds
from hessx.run import Run, check_at_least_zero, check_int
from hessx.score import sensitivity_max
from hessx.score.unexplained import unexplained

# Standard errors of the shares on chelsea.png are then 2 to 4 %.
DEFAULT_SCORE_SAMPLES = 300
# Captum's default, 2.6 grey levels here.
DEFAULT_RADIUS = 0.02
_POINTS = 10
# Larger batches are no faster on a CPU and take gigabytes.
_BATCH = 32


@dataclass(frozen=True)
class Share:
    """How much of what a law of perturbations does to the log-odds a map leaves unexplained.

    Attributes:
        value: From 0 to 1; nan where no perturbation changes the log-odds.
        stderr: Its standard error.
        reversed: Whether the map answers best when it is turned round.
    """

    value: float
    stderr: float
    reversed: bool


@dataclass(frozen=True)
class MapScore:
    """The scores of one map.

    Attributes:
        name: Of the map.
        shares: For each law; None where the map has not the law's form.
        sensitivity: Or None where the map costs more than a gradient.
    """

    name: str
    shares: tuple[Share | None, ...]
    sensitivity: float | None

    def is_reversed(self, column: int) -> bool:
        """Return whether the map answers a law best when turned round.

        Args:
            column: The law, or the number of laws for the sensitivity, which has no sign.
        """
        share = self.shares[column] if column < len(self.shares) else None
        return share is not None and share.reversed


@dataclass(frozen=True, eq=False)
class MapScores:
    """Scores of maps of the log-odds of one class.

    Attributes:
        photograph: What was explained.
        classifier: The network that was asked.
        classes: The most probable classes, best first.
        target: The class whose log-odds it is.
        laws: Of the perturbations.
        maps: Their scores.
        n_samples: Perturbations of each law.
        radius: Of the sensitivities, in units of the inputs.
        n_points: Pictures within the radius.
        n_evaluations: All pictures that the network was asked about for the shares.
        n_gradients: The same for the sensitivities.
        seed: Of all draws.
        seconds: Wall clock of everything.
    """

    photograph: Photograph
    classifier: Classifier
    classes: tuple[ClassScore, ...]
    target: ClassScore
    laws: tuple[Law, ...]
    maps: tuple[MapScore, ...]
    n_samples: int
    radius: float
    n_points: int
    n_evaluations: int
    n_gradients: int
    seed: int
    seconds: float

    @property
    def any_reversed(self) -> bool:
        """Whether a map answers a law best when turned round."""
        return any(each.is_reversed(law) for each in self.maps for law in range(len(self.laws)))

    def best(self, column: int) -> int | None:
        """Return the number of the map with the least share of a law; reversed ones do not count.

        Args:
            column: The law, or the number of laws for the sensitivity.

        Returns:
            None where there is none to choose.
        """
        found = {
            row: value
            for row, each in enumerate(self.maps)
            if (value := _comparable(each, column)) is not None
        }
        return min(found, key=found.__getitem__) if found else None


def score_maps(
    classifier: Classifier,
    photograph: Photograph,
    maps: Sequence[MapToScore],
    laws: Sequence[Law],
    *,
    target: int | None = None,
    n_samples: int = DEFAULT_SCORE_SAMPLES,
    radius: float = DEFAULT_RADIUS,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> MapScores:
    """Score maps of the log-odds of one class: all of them by the same answers of the network.

    Args:
        classifier: The network.
        photograph: The picture that the maps explain.
        maps: The maps.
        laws: Of the perturbations, for this photograph.
        target: The class that they explain, by default the most probable one.
        n_samples: Perturbations of each law, >= 2.
        radius: Of the sensitivities, in units of the inputs, >= 0.
        seed: Of all draws, >= 0.
        report: Called with a line of text when something is done.

    Returns:
        The scores.

    Raises:
        TypeError: If a number is of a wrong type.
        ValueError: If the target is no class, or an argument is outside its range.
    """
    started = time.perf_counter()
    check_int("n_samples", n_samples, 2)
    check_at_least_zero("radius", radius)
    run = Run(seed, None, _BATCH, show_progress=sys.stderr.isatty())
    inputs = classifier.inputs(photograph.pixels)
    classes, explained = score_classes(classifier, inputs, target)
    n_evaluations = 0
    columns: list[list[Share | None]] = []
    for law in laws:
        shares, asked = _shares(classifier, inputs, maps, law, explained.index, n_samples, run)
        columns.append(shares)
        n_evaluations += asked
    sensitivities = [
        None
        if each.explain is None
        else sensitivity_max(
            each.explain, inputs, None, radius, _POINTS, "fro", _BATCH, normalize="unit", seed=seed
        ).item()
        for each in maps
    ]
    scored = tuple(
        MapScore(each.name, tuple(column[row] for column in columns), sensitivities[row])
        for row, each in enumerate(maps)
    )
    result = MapScores(
        photograph,
        classifier,
        classes,
        explained,
        tuple(laws),
        scored,
        n_samples,
        radius,
        _POINTS,
        n_evaluations,
        # One more at the picture itself.
        (_POINTS + 1) * sum(each.explain is not None for each in maps),
        seed,
        time.perf_counter() - started,
    )
    report(
        f"scores     {len(maps)} maps, {n_evaluations} evaluations and {result.n_gradients} "
        f"gradients, {result.seconds:.1f} s"
    )
    return result


def _shares(
    classifier: Classifier,
    inputs: Tensor,
    maps: Sequence[MapToScore],
    law: Law,
    target: int,
    n_samples: int,
    run: Run,
) -> tuple[list[Share | None], int]:
    """Return the shares of the maps by one law, and for how many pictures the network was asked."""
    fitting = [row for row, each in enumerate(maps) if law.multiplied or not each.multiplied]
    found: list[Share | None] = [None] * len(maps)
    if not fitting:
        return found, 0
    attributions = [_in_form(maps[row], law, inputs) for row in fitting]
    result = unexplained(
        log_odds(classifier),
        law.perturbation.bind(inputs, law.baseline, run.seed),
        torch.stack(attributions),
        target,
        n_samples,
        run,
    )
    numbers = (result.share[:, 0], result.stderr[:, 0], result.scale[:, 0])
    for row, share, stderr, scale in zip(fitting, *(n.tolist() for n in numbers), strict=True):
        found[row] = Share(share, stderr, scale < 0)
    return found, result.n_evaluations


def _in_form(each: MapToScore, law: Law, inputs: Tensor) -> Tensor:
    """Return a map in the form that the law's perturbations multiply."""
    if each.multiplied or not law.multiplied:
        return each.attribution
    assert law.baseline is not None
    return each.attribution * (inputs - law.baseline)


def _comparable(each: MapScore, column: int) -> float | None:
    """Return a number of the table where it takes part in the choice of the best."""
    if column == len(each.shares):
        return each.sensitivity
    share = each.shares[column]
    if share is None or share.reversed or math.isnan(share.value):
        return None
    return share.value
