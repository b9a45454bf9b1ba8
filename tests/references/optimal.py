"""A small network, a law of every kind, and the least squares of their perturbations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hessx
from hessx.perturb import Gaussian, NoisyBaseline, Square, Subsets

SHAPE = (2, 6, 7)
X = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
GROUPS = hessx.Segments(torch.arange(42).reshape(6, 7) % 5)
LAWS = {
    "gaussian": Gaussian(0.3),
    "clipped": NoisyBaseline(0.3),
    "not clipped": NoisyBaseline(0.3, None),
    "square": Square(sides=[1, 2, 4]),
    "cells": Square(sides=[1, 2], features=hessx.Grid((3, 4)), multiplied=False),
    "independent": Subsets(0.3, features=hessx.Identity()),
    "sized": Subsets(size=2, features=GROUPS, multiplied=False),
}
EVERY_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
LISTED = ["square", "cells", "sized"]


def net(seed=0):
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(84, 12), nn.Softplus(), nn.Linear(12, 3)
    return nn.Sequential(*layers).double().eval()


NET = net()


def infidelity(law, x, attributions, n, target=1, **options):
    return hessx.infidelity(
        NET, law, x, attributions, target=target, n_perturb_samples=n, seed=0, **options
    )


def design(law, x, n, baselines=None):
    """Return perturbations in coordinates ``(n, B, k)``, weights, and perturbed inputs."""
    bound = law.bind(x, baselines, 0)
    rows = torch.arange(len(x))
    if n is None:
        u, weights = bound.enumerated(0, bound.size)
    else:
        u = bound.draw(0, n)
        weights = torch.full((n,), 1 / n, dtype=torch.float64)
    shift = bound.shift(rows)
    coordinates = u[:, None].double().expand(-1, len(x), -1)
    if shift is not None:
        coordinates = coordinates + shift
    return coordinates, weights, bound.perturbed(u[:, None], rows)


def lstsq(coordinates, weights, differences):
    """Return NumPy's solution for each row, the smallest of several."""
    root = weights.sqrt()[:, None]
    rows = [
        np.linalg.lstsq(root * coordinates[:, i], root[:, 0] * differences[:, i], rcond=1e-9)[0]
        for i in range(coordinates.shape[1])
    ]
    return torch.from_numpy(np.stack(rows))
