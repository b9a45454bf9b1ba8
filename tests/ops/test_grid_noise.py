"""Noise on grids on every CPU backend: the unfused form, its covariance, invariance, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops import grid_normal, normal
from tests.references.edges import GRIDS, difference_matrix

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FULL = 2**32 - 1


def unfused(n: int, p1: int, p2: int, dtype: torch.dtype, **place: int) -> torch.Tensor:
    """The same noise from normal numbers that are stored, in float64 from there on."""
    m = 2 * p1 * p2 - p1 - p2
    drawn = normal(n, m + 1, dtype=dtype, **place).double()
    pictures = drawn[:, :m] @ difference_matrix(p1, p2) + drawn[:, m:] / (p1 * p2) ** 0.5
    return pictures.unflatten(1, (p1, p2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_unfused_form(cpu_backend, dtype):
    """Four additions of numbers up to 7 are what rounding can move."""
    place = {"seed": 2**62 + 12345, "first_sample": 2**40 + 2**32 - 7, "stream": FULL}
    atol = 1e-12 if dtype == torch.float64 else 1e-5
    for p1, p2 in GRIDS:
        found = grid_normal(37, p1, p2, dtype=dtype, **place)
        assert found.shape == (37, p1, p2)
        assert found.dtype == dtype
        expected = unfused(37, p1, p2, dtype, **place)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


def differences_by_slices(drawn: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """The unfused form of large pictures, whose D is too large to be stored."""
    split = p1 * (p2 - 1)
    out = drawn[:, -1:, None].expand(-1, p1, p2) / (p1 * p2) ** 0.5
    right = drawn[:, :split].unflatten(1, (p1, p2 - 1))
    down = drawn[:, split:-1].unflatten(1, (p1 - 1, p2))
    pad = torch.nn.functional.pad
    return (
        out
        - pad(right, (0, 1))
        + pad(right, (1, 0))
        - pad(down, (0, 0, 0, 1))
        + pad(down, (0, 0, 1, 0))
    )


@pytest.mark.parametrize("shape", [(224, 224), (65, 64), (3, 5000), (1, 9001), (9001, 1), (67, 97)])
def test_large_pictures_are_drawn_in_bands(native_level, shape):
    m = 2 * shape[0] * shape[1] - sum(shape)
    expected = differences_by_slices(normal(2, m + 1, seed=3, first_sample=9), *shape)
    found = grid_normal(2, *shape, seed=3, first_sample=9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_round_the_float32_result(cpu_backend, dtype):
    wide = grid_normal(50, 9, 11, seed=4, stream=1)
    assert torch.equal(grid_normal(50, 9, 11, seed=4, stream=1, dtype=dtype), wide.to(dtype))


def test_covariance():
    """200,000 draws err by about 1 part in 300 of the largest entry, 4 times that at the most."""
    n, p1, p2 = 200_000, 6, 5
    drawn = grid_normal(n, p1, p2, seed=8, dtype=torch.float32).flatten(1).double()
    differences = difference_matrix(p1, p2)
    expected = differences.T @ differences + 1 / (p1 * p2)
    error = (drawn.T @ drawn / n - expected).abs().max()
    assert error < 1e-2 * expected.max()
    # The mean of all pixels is that of w alone: variance 1 / p.
    assert abs(drawn.mean(1).square().mean() * p1 * p2 - 1) < 1e-2


@pytest.mark.parametrize("shape", [(3, 4), (70, 64)])
@pytest.mark.parametrize("first", [0, 2**32 - 3, 2**63 - 100])
def test_blocks_join(cpu_backend, first, shape):
    whole = grid_normal(9, *shape, seed=1, first_sample=first)
    parts = [grid_normal(3, *shape, seed=1, first_sample=first + start) for start in (0, 3, 6)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("change", [{"seed": 8}, {"stream": 1}, {"first_sample": 500}])
def test_seeds_streams_and_samples_are_independent(cpu_backend, change):
    place = {"seed": 7, "stream": 0, "first_sample": 0}
    a = grid_normal(500, 10, 10, **place).mean((1, 2))
    b = grid_normal(500, 10, 10, **(place | change)).mean((1, 2))
    # The correlation of 500 independent pairs has a standard deviation of 0.045.
    assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1]) < 0.18


@pytest.mark.parametrize("shape", [(3, 4), (70, 64), (1, 5000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_change_a_bit(native_level, shape, dtype):
    torch.set_num_threads(1)
    alone = grid_normal(31, *shape, seed=4, dtype=dtype)
    for n_threads in (2, 5):
        torch.set_num_threads(n_threads)
        assert torch.equal(grid_normal(31, *shape, seed=4, dtype=dtype), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_output(cpu_backend, dtype):
    storage = torch.full((3 * 5, 2 * 6, 2 * 7), -70.0, dtype=dtype)
    out = storage[::3, 1::2, ::2]
    torch.ops.hessx.grid_normal(out, 5, 0, 0)
    assert torch.equal(out, grid_normal(5, 6, 7, seed=5, dtype=dtype))
    assert (storage == -70).sum() == storage.numel() - out.numel()
    transposed = torch.empty(5, 7, 6, dtype=dtype).mT
    torch.ops.hessx.grid_normal(transposed, 5, 0, 0)
    assert torch.equal(transposed, out)


def test_few_numbers_at_once(monkeypatch, cpu_backend):
    """Half types and the reference go through float32 pictures a few at a time."""
    module = hessx.ops.table.implementation(
        next(op for op in hessx.ops.table.OPS if op.name == "grid_normal"), cpu_backend
    ).__module__
    expected = grid_normal(7, 3, 4, seed=5, dtype=torch.float16)
    monkeypatch.setattr(f"{module}._NUMBERS_AT_ONCE", 40)
    assert torch.equal(grid_normal(7, 3, 4, seed=5, dtype=torch.float16), expected)


def test_empty_and_single(cpu_backend):
    assert grid_normal(0, 3, 4, seed=0).shape == (0, 3, 4)
    torch.testing.assert_close(
        grid_normal(5, 1, 1, seed=2)[:, 0], normal(5, 1, seed=2), rtol=0, atol=1e-6
    )


def test_compiled():
    def draw(n):
        return grid_normal(n, 3, 4, seed=6) * 2

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(5), draw(5))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be in"),
        ({"p1": 0}, ValueError, "p1 must be >= 1, got 0"),
        ({"p2": -3}, ValueError, "p2 must be >= 1, got -3"),
        ({"p1": 2.0}, TypeError, "p1 must be an integer, got float"),
        ({"p2": True}, TypeError, "p2 must be an integer, got bool"),
        ({"p1": 2**20, "p2": 2**20}, ValueError, r"less than 2\*\*34 edges, got 1048576 x"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"seed": 2**63}, ValueError, "seed must be in"),
        ({"seed": 1.0}, TypeError, "seed must be an integer, got float"),
        ({"stream": 2**32}, ValueError, "stream must be in"),
        ({"first_sample": 2**63 - 1}, ValueError, "first_sample must be in"),
        ({"dtype": torch.int32}, TypeError, "dtype must be one of"),
    ],
)
def test_wrong_arguments(change, error, message):
    with pytest.raises(error, match=message):
        grid_normal(**({"n": 2, "p1": 3, "p2": 4, "seed": 0} | change))


def test_raw_op_refuses_what_is_no_picture(cpu_backend):
    for shape in ((3, 4), (2, 0, 4), (2, 3, 0)):
        with pytest.raises(ValueError, match=r"out must have shape \(n, p1, p2\)"):
            torch.ops.hessx.grid_normal(torch.empty(shape), 0, 0, 0)
    with pytest.raises(TypeError, match="out must have a dtype"):
        torch.ops.hessx.grid_normal(torch.empty(2, 3, 4, dtype=torch.int32), 0, 0, 0)
