"""Trust-region problems of every kind, and what their solutions must satisfy."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx.ops.trust_region import reference

Problems = tuple[Tensor, Tensor, Tensor]


def _numbers(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _powers(*shape: int, lowest: float, highest: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return 10 ** (lowest + (highest - lowest) * uniform)


def problems(dtype: torch.dtype, batch: int = 24, k: int = 20) -> dict[str, Problems]:
    """Eigenvalues (B, k), gradient (B, k) and radius (B,) by the name of what is special."""
    e, g = _numbers(batch, k, seed=1), _numbers(batch, k, seed=2)
    radius = _powers(batch, lowest=-2, highest=0.5, seed=3)
    tiniest = -30 if dtype == torch.float32 else -300
    tiny = _powers(batch, 2, lowest=tiniest, highest=0, seed=4)
    found = {"random": (e, g, radius), "convex": (e.abs(), g, radius)}
    found["interior"] = (e.abs() + 0.5, 0.001 * g, radius + 0.1)
    edge = torch.where(e == e.abs().amin(1, keepdim=True), 0, g)
    found["edge of inside"] = (e.abs() + 0.5, edge, (edge / (e.abs() + 0.5)).norm(dim=1))
    found["one coordinate"] = (e[:, :1], g[:, :1], radius)
    found["no gradient"] = (e, 0 * g, radius)
    found["no Hessian"] = (0 * e, g, radius)

    lowest = e.clone()
    lowest[:, 3] = -5
    hard = g.clone()
    hard[:, 3] = 0
    found["hard"] = (lowest, hard, radius + 10)
    nearly = hard.clone()
    nearly[:, 3] = tiny[:, 0]
    found["nearly hard"] = (lowest, nearly, radius + 10)
    # Where the others just reach the boundary, Newton's method alone would take hundreds of steps.
    reach = torch.where(hard == 0, 0, hard / (lowest + 5)).norm(dim=1)
    found["edge of hard"] = (lowest, nearly, reach)
    found["past the edge of hard"] = (lowest, nearly, reach * (1 + 1e-7))

    repeated = lowest.clone()
    repeated[:, [7, 15]] = -5
    several = nearly.clone()
    several[:, 7] = 0
    found["repeated lowest"] = (repeated, torch.where(repeated == -5, 0, hard), radius + 10)
    found["repeated lowest, nearly hard"] = (repeated, several, radius + 10)
    cluster = lowest.clone()
    cluster[:, 7] = -5 + 1e-3 * _powers(batch, lowest=-5, highest=0, seed=5)
    found["clustered lowest"] = (cluster, several, radius + 10)

    singular = e.abs()
    singular[:, 3:5] = 0
    found["singular"] = (singular, torch.where(singular == 0, 0, 0.1 * g), radius + 10)
    found["nearly singular"] = (singular, torch.where(singular == 0, 1e-6 * g, 0.1 * g), radius)

    grades = _powers(batch, k, lowest=-12, highest=0, seed=6)
    slopes = g * _powers(batch, k, lowest=-12, highest=0, seed=7)
    radii = _powers(batch, lowest=-3, highest=3, seed=8)
    found["graded"] = (e.sign() * grades, slopes, radii)
    found["graded convex"] = (grades, slopes, radii)
    size = 30.0 if dtype == torch.float32 else 150.0
    found["huge"] = (e * 10**size, g * 10**size, radius)
    found["tiny"] = (e * 10**-size, g * 10**-size, radius)
    found["huge radius"] = (e * 10**-size, g, radius * 10**size)
    found["tiny radius"] = (e * 10**size, g, radius * 10**-size)
    found["many coordinates"] = (_numbers(3, 1000, seed=9), _numbers(3, 1000, seed=10), radius[:3])
    return {name: tuple(x.to(dtype) for x in problem) for name, problem in found.items()}


def objective(eigenvalues: Tensor, gradient: Tensor, step: Tensor) -> Tensor:
    """g^T t + t^T diag(e) t / 2, in float64."""
    t = step.double()
    return (gradient.double() * t + eigenvalues.double() * t * t / 2).sum(-1)


def assert_optimal(eigenvalues: Tensor, gradient: Tensor, radius: Tensor, solution) -> None:
    """Check the conditions that a global minimiser and its multiplier satisfy, and no other point.

    Each to 16 rounding errors of its own terms: the length is a sum that is compensated, so that
    its error does not grow with k; a component of the step has 4, the multiplier 2.
    """
    step, multiplier = solution
    assert step.dtype == multiplier.dtype == eigenvalues.dtype
    assert step.shape == eigenvalues.shape
    assert multiplier.shape == radius.shape
    tolerance = 8 * torch.finfo(step.dtype).eps
    e, g, r, t, multiplier = (x.double() for x in (eigenvalues, gradient, radius, *solution))
    # Relative to 1 instead of the radius, so that no square is out of range.
    t = t / r[:, None]
    force = (g / r[:, None]).norm(dim=1) + e.abs().amax(1)
    length = t.norm(dim=1)
    residual = (e + multiplier[:, None]) * t + g / r[:, None]
    assert (residual.abs().amax(1) <= tolerance * force).all()
    assert (length <= 1 + tolerance).all()
    assert (multiplier >= 0).all()
    assert (e.amin(1) + multiplier >= -tolerance * force).all()
    assert (multiplier * (1 - length) <= tolerance * force).all()


def assert_as_reference(eigenvalues: Tensor, gradient: Tensor, radius: Tensor, solution) -> None:
    """Compare multiplier and minimum with those of the float64 reference."""
    step, multiplier = solution
    tolerance = 16 * torch.finfo(step.dtype).eps
    e, g, r = eigenvalues.double(), gradient.double(), radius.double()
    exact_step, exact_multiplier = reference.trust_region(e, g, r)
    force = (g / r[:, None]).norm(dim=1) + e.abs().amax(1)
    assert ((multiplier - exact_multiplier).abs() <= tolerance * force).all()
    u, exact_u = step / r[:, None], exact_step / r[:, None]
    excess = objective(e, g / r[:, None], u) - objective(e, g / r[:, None], exact_u)
    assert (excess.abs() <= tolerance * force).all()
