"""The softmax product by Triton, against the matrix in float64."""

from __future__ import annotations

from functools import partial

import torch

from hessx.ops.softmax import triton as kernels
from tests.gpu.checks import Cases
from tests.references.shrink import spread
from tests.references.softmax import arguments, assert_close

# Around powers of two, the least tile (16) and the largest (1024).
CLASSES = (1, 3, 16, 17, 130, 300, 1024, 1025, 2050)


def check(p: torch.Tensor, u: torch.Tensor) -> None:
    assert_close(kernels.softmax_product(p, u), p, u)


def _sizes(classes: int, dtype: torch.dtype) -> None:
    check(*arguments(2, 3, classes, dtype))


def _likeliest(at: int, dtype: torch.dtype) -> None:
    """1 - p has no digit left in the type, but the product depends on the other classes alone."""
    p = torch.rand(1, 1025, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p *= 1e-20
    p[0, at] = 1
    p, u = p.to(dtype), arguments(1, 2, 1025, dtype)[1]
    v = u.double() - u.double()[..., at : at + 1]
    expected = p.double()[:, None] * v
    expected[..., at] -= expected.sum(2)
    w = kernels.softmax_product(p, u)
    # The terms of a sum over the classes cancel.
    eps = torch.finfo(dtype).eps
    atol = 4 * eps * expected.abs().sum().item()
    torch.testing.assert_close(w.double(), expected, rtol=4 * eps, atol=atol)


def _equally_likely() -> None:
    """The first of the likeliest classes is the origin, also where others are in another tile."""
    p, u = torch.full((1, 1025), 2.0**-12), arguments(1, 1, 1025, torch.float32)[1]
    # p does not add up to 1: the origin makes a difference.
    v = u.double() - u[..., 0].double()
    expected = 2.0**-12 * (v - 2.0**-12 * v.sum())
    w = kernels.softmax_product(p, u).double()
    torch.testing.assert_close(w, expected, rtol=1e-6, atol=1e-12)


def _strided() -> None:
    p, u = arguments(3, 2, 20)
    assert torch.equal(kernels.softmax_product(spread(p), spread(u)), kernels.softmax_product(p, u))
    rows = torch.zeros(3, 30, dtype=torch.float64)[:, 3:23].copy_(p)
    check(rows, u)


def _empty(shape: tuple[int, int, int]) -> None:
    batch, _, classes = shape
    assert kernels.softmax_product(torch.ones(batch, classes), torch.ones(shape)).shape == shape


def _not_finite(bad: float) -> None:
    p, u = arguments(3, 2, 20, torch.float32)
    clean = kernels.softmax_product(p, u)
    wrong_u, wrong_p = u.clone(), p.clone()
    # The origin of its row.
    wrong_u[1, 0, p[1].argmax()] = wrong_p[2, 5] = bad
    by_vector, by_probability = (
        kernels.softmax_product(p, wrong_u),
        kernels.softmax_product(wrong_p, u),
    )
    assert by_vector[1, 0].isnan().all()
    assert by_probability[2].isnan().any()
    by_vector[1, 0], by_probability[2] = clean[1, 0], clean[2]
    assert torch.equal(by_vector, clean)
    assert torch.equal(by_probability, clean)


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        for classes in CLASSES:
            cases[f"{classes}-{name}"] = partial(_sizes, classes, dtype)
        for at in (0, 700, 1024):
            cases[f"likeliest-{at}-{name}"] = partial(_likeliest, at, dtype)
    cases["equally-likely"] = _equally_likely
    cases["strided"] = _strided
    for shape in ((0, 3, 5), (2, 0, 5), (2, 3, 0)):
        cases[f"empty-{'x'.join(map(str, shape))}"] = partial(_empty, shape)
    for bad in ("nan", "inf"):
        cases[bad] = partial(_not_finite, float(bad))
    return cases


CASES = _cases()
