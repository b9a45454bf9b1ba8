"""Steps of FISTA to be made, and what their results must satisfy."""

from __future__ import annotations

import torch


def problem(
    batch: int, m: int, d: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, ...]:
    """Arguments of fista_step that leave about half of the entries zero, the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(batch, d, generator=generator, dtype=torch.float64)
    vectors = torch.randn(3, batch, m, d, generator=generator, dtype=torch.float64)
    numbers = torch.rand(4, batch, m, generator=generator, dtype=torch.float64)
    step, momentum, lambda1, lambda2 = numbers
    arguments = (gradient, *vectors, 0.1 + 0.2 * step, momentum, 3 * lambda1 + 1, lambda2)
    return tuple(x.to(dtype) for x in arguments)


def assert_step(results: tuple[torch.Tensor, ...], arguments: tuple[torch.Tensor, ...]) -> None:
    """Compare with the formulas in float64.

    The next point errs by six roundings (two products, three sums and a difference) of the terms
    it is made of; what is compared with it starts from it as it was stored.
    """
    gradient, product, point, previous, *numbers = (x.double() for x in arguments)
    step, momentum, lambda1, lambda2 = (x[..., None] for x in numbers)
    next_point, extrapolated, sums = results
    dtype = arguments[0].dtype
    assert (next_point.dtype, extrapolated.dtype, sums.dtype) == (dtype, dtype, torch.float64)
    eps = torch.finfo(dtype).eps
    gradient = gradient[:, None]
    moved = point + step * (gradient + product - 2 * lambda2 * point)
    expected = moved.sign() * (moved.abs() - step * lambda1).clamp(min=0)
    terms = gradient.abs() + product.abs() + 2 * lambda2 * point.abs() + lambda1
    assert ((next_point - expected).abs() <= 3 * eps * (point.abs() + step * terms)).all()

    z = next_point.double()
    change = z - previous
    error = 2 * eps * (z.abs() + momentum * change.abs())
    assert ((extrapolated - (z + momentum * change)).abs() <= error).all()
    _assert_sums(sums, (gradient * z, z.abs(), z.square(), change.square(), z == 0), eps)


def _assert_sums(sums: torch.Tensor, terms: tuple[torch.Tensor, ...], eps: float) -> None:
    """Compare with sums in float64.

    Lanes of four float32 numbers or more add at most 1024 terms each, whose errors cancel: a tenth
    of the largest possible error is never reached.
    """
    assert sums.shape == (*terms[0].shape[:2], 5)
    for found, term in zip(sums.unbind(2), terms, strict=True):
        exact, bound = term.double().sum(2), term.double().abs().sum(2)
        assert ((found - exact).abs() <= 105 * eps / 2 * bound).all()
    assert torch.equal(sums[..., 4], terms[4].double().sum(2))


def spread(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with gaps, the axes the other way round in memory."""
    wide = torch.zeros([2 * size for size in reversed(x.shape)], dtype=x.dtype)
    return wide.permute(*reversed(range(x.ndim)))[(slice(None, None, 2),) * x.ndim].copy_(x)
