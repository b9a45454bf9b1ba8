"""A CIFAR-10 net that ``python -m bench.data`` fetches, and photographs as small as its inputs.

Six convolutions and three dense layers with ReLU, batch normalisation after ReLU, and max-pooling.
No package ships a picture of CIFAR-10: photographs reduced to 32 x 32 take their place, of which
few are of one of the ten classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.data import CIFAR_NET, require_file
from bench.photographs import photograph
from hessx.demo.extra import require

CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
CLASSES += ("dog", "frog", "horse", "ship", "truck")
SIDE = 32
# Channels of the convolutions; after every second one, a max-pooling of this size.
_CHANNELS = (64, 64, 128, 128, 64, 64)
_POOLS = (2, 2, 1)
_DENSE = (64, 1024, 512, 10)
# Keras's default.
_EPSILON = 1e-3


class CifarNet(nn.Module):
    """From RGB in [0, 1] ``(N, 3, 32, 32)`` to logits ``(N, 10)``."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        fan_in = 3
        for place, fan_out in enumerate(_CHANNELS):
            layers += [nn.Conv2d(fan_in, fan_out, 3), nn.ReLU(), nn.BatchNorm2d(fan_out, _EPSILON)]
            if place % 2 and _POOLS[place // 2] > 1:
                layers.append(nn.MaxPool2d(_POOLS[place // 2]))
            fan_in = fan_out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(_DENSE[0], _DENSE[1]),
            nn.ReLU(),
            nn.Linear(_DENSE[1], _DENSE[2]),
            nn.ReLU(),
            nn.Linear(_DENSE[2], _DENSE[3]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, before the ReLU that its authors end with."""
        return self.classifier(self.features(255 * x).flatten(1))


def cifar_net() -> CifarNet:
    """Load the net with its trained weights.

    Raises:
        MissingDataError: If they were not fetched.
    """
    net = CifarNet().eval()
    net.load_state_dict(_read(net, require_file(CIFAR_NET)))
    return net


def small_photograph(name: str) -> Tensor:
    """Return one of the photographs, reduced to ``(1, 3, 32, 32)`` in [0, 1]."""
    images = require("PIL.Image")
    whole = images.fromarray(photograph(name).pixels)
    small = np.asarray(whole.resize((SIDE, SIDE), images.Resampling.BOX))
    return torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None] / 255


def _read(net: CifarNet, path: Path) -> dict[str, Tensor]:
    """Return the net's state from Keras's HDF5."""
    import h5py

    state = {name: value for name, value in net.state_dict().items() if "tracked" in name}
    with h5py.File(path) as file:
        weights = file["model_weights"]

        def array(layer: str, name: str) -> Tensor:
            return torch.from_numpy(weights[layer][layer][f"{name}:0"][:])

        counts: dict[type[nn.Module], int] = {}
        for name, module in net.named_modules():
            number = counts.get(type(module), 0)
            counts[type(module)] = number + 1
            ending = f"_{number}" if number else ""
            if isinstance(module, nn.Conv2d):
                kernel = array(f"conv2d{ending}", "kernel")
                state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
                state[f"{name}.bias"] = array(f"conv2d{ending}", "bias")
            elif isinstance(module, nn.Linear):
                state[f"{name}.weight"] = array(f"dense{ending}", "kernel").mT.contiguous()
                state[f"{name}.bias"] = array(f"dense{ending}", "bias")
            elif isinstance(module, nn.BatchNorm2d):
                layer = f"batch_normalization{ending}"
                state[f"{name}.weight"] = array(layer, "gamma")
                state[f"{name}.bias"] = array(layer, "beta")
                state[f"{name}.running_mean"] = array(layer, "moving_mean")
                state[f"{name}.running_var"] = array(layer, "moving_variance")
    return state
