"""Eigenproblems by CUDA: residuals, order, isolation of matrices, and LAPACK's eigenvalues."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from hessx.ops.eigh import cuda as kernels
from hessx.ops.eigh.rules import eigh_fake
from tests.gpu.checks import Cases

# About 10 times what the rotations of 64 rows reach.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


def assert_solved(a: torch.Tensor) -> None:
    """Compare with the matrices themselves and with LAPACK in float64."""
    values, vectors = kernels.eigh(a)
    tolerance = TOLERANCE[a.dtype]
    exact = (a.tril() + a.tril(-1).mT).double()
    size = torch.linalg.matrix_norm(exact, 2)[:, None]
    found, columns = values.double(), vectors.double()
    residual = exact @ columns - columns * found[:, None, :]
    assert (residual.abs().amax(1) <= tolerance * size).all()
    departure = columns.mT @ columns - torch.eye(a.shape[1])
    assert departure.abs().max() <= tolerance
    assert ((found - torch.linalg.eigvalsh(exact)).abs() <= tolerance * size).all()
    assert (values.diff() >= 0).all()


def random(batch: int, k: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(k)
    assert_solved(torch.randn(batch, k, k, dtype=dtype, generator=generator))


def sparse(dtype: torch.dtype) -> None:
    """The largest matrix, with few rotations to do."""
    a = torch.diag(torch.linspace(-1, 1, 64, dtype=dtype))
    a[63, 0] = a[40, 2] = a[41, 40] = 0.5
    assert_solved(a[None])


def strided(k: int, dtype: torch.dtype) -> None:
    """The batch in the last axis, rows apart, columns between others that are not a number."""
    generator = torch.Generator().manual_seed(k)
    base = torch.full((2 * k, 3 * k, 2), torch.nan, dtype=dtype)
    a = base[::2, 1::3].permute(2, 0, 1)
    a.copy_(torch.randn(a.shape, dtype=dtype, generator=generator).tril())
    assert_solved(a)


def upper_triangle_is_not_read() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 5, 5, generator=generator)
    upper = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected = kernels.eigh(a)
    for found, exact in zip(kernels.eigh(a.masked_fill(upper, torch.nan)), expected, strict=True):
        assert torch.equal(found, exact)


def easy_and_extreme(dtype: torch.dtype) -> None:
    """Matrices that need no rotation, and scales whose squares are not numbers."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(6, 6, dtype=dtype, generator=generator)
    ties = torch.diag(torch.tensor([1, -1, 1, 0, -1, 1], dtype=dtype))
    rank_one = a[:1].mT @ a[:1]
    assert_solved(torch.stack([a, ties, rank_one, 1e30 * a, 1e-30 * a, torch.zeros_like(a)]))
    values, vectors = kernels.eigh(torch.zeros(1, 6, 6, dtype=dtype))
    assert (values == 0).all()
    assert torch.equal(vectors[0], torch.eye(6, dtype=dtype))


def equal_values_keep_their_places() -> None:
    a = torch.diag(torch.tensor([2.0, 1.0, 2.0, 1.0]))
    values, vectors = kernels.eigh(a[None])
    assert values[0].tolist() == [1, 1, 2, 2]
    assert torch.equal(vectors[0], torch.eye(4)[:, [1, 3, 0, 2]])


def _eigh_into_zeros(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve into zeros: where new tensors are NaN, what is left out would look like a result."""

    def zeros(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = eigh_fake(a)
        return values.zero_(), vectors.zero_()

    with mock.patch.object(kernels, "eigh_fake", zeros):
        return kernels.eigh(a)


def not_finite(bad: float) -> None:
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(3, 9, 9, generator=generator)
    expected = kernels.eigh(a)
    a[1, 8, 7] = bad
    for found, exact in zip(_eigh_into_zeros(a), expected, strict=True):
        assert found[1].isnan().all()
        assert torch.equal(found[::2], exact[::2])


def nan_anywhere() -> None:
    """One NaN in each matrix, at each entry in turn: every thread of two warps meets one."""
    rows, columns = torch.tril_indices(17, 17)
    a = torch.ones(len(rows), 17, 17)
    a[torch.arange(len(rows)), rows, columns] = torch.nan
    assert all(result.isnan().all() for result in _eigh_into_zeros(a))


def rounding_errors_are_left_alone(dtype: torch.dtype) -> None:
    rounding = torch.finfo(dtype).eps / 2
    a = torch.diag(torch.tensor([0.5, 0.6, 0.7, 0.8], dtype=dtype)).repeat(2, 1, 1)
    a[:, 2, 1] = rounding
    # In the second matrix another pair is rotated in the same step.
    a[1, 3, 0] = 0.25
    values, vectors = kernels.eigh(a)
    assert torch.equal(values[0], a[0].diagonal())
    assert torch.equal(vectors[0], torch.eye(4, dtype=dtype))
    assert torch.equal(vectors[1, 1:3], torch.eye(4, dtype=dtype)[1:3])


def alone_and_in_company() -> None:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(3, 7, 7, generator=generator)
    together = kernels.eigh(a)
    for i in range(3):
        for alone, among in zip(kernels.eigh(a[i : i + 1]), together, strict=True):
            assert torch.equal(alone[0], among[i])


def largest_of_the_kernels() -> None:
    """64 rows by a kernel, 65 by torch, as CuPy takes no tensors of the CPU."""
    refuse = AssertionError("not for these matrices")
    with mock.patch.object(torch.linalg, "eigh", side_effect=refuse):
        kernels.eigh(torch.eye(64)[None])
    with mock.patch.object(kernels, "find_cupy", side_effect=refuse):
        random(2, 65, torch.float64)


def several_launches() -> None:
    with mock.patch.object(kernels, "MAX_GRID", 2):
        random(3, 4, torch.float32)


def empty() -> None:
    for batch, k in [(0, 3), (2, 0), (0, 0)]:
        values, vectors = kernels.eigh(torch.zeros(batch, k, k))
        assert values.shape == (batch, k)
        assert vectors.shape == (batch, k, k)


CASES: Cases = {
    **{
        f"eigh-{k}-{name}": partial(random, batch, k, dtype)
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
        for batch, k in ((3, 1), (3, 2), (3, 3), (2, 8), (2, 13))
    },
    "eigh-32-float32": partial(random, 1, 32, torch.float32),
    "eigh-33-float64": partial(random, 1, 33, torch.float64),
    "eigh-64-float32-sparse": partial(sparse, torch.float32),
    "eigh-64-float64-sparse": partial(sparse, torch.float64),
    "eigh-5-float32-strided": partial(strided, 5, torch.float32),
    "eigh-6-float64-strided": partial(strided, 6, torch.float64),
    "eigh-upper": upper_triangle_is_not_read,
    "eigh-easy-float32": partial(easy_and_extreme, torch.float32),
    "eigh-easy-float64": partial(easy_and_extreme, torch.float64),
    "eigh-ties": equal_values_keep_their_places,
    "eigh-nan": partial(not_finite, float("nan")),
    "eigh-infinity": partial(not_finite, float("inf")),
    "eigh-nan-anywhere": nan_anywhere,
    "eigh-rounding-float32": partial(rounding_errors_are_left_alone, torch.float32),
    "eigh-rounding-float64": partial(rounding_errors_are_left_alone, torch.float64),
    "eigh-company": alone_and_in_company,
    "eigh-65": largest_of_the_kernels,
    "eigh-several-launches": several_launches,
    "eigh-empty": empty,
}
