"""What the demo computes: the classes, and SmoothHess on superpixels and on a grid."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hessx.demo.classes import ClassScore, score_classes
from hessx.demo.classifier import Classifier
from hessx.demo.photograph import Photograph
from hessx.demo.superpixels import superpixels
from hessx.explain import SmoothHess, smooth_hess
from hessx.features import Grid, Segments

DEFAULT_SEGMENTS = 50
DEFAULT_GRID = 14
# 13 grey levels: visible, and small enough that the answer is about this picture. On chelsea.png
# 512 gradients then determine the segments' H to about a third; wider noise needs more.
DEFAULT_SIGMA = 0.1
DEFAULT_SAMPLES = 512
# Larger batches are no faster on a CPU and take gigabytes.
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Explanation:
    """SmoothHess of one logit, on superpixels and on a grid.

    Attributes:
        photograph: What was explained.
        classifier: The network that was explained.
        classes: The most probable classes, best first.
        target: The class whose logit is explained.
        labels: ``(H, W)`` superpixels 0 .. k-1.
        segments: SmoothHess in superpixels, one row.
        grid: SmoothHess in grid cells, one row.
        grid_size: Rows and columns of the grid.
        sigma: Standard deviation of the noise, in units of the inputs.
        seed: Of the noise.
        seconds: Wall clock of everything.
    """

    photograph: Photograph
    classifier: Classifier
    classes: tuple[ClassScore, ...]
    target: ClassScore
    labels: np.ndarray
    segments: SmoothHess
    grid: SmoothHess
    grid_size: tuple[int, int]
    sigma: float
    seed: int
    seconds: float


def explain_photograph(
    classifier: Classifier,
    photograph: Photograph,
    *,
    target: int | None = None,
    n_segments: int = DEFAULT_SEGMENTS,
    grid: int = DEFAULT_GRID,
    sigma: float = DEFAULT_SIGMA,
    n_samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Explanation:
    """Explain one logit by the pairwise interactions of superpixels, and of grid cells.

    Args:
        classifier: The network.
        photograph: The picture.
        target: The class to explain, by default the most probable one.
        n_segments: About how many superpixels, >= 2.
        grid: Rows and columns of the grid.
        sigma: Standard deviation of the shift of each group, in units of the inputs, > 0.
        n_samples: Gradients for the superpixels, and again for the grid.
        seed: Of the noise, >= 0.
        report: Called with a line of text when something is done.

    Returns:
        The explanation.

    Raises:
        ValueError: If the target is no class, or an argument is outside its range.
        MissingExtraError: If scikit-image is not installed.
    """
    started = time.perf_counter()
    inputs = classifier.inputs(photograph.pixels)
    classes, explained = score_classes(classifier, inputs, target)
    report(
        f"explains   the logit of {explained.name!r} (class {explained.index}): "
        f"{explained.logit:.3f}, probability {explained.probability:.3f}"
    )
    labels = superpixels(photograph.pixels, n_segments)

    def run(features: Segments | Grid, name: str) -> SmoothHess:
        result = smooth_hess(
            classifier.model,
            inputs,
            explained.index,
            sigma=sigma,
            features=features,
            n_samples=n_samples,
            seed=seed,
            max_examples_per_batch=_BATCH,
            show_progress=sys.stderr.isatty(),
        )
        report(
            f"{name:<11}{result.feature_gradient.shape[1]} features, "
            f"{int(result.n_samples[0])} gradients, {result.seconds:.1f} s "
            f"({model_share(result):.1%} inside the model), "
            f"relative error {float(result.relative_error[0]):.2f}"
        )
        return result

    by_segment = run(Segments(torch.from_numpy(labels)), "segments")
    by_cell = run(Grid((grid, grid)), "grid")
    return Explanation(
        photograph,
        classifier,
        classes,
        explained,
        labels,
        by_segment,
        by_cell,
        (grid, grid),
        sigma,
        seed,
        time.perf_counter() - started,
    )


def model_share(result: SmoothHess) -> float:
    """Return the share of the call's time that was spent inside the model, 0 to 1."""
    return result.model_seconds / result.seconds
