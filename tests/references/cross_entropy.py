"""Input Hessians of the cross-entropy by autograd, in float64, and small classifiers to test on."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def random_net(
    d: int, n_classes: int, spread: float = 10.0, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return a classifier with random weights; ``spread`` widens its logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(d + n_classes)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((d, 48, 32, n_classes)):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        net = nn.Sequential(*layers[:-1]).double().eval()
        with torch.no_grad():
            net[-1].weight *= spread
    return net


def gradient_and_hessian(net: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients ``(B, d)`` and Hessians ``(B, d, d)`` of the cross-entropy."""
    d = x[0].numel()

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(net(z[None]), y[None])

    gradients, hessians = [], []
    for z, y in zip(x, target, strict=True):
        z = z.detach().clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(z, y), z)[0].flatten())
        hessian = torch.autograd.functional.hessian(lambda z, y=y: loss(z, y), z)
        hessians.append(hessian.reshape(d, d))
    return torch.stack(gradients), torch.stack(hessians)
