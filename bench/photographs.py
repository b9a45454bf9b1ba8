"""Photographs that packages bring, as EfficientNet-Lite0 or SqueezeNet sees them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bench.data import OPENCV_PICTURES, require_file
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


# Fetched by python -m bench.data.
FETCHED_PHOTOGRAPHS = {
    "squirrel": "squirrel_cls.jpg",
    "pekinese": "chicky_512.png",
    "baboon": "baboon.jpg",
    "orange": "orange.jpg",
    "fruits": "fruits.jpg",
    "football": "messi5.jpg",
}
# In which EfficientNet-Lite0 sees what is there with a probability of .38 to .96.
RECOGNISED = (
    *("coffee", "chelsea", "motorcycle", "rocket", "squirrel"),
    *("pekinese", "baboon", "orange", "fruits", "football"),
)


def photograph(name: str, crop: int = 224) -> Photograph:
    """Read one of PHOTOGRAPHS or FETCHED_PHOTOGRAPHS.

    Raises:
        MissingDataError: If it was not fetched.
    """
    if name in FETCHED_PHOTOGRAPHS:
        path = require_file(OPENCV_PICTURES / FETCHED_PHOTOGRAPHS[name])
    else:
        package, file = PHOTOGRAPHS[name]
        path = package_folder(package) / file
    return load_photograph(path, crop=crop)


def photograph_inputs(classifier: Classifier, name: str, crop: int = 224) -> Tensor:
    """Return a photograph as the classifier's input ``(1, 3, crop, crop)``."""
    return classifier.inputs(photograph(name, crop).pixels)


def displayed(classifier: Classifier, inputs: Tensor) -> np.ndarray:
    """Return RGB pixels ``(H, W, 3)`` of one input ``(3, H, W)``."""
    rgb = inputs * classifier.scale + classifier.mean
    return rgb.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
