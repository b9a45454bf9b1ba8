"""The two ImageNet classifiers of LEG's experiments, and how much noise each photograph bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import hessx
from bench.photographs import photograph_inputs
from bench.squeezenet import CROP, squeezenet
from hessx.demo.classifier import Classifier, efficientnet_lite0

# The paper's grid, but all channels of a cell together: a third of the unknowns, and so of the
# variance, for the same evaluations.
GRID = hessx.Grid((28, 28), channels="shared")
# In units of the range of a pixel, black to white; the paper takes .05 to .30 for VGG-19.
VARIANCES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_PILOT_DRAWS = 32


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier with what the experiments need to know of it.

    Attributes:
        classifier: With its class names.
        net: Its network, to logits.
        crop: Side of its inputs in pixels.
        last_convolution: Whose maps Grad-CAM weighs.
        layers: Re-initialised one after another, from the input to the output.
    """

    classifier: Classifier
    net: nn.Module
    crop: int
    last_convolution: nn.Module
    layers: Sequence[str]

    @property
    def range(self) -> tuple[float, float]:
        """What black and white are in its inputs."""
        mean, scale = self.classifier.mean, self.classifier.scale
        return -mean / scale, (255 - mean) / scale

    def inputs(self, photograph: str) -> Tensor:
        """Return a photograph ``(1, 3, crop, crop)``."""
        return photograph_inputs(self.classifier, photograph, self.crop)

    def sigma(self, variance: float) -> float:
        """Return the deviation in units of the inputs."""
        black, white = self.range
        return variance**0.5 * (white - black)


def _efficientnet() -> Subject:
    classifier = efficientnet_lite0()
    net = classifier.model
    blocks = [f"_blocks.{i}" for i in range(len(net._blocks))]
    layers = ["_conv_stem", "_bn0", *blocks, "_conv_head", "_bn1", "_fc"]
    return Subject(classifier, net, 224, net._bn1, layers)


def _squeezenet() -> Subject:
    classifier = squeezenet()
    net = classifier.model
    fires = [f"features.{name}" for name in net.fires]
    return Subject(classifier, net, CROP, net.features, ["conv1", *fires, "conv10"])


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "efficientnet": _efficientnet,
    "squeezenet": _squeezenet,
}


@torch.no_grad()
def predicted(net: nn.Module, x: Tensor) -> tuple[int, float]:
    """Return the likeliest class of one input and its probability."""
    probability, target = net(x).softmax(1)[0].max(0)
    return int(target), probability.item()


@torch.no_grad()
def telling_variance(subject: Subject, x: Tensor, target: int, grid: hessx.Grid) -> float:
    """Return which of VARIANCES changes the probability of the target most.

    The paper asks for perturbations "large enough to change the prediction probabilities but small
    enough to avoid major changes in the image": with too little noise the probability stays where
    it is, with too much it stays at 0. In between, its deviation over some draws has a maximum.
    """
    features = grid.bind(x.shape[1:])
    noise = features.lift(hessx.ops.grid_normal(_PILOT_DRAWS, *grid.size, seed=0).flatten(1))

    def deviation(variance: float) -> float:
        noisy = (x + subject.sigma(variance) * noise).clamp(*subject.range)
        return subject.net(noisy).softmax(1)[:, target].double().std().item()

    return max(VARIANCES, key=deviation)
