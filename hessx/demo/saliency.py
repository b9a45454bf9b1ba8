"""What the demo computes of CASO and CAFO: sparse maps of the pixels that raise the loss."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hessx.demo.classes import ClassScore, score_classes
from hessx.demo.classifier import Classifier
from hessx.demo.photograph import Photograph
from hessx.explain import SparsePath, SparseSaliency, cafo, caso, caso_path
from hessx.run import check_choice

DEFAULT_SPARSITY = 0.75
DEFAULT_SMOOTH_SAMPLES = 50
# The .15 of Definition 4 as SmoothGrad means it: a share of the range of the inputs, here 2.
DEFAULT_SMOOTH_SIGMA = 0.3
# Shares of |g|_inf, where the map becomes empty: from no sparsity to some percent of the pixels.
PATH_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4)


@dataclass(frozen=True, eq=False)
class SaliencyMaps:
    """CASO and CAFO of the cross-entropy of one class.

    Attributes:
        photograph: What was explained.
        classifier: The network that was explained.
        classes: The most probable classes, best first.
        target: The class whose cross-entropy it is.
        gradient: ``(1, 3, H, W)``, of the cross-entropy; its mean over the noise where smoothed.
        cafo: To first order; with the lambda2 of ``caso`` if there is one.
        caso: To second order, or None where only the first was asked for.
        path: CASO for the shares :data:`PATH_SHARES` of the largest ``|gradient|``, or None.
        smooth_sigma: Standard deviation of the noise, in units of the inputs, or None.
        n_samples: Noisy copies of the photograph where smoothed.
        seed: Of the noise.
        seconds: Wall clock of everything.
    """

    photograph: Photograph
    classifier: Classifier
    classes: tuple[ClassScore, ...]
    target: ClassScore
    gradient: Tensor
    cafo: SparseSaliency
    caso: SparseSaliency | None
    path: SparsePath | None
    smooth_sigma: float | None
    n_samples: int
    seed: int
    seconds: float

    @property
    def main(self) -> SparseSaliency:
        """The map of the highest order."""
        return self.cafo if self.caso is None else self.caso

    @property
    def cosine(self) -> float:
        """Between CASO and CAFO; nan where a map is empty or there is no CASO."""
        if self.caso is None:
            return math.nan
        first, second = self.cafo.delta.double().flatten(), self.caso.delta.double().flatten()
        norms = first.norm() * second.norm()
        return float(first @ second / norms) if norms > 0 else math.nan

    @property
    def title(self) -> str:
        """The methods that it shows."""
        return ", ".join(map(self.title_of, self.results))

    @property
    def results(self) -> tuple[SparseSaliency, ...]:
        """CAFO, and CASO if there is one."""
        return (self.cafo,) if self.caso is None else (self.cafo, self.caso)

    def title_of(self, result: SparseSaliency) -> str:
        """Return the name of a method as the paper writes it."""
        smooth = "" if self.smooth_sigma is None else "Smooth "
        return smooth + result.method.upper()


def explain_pixels(
    classifier: Classifier,
    photograph: Photograph,
    *,
    method: str = "caso",
    target: int | None = None,
    lambda1: float | None = None,
    k: int | None = None,
    sparsity: float = DEFAULT_SPARSITY,
    smooth_sigma: float | None = None,
    n_samples: int = DEFAULT_SMOOTH_SAMPLES,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> SaliencyMaps:
    """Explain the loss of one class by the sparse shift of the pixels that raises it most.

    Args:
        classifier: The network.
        photograph: The picture.
        method: ``"caso"``, with CAFO beside it, or ``"cafo"`` alone.
        target: The class to explain, by default the most probable one.
        lambda1: Weight of the sum of sizes, >= 0; by default the smallest that keeps ``sparsity``.
        k: At most so many pixels, in place of ``sparsity``.
        sparsity: The least share of zero pixels, in [0, 1).
        smooth_sigma: Average over noise of this standard deviation, in units of the inputs.
        n_samples: Noisy copies.
        seed: Of the noise, >= 0.
        report: Called with a line of text when something is done.

    Returns:
        The maps; the path over lambda1 only for CASO without noise, where it takes about a second.

    Raises:
        ValueError: If the target is no class, or an argument is outside its range.
    """
    started = time.perf_counter()
    check_choice("method", method, ("caso", "cafo"))
    inputs = classifier.inputs(photograph.pixels)
    classes, explained = score_classes(classifier, inputs, target)
    report(
        f"explains   the loss of {explained.name!r} (class {explained.index}): "
        f"confidence {explained.probability:.3f}"
    )
    arguments: dict[str, Any] = {"seed": seed, "show_progress": sys.stderr.isatty()}
    if smooth_sigma is not None:
        arguments.update(smooth_sigma=smooth_sigma, n_samples=n_samples)
    query = (classifier.model, inputs, explained.index)
    chosen = {
        "lambda1": "auto" if lambda1 is None else lambda1,
        "k": k,
        "sparsity": (sparsity, 1.0),
    }

    def run(function: Callable[..., Any], **more: Any) -> Any:
        result = function(*query, **arguments, **more)
        _report(report, result)
        return result

    # With a lambda2, CAFO asks for the gradient alone. It comes first, so that the times of the
    # others are without what the model's first call costs.
    gradient = cafo(*query, **arguments, lambda1=0.0, lambda2=1.0).gradient
    second = run(caso, **chosen) if method == "caso" else None
    # With one lambda2, CASO and CAFO differ by the Hessian and by nothing else.
    first = run(cafo, **chosen, lambda2=None if second is None else second.lambda2)
    path = None
    if second is not None and smooth_sigma is None:
        largest = float(gradient.abs().max())
        path = run(caso_path, lambda1s=[share * largest for share in PATH_SHARES])
    return SaliencyMaps(
        photograph,
        classifier,
        classes,
        explained,
        gradient,
        first,
        second,
        path,
        smooth_sigma,
        n_samples,
        seed,
        time.perf_counter() - started,
    )


def _report(report: Callable[[str], None], result: SparseSaliency) -> None:
    shares = ", ".join(f"{share:.1%}" for share in result.sparsity.flatten().tolist())
    name = "caso path" if isinstance(result, SparsePath) else result.method
    report(
        f"{name:<11}{shares} zero pixels, gap {float(result.gap.max()):.1g}, "
        f"loss {', '.join(f'{change:+.3f}' for change in result.loss_change.flatten().tolist())}, "
        f"{result.seconds:.1f} s"
    )
