"""Maps to score: those of the demo's page, and those that take seconds for any picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.demo.classes import score_classes
from hessx.demo.classifier import Classifier
from hessx.demo.explanation import Explanation
from hessx.demo.laws import mean_colour
from hessx.demo.leg import LegMaps
from hessx.demo.photograph import Photograph
from hessx.demo.saliency import DEFAULT_SMOOTH_SAMPLES, DEFAULT_SMOOTH_SIGMA, SaliencyMaps
from hessx.explain import SparseSaliency, cafo, caso, optimal_explanation, smooth_explanation
from hessx.features import Grid
from hessx.perturb import Subsets
from hessx.run import check_choice
from hessx.score.class_scores import ClassScores

MAPS = {
    "gradient": "of the log-odds",
    "gradient-x-input": "times the input",
    "smoothgrad": "its mean over noisy copies of the picture",
    "cafo": "the sparse shift that lowers the class most, to first order",
    "caso": "the same to second order",
    "occlusion": "what each of 7 x 7 cells takes away when the mean colour replaces it",
}
OCCLUSION_GRID = 7
# Larger batches are no faster on a CPU and take gigabytes.
_BATCH = 32
_Explain = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class MapToScore:
    """An explanation of the log-odds of one class, in any unit.

    Attributes:
        name: For people.
        attribution: ``(1, 3, H, W)``, positive where more of a pixel is taken to speak for the
            class.
        multiplied: Whether the input is multiplied in already.
        explain: From pictures ``(N, 3, H, W)`` to their maps, up to a factor, at the price of one
            gradient each; None where a map costs more.
    """

    name: str
    attribution: Tensor
    multiplied: bool = False
    explain: _Explain | None = None


def log_odds(classifier: Classifier) -> _Explain:
    """Return the network with the log-odds of every class, in float64, as its answer."""
    scores = ClassScores("log-odds", "logits")
    return lambda x: scores(classifier.model(x))


def page_maps(
    explanation: Explanation, saliency: SaliencyMaps, leg: LegMaps
) -> tuple[MapToScore, ...]:
    """Return the maps of pixels and cells on the demo's page.

    Args:
        explanation: For SmoothGrad.
        saliency: Without smoothing.
        leg: LEG, and LEG-TV if there is some; each pixel of a cell gets the cell's number.
    """
    classifier, target = saliency.classifier, saliency.target.index
    x = classifier.inputs(saliency.photograph.pixels)
    # Of the log-odds up to a factor: that of the cross-entropy is 1 - p times as large, and
    # points the other way.
    gradient = -saliency.gradient
    of_gradient = _gradient_function(classifier, target)
    maps = [
        MapToScore("Gradient", gradient, explain=of_gradient),
        _times_input(x, gradient, of_gradient),
        MapToScore("SmoothGrad", explanation.segments.gradient),
        _cafo_map(classifier, target, saliency.cafo),
    ]
    if saliency.caso is not None:
        maps.append(MapToScore("CASO", -saliency.caso.delta))
    _, channels, *cells = leg.leg.gamma.shape
    grid = Grid((cells[0], cells[1]), channels="shared" if channels == 1 else "separate")
    features = grid.bind(x.shape[1:])
    gammas = {"LEG": leg.leg.gamma}
    if leg.path is not None:
        names = (f"LEG-TV, K_L = {share:g}" for share in leg.K_L)
        gammas |= dict(zip(names, leg.path.gamma.movedim(1, 0), strict=True))
    maps += [MapToScore(name, features.lift(gamma.flatten(1))) for name, gamma in gammas.items()]
    return tuple(maps)


def quick_maps(
    classifier: Classifier,
    photograph: Photograph,
    names: Sequence[str] = tuple(MAPS),
    *,
    target: int | None = None,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[MapToScore, ...]:
    """Return maps that take a few seconds at most.

    Args:
        classifier: The network.
        photograph: The picture.
        names: Of :data:`MAPS`.
        target: The class to explain, by default the most probable one.
        seed: Of SmoothGrad's noise, >= 0.
        report: Called with a line of text when something is done.

    Raises:
        ValueError: If the target is no class, or a name is no map.
    """
    for name in names:
        check_choice("names", name, tuple(MAPS))
    started = time.perf_counter()
    inputs = classifier.inputs(photograph.pixels)
    _, explained = score_classes(classifier, inputs, target)
    report(
        f"explains   the log-odds of {explained.name!r} (class {explained.index}): "
        f"probability {explained.probability:.3f}"
    )
    maps = _made(classifier, inputs, explained.index, names, seed)
    report(f"maps       {', '.join(names)}: {time.perf_counter() - started:.1f} s")
    return maps


def _made(
    classifier: Classifier, inputs: Tensor, target: int, names: Sequence[str], seed: int
) -> tuple[MapToScore, ...]:
    """Return the maps of these names."""
    gradient = _gradient_function(classifier, target)

    def smoothgrad() -> MapToScore:
        smooth = smooth_explanation(
            gradient,
            inputs,
            kernel="gaussian",
            radius=DEFAULT_SMOOTH_SIGMA,
            n_samples=DEFAULT_SMOOTH_SAMPLES,
            seed=seed,
        )
        return MapToScore("SmoothGrad", smooth)

    make: dict[str, Callable[[], MapToScore]] = {
        "gradient": lambda: MapToScore("Gradient", gradient(inputs), explain=gradient),
        "gradient-x-input": lambda: _times_input(inputs, gradient(inputs), gradient),
        "smoothgrad": smoothgrad,
        # Scores do not depend on lambda2, the length of CAFO's map.
        "cafo": lambda: _cafo_map(
            classifier, target, cafo(classifier.model, inputs, target, lambda2=1.0)
        ),
        "caso": lambda: MapToScore(
            "CASO", -caso(classifier.model, inputs, target, seed=seed).delta
        ),
        "occlusion": lambda: _occlusion_map(classifier, inputs, target),
    }
    return tuple(make[name]() for name in names)


def _gradient_function(classifier: Classifier, target: int) -> _Explain:
    answer = log_odds(classifier)

    def gradient(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(answer(x)[:, target].sum(), x)[0]

    return gradient


def _times_input(x: Tensor, gradient: Tensor, of_gradient: _Explain) -> MapToScore:
    def explain(z: Tensor) -> Tensor:
        return z * of_gradient(z)

    return MapToScore("Gradient × input", x * gradient, multiplied=True, explain=explain)


def _cafo_map(classifier: Classifier, target: int, result: SparseSaliency) -> MapToScore:
    """Return CAFO turned round: what raises the loss lowers the class."""
    lambda1, lambda2 = result.lambda1.item(), result.lambda2.item()

    def explain(x: Tensor) -> Tensor:
        return -cafo(classifier.model, x, target, lambda1=lambda1, lambda2=lambda2).delta

    return MapToScore("CAFO", -result.delta, explain=explain)


def _occlusion_map(classifier: Classifier, inputs: Tensor, target: int) -> MapToScore:
    """Return the explanation that is optimal for single cells."""
    cells = Grid((OCCLUSION_GRID, OCCLUSION_GRID))
    found = optimal_explanation(
        log_odds(classifier),
        inputs,
        target,
        perturb_func=Subsets(size=1, features=cells),
        baselines=mean_colour(inputs),
        n_samples=None,
        max_examples_per_batch=_BATCH,
    )
    name = f"Occlusion, {OCCLUSION_GRID} × {OCCLUSION_GRID}"
    return MapToScore(name, found.attributions, multiplied=True)
