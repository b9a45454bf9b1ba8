"""Problems for the prox pass, and how far a result may be from the exact one."""

from __future__ import annotations

import torch
from torch import Tensor


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Normal numbers, the same in every process."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def problem(batch: int, lambdas: int, r: int, d: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Basis, gradient, z and lambda1; about half of the entries are active, fewer for some."""
    basis, gradient = numbers(batch, r, d, dtype=dtype), numbers(batch, d, dtype=dtype, seed=1)
    z = 0.3 * numbers(batch, lambdas, r, dtype=dtype, seed=2)
    return basis, gradient, z, 2 * numbers(batch, lambdas, dtype=dtype, seed=3).abs()


def bounds_of_pass(
    basis: Tensor, gradient: Tensor, z: Tensor, lambda1: Tensor
) -> tuple[Tensor, ...]:
    """Largest errors of w, sums and gram.

    The soft threshold carries an error of its argument on and adds none; a sum adds 26 roundings of
    its terms' magnitudes: up to a tile's worth of them add up, but those of random terms cancel.
    Entries within rounding of lambda1 may be active or not: each may change the count by one and a
    Gram matrix by its column's products, and nothing else by more than the error of the argument.
    """
    rounding = 2.0**-52 if basis.dtype == torch.float64 else 2.0**-24
    b, g, z, threshold = (x.double() for x in (basis, gradient[:, None], z, lambda1[..., None]))
    u = g + z @ b
    error = 4 * rounding * (g.abs() + z.abs() @ b.abs() + threshold)
    s = (u.abs() - threshold).clamp(min=0)
    undecided = (u.abs() - threshold).abs() <= error
    sums = [
        (error * (2 * s + error) + 26 * rounding * s.square()).sum(2),
        (error + 26 * rounding * s).sum(2),
        (g.abs() * (error + 26 * rounding * s)).sum(2),
        undecided.sum(2),
    ]
    w = (error + 26 * rounding * s) @ b.abs().mT
    weight = 26 * rounding * (s > 0) + undecided
    gram = torch.einsum("bmd,bkd,bld->bmkl", weight, b.abs(), b.abs())
    return w, torch.stack(sums, 2), gram


def bounds_of_gram(x: Tensor) -> Tensor:
    """Largest errors of a Gram matrix, by the same reasons."""
    rounding = 2.0**-52 if x.dtype == torch.float64 else 2.0**-24
    return 26 * rounding * (x.double().abs() @ x.double().abs().mT)
