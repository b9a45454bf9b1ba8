"""CASO as its paper computes it, and its exact solution for a Hessian that is at hand.

Singla et al. (ICML 2019), sections 3.2 and 4, written from the text: the baseline that the library
is measured against, and the truth that it is tested against. Two slips of the paper are not
followed: the prox of ``alpha lambda1`` belongs to ``|x - z|^2 / (2 alpha)``, and the step of
Corollary 1 is not below ``1 / (2 lambda2 - lambda_min(H))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

POWER_ITERATIONS = 10
FISTA_STEPS = 10
LEARNING_RATE = 0.1
DECAY = 0.5


@dataclass(frozen=True)
class PaperCaso:
    """What the paper's algorithm finds for one image.

    Attributes:
        delta: ``(M, *shape)``, one for each lambda1.
        top: The estimate of L, the largest eigenvalue of H: a lower bound.
        lambda2: ``top / 2 + c1``.
        n_calls: Gradients and Hessian-vector products.
    """

    delta: Tensor
    top: float
    lambda2: float
    n_calls: int


def paper_caso(
    net: Callable[[Tensor], Tensor],
    x: Tensor,
    y: int,
    lambda1s: list[float],
    *,
    c1: float = 10.0,
    seed: int = 0,
) -> PaperCaso:
    """Solve CASO for the image ``x (*shape)`` of class ``y``, one lambda1 after the other.

    Every product is a double backward pass. The graph of the gradient is kept and each product
    differentiates it once more: forward pass and gradient are paid once an image.
    """
    loss = DifferentiatedLoss(net, x, y)
    top = _power_iterations(loss.product, x, seed)
    lambda2 = top / 2 + c1
    deltas = [_fista(loss.gradient, loss.product, lambda1, lambda2) for lambda1 in lambda1s]
    return PaperCaso(torch.stack(deltas), top, lambda2, loss.n_calls)


class DifferentiatedLoss:
    """The cross-entropy around one image, ``(*shape)``, and products with its Hessian.

    Attributes:
        gradient: ``(*shape)``.
        n_calls: Gradients and products so far.
    """

    def __init__(self, net: Callable[[Tensor], Tensor], x: Tensor, y: int) -> None:
        self.x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = cross_entropy(net(self.x[None]), torch.tensor([y], device=x.device))
            (self.slope,) = torch.autograd.grad(loss, self.x, create_graph=True)
        self.gradient = self.slope.detach()
        self.n_calls = 1

    def product(self, v: Tensor) -> Tensor:
        """Return the Hessian times ``v (*shape)``, by double backward."""
        self.n_calls += 1
        (found,) = torch.autograd.grad(self.slope, self.x, v, retain_graph=True)
        return found

    def objective(self, delta: Tensor, lambda1: float, lambda2: float) -> float:
        """Return ``g^T D + D^T H D / 2 - lambda1 |D|_1 - lambda2 |D|_2^2``, summed in float64."""
        D = delta.double()
        slope = self.gradient.double() + self.product(delta).double() / 2
        sizes = lambda1 * D.abs().sum() + lambda2 * D.square().sum()
        return ((slope * D).sum() - sizes).item()


def _power_iterations(product: Callable[[Tensor], Tensor], x: Tensor, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    top = 0.0
    for _ in range(POWER_ITERATIONS):
        v = product(v / v.norm())
        top = v.norm().item()
        if top == 0:
            break
    return top


def _fista(
    gradient: Tensor, product: Callable[[Tensor], Tensor], lambda1: float, lambda2: float
) -> Tensor:
    """Beck and Teboulle's FISTA with backtracking, from zero."""
    rate, t = LEARNING_RATE, 1.0
    point = old = torch.zeros_like(gradient)
    for _ in range(FISTA_STEPS):
        curved = product(point)
        ascent = gradient + curved - 2 * lambda2 * point
        while True:
            new = _soft_threshold(point + rate * ascent, rate * lambda1)
            step, bent = new - point, product(new) - curved
            # The loss at the new point minus its linear model, whose terms would cancel; the
            # update is accepted where a parabola of curvature 1 / rate lies above.
            above_tangent = (step * (lambda2 * step - bent / 2)).sum()
            if not above_tangent > step.square().sum() / (2 * rate):
                break
            rate *= DECAY
        t, before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        point, old = new + (before - 1) / t * (new - old), new
    return old


def reference_caso(
    gradient: Tensor,
    hessian: Tensor,
    lambda1: Tensor,
    lambda2: Tensor | float,
    steps: int = 3000,
) -> Tensor:
    """Return the maximisers ``(M, d)`` for ``lambda1 (M,)``, in float64.

    FISTA with known constants: step ``1 / (2 lambda2 - lambda_min(H))`` and the momentum for the
    concavity ``mu = 2 lambda2 - lambda_max(H)``. It stops early where 50 steps in a row were
    within rounding of the point they started from.

    Args:
        gradient: ``(d,)``.
        hessian: ``(d, d)``, symmetric.
        lambda1: ``(M,)``.
        lambda2: One number or ``(M,)``, above half the largest eigenvalue of ``hessian``.
        steps: The most steps.
    """
    g, H = gradient.double(), hessian.double()
    lambda1 = lambda1.double()[:, None]
    lambda2 = torch.as_tensor(lambda2, dtype=torch.float64).expand(len(lambda1))[:, None]
    eigenvalues = torch.linalg.eigvalsh(H)
    concavity = 2 * lambda2 - eigenvalues[-1]
    if not (concavity > 0).all():
        raise ValueError(f"lambda2 must be > {eigenvalues[-1].item() / 2}, got {lambda2.min()}")
    step = 1 / (2 * lambda2 - eigenvalues[0])
    root = (step * concavity).sqrt()
    momentum = (1 - root) / (1 + root)
    point = old = g.new_zeros(len(lambda1), len(g))
    quiet = 0
    for _ in range(steps):
        new = _soft_threshold(point + step * (g + point @ H - 2 * lambda2 * point), step * lambda1)
        still = ((new - point).abs().amax(1) <= 1e-15 * new.abs().amax(1)).all()
        quiet = quiet + 1 if still else 0
        if quiet == 50:
            break
        point, old = new + momentum * (new - old), new
    return new


def objective(
    gradient: Tensor,
    hessian: Tensor,
    delta: Tensor,
    lambda1: Tensor | float,
    lambda2: Tensor | float,
) -> Tensor:
    """Return ``g^T D + D^T H D / 2 - lambda1 |D|_1 - lambda2 |D|_2^2`` of ``delta (M, d)``: (M,).

    In float64, with H and g, lambda1 and lambda2 as :func:`reference_caso` takes them.
    """
    D = delta.double()
    curvature = ((D @ hessian.double()) * D).sum(1)
    sizes = lambda1 * D.abs().sum(1) + lambda2 * D.square().sum(1)
    return D @ gradient.double() + curvature / 2 - sizes


def _soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    return x.sign() * (x.abs() - threshold).clamp(min=0)
