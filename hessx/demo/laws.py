"""The perturbations that the demo scores maps by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.demo.classifier import Classifier
from hessx.demo.explanation import DEFAULT_SEGMENTS
from hessx.demo.photograph import Photograph
from hessx.demo.superpixels import superpixels
from hessx.features import Grid, Segments
from hessx.perturb import Gaussian, NoisyBaseline, Perturbation, Shap, Square, Subsets
from hessx.run import check_choice

LAWS = {
    "gaussian": "normal noise on every number",
    "noisy-baseline": "normal noise around the mean colour in place of the picture",
    "square": "squares of the mean colour in place of what is there",
    "subsets": "the mean colour in place of a random half of the superpixels",
    "shap": "the same for as many superpixels as the Shapley kernel takes",
}
# A grey level and a bit. With several, the network's answer to noise has little to do with any
# gradient: on chelsea.png it explains 2 % at four.
DEFAULT_SCORE_SIGMA = 0.01
# The paper's .2 is a share of the range of the inputs, here 2.
_BASELINE_SIGMA = 0.4
# The paper's squares for ImageNet: 10 to 30 superpixels of 2 x 2 where there are 112 x 112.
_SUPERPIXEL = 2
_SMALLEST, _LARGEST = 10 / 112, 30 / 112


@dataclass(frozen=True, eq=False)
class Law:
    """A law of perturbations of one picture.

    Attributes:
        name: One of :data:`LAWS`.
        title: For people, one or two words.
        text: For people, what is done to the picture.
        perturbation: What :func:`hessx.infidelity` takes.
        baseline: ``(1, 3, H, W)``, what removed pixels become, or None.
        multiplied: Whether explanations are taken times ``x - baseline``.
    """

    name: str
    title: str
    text: str
    perturbation: Perturbation
    baseline: Tensor | None = None
    multiplied: bool = False


def perturbation_law(
    name: str,
    classifier: Classifier,
    photograph: Photograph,
    *,
    sigma: float = DEFAULT_SCORE_SIGMA,
) -> Law:
    """Return a law for a photograph.

    Args:
        name: One of :data:`LAWS`.
        classifier: The network, for the units of its inputs.
        photograph: The picture.
        sigma: Standard deviation for "gaussian", in units of the inputs, > 0.

    Raises:
        ValueError: If ``name`` is none of these, or ``sigma`` is not > 0.
        MissingExtraError: If superpixels are asked for and scikit-image is not installed.
    """
    check_choice("name", name, tuple(LAWS))
    if name == "gaussian":
        text = f"normal noise of {sigma * classifier.scale:.3g} grey levels on every number"
        return Law(name, "noise", text, Gaussian(sigma))
    inputs = classifier.inputs(photograph.pixels)
    mean = mean_colour(inputs)
    if name == "noisy-baseline":
        low, high = ((level - classifier.mean) / classifier.scale for level in (0, 255))
        levels = _BASELINE_SIGMA * classifier.scale
        text = f"the mean colour with noise of {levels:.3g} grey levels in place of the picture"
        return Law(name, "baseline", text, NoisyBaseline(_BASELINE_SIGMA, (low, high)), mean)
    if name == "square":
        cells = min(inputs.shape[2:]) // _SUPERPIXEL
        sides = range(max(1, round(_SMALLEST * cells)), max(1, round(_LARGEST * cells)) + 1)
        grid = Grid((inputs.shape[2] // _SUPERPIXEL, inputs.shape[3] // _SUPERPIXEL))
        text = (
            f"squares of {_SUPERPIXEL * sides[0]} to {_SUPERPIXEL * sides[-1]} pixels replaced by "
            "the mean colour"
        )
        return Law(name, "squares", text, Square(sides, features=grid), mean, True)
    labels = superpixels(photograph.pixels, DEFAULT_SEGMENTS)
    segments = Segments(torch.from_numpy(labels))
    if name == "subsets":
        text = f"random halves of {labels.max() + 1} superpixels replaced by the mean colour"
        return Law(name, "subsets", text, Subsets(features=segments), mean, True)
    text = (
        f"the Shapley kernel's sets of {labels.max() + 1} superpixels replaced by the mean colour"
    )
    return Law(name, "Shapley", text, Shap(features=segments), mean, True)


def mean_colour(inputs: Tensor) -> Tensor:
    """Return pictures ``(N, 3, H, W)`` of one colour each, their mean."""
    return inputs.mean((2, 3), keepdim=True).expand_as(inputs).contiguous()
