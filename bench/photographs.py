"""Photographs that installed packages bring, as EfficientNet-Lite0 sees them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hessx.demo.classifier import Classifier
from hessx.demo.extra import package_folder
from hessx.demo.photograph import Photograph, load_photograph

# Whose subject is an ImageNet class, and astronaut and flower, where none quite fits.
PHOTOGRAPHS = {
    "coffee": ("skimage", "data/coffee.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def photograph(name: str) -> Photograph:
    """Read one of PHOTOGRAPHS."""
    package, file = PHOTOGRAPHS[name]
    return load_photograph(package_folder(package) / file)


def photograph_inputs(classifier: Classifier, name: str) -> Tensor:
    """Return a photograph as the classifier's input ``(1, 3, 224, 224)``."""
    return classifier.inputs(photograph(name).pixels)


def displayed(classifier: Classifier, inputs: Tensor) -> np.ndarray:
    """Return RGB pixels ``(H, W, 3)`` of one input ``(3, H, W)``."""
    rgb = inputs * classifier.scale + classifier.mean
    return rgb.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
