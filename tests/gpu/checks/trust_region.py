"""Trust-region problems by CUDA C++: the optimality conditions, and the float64 reference."""

from __future__ import annotations

from functools import partial

import torch

from hessx.ops.trust_region.cuda import trust_region
from tests.gpu.checks import Cases
from tests.references.trust_region import assert_as_reference, assert_optimal, problems

DTYPES = (torch.float32, torch.float64)
KINDS = tuple(problems(torch.float32, batch=1))


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same in every process."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def check(eigenvalues: torch.Tensor, gradient: torch.Tensor, radius: torch.Tensor) -> None:
    solution = trust_region(eigenvalues, gradient, radius)
    assert_optimal(eigenvalues, gradient, radius, solution)
    assert_as_reference(eigenvalues, gradient, radius, solution)


def _kind(dtype: torch.dtype, kind: str) -> None:
    # 40 coordinates: the lanes' second strip is partly empty.
    check(*problems(dtype, batch=5, k=40)[kind])


def _edges(dtype: torch.dtype) -> None:
    """Where Newton's method alone is too slow: more problems, for its bounds to meet."""
    several = problems(dtype, batch=24)
    for kind in ("nearly hard", "edge of hard", "past the edge of hard", "nearly singular"):
        check(*several[kind])


def _grazing(dtype: torch.dtype) -> None:
    """The other coordinates all but reach the boundary, or pass it by as little.

    The shift is then far from where its search begins, on a scale of its own.
    """
    digits = torch.arange(2, 8 if dtype == torch.float32 else 16)
    distance = torch.cat([10.0 ** -digits.double(), -(10.0 ** -digits.double())])
    for lowest, slope in ((-5.0, 1e-30), (-5.0, 1e-6), (1e-12, 1e-9), (1e-3, 1e-4), (0.0, 1e-12)):
        e = numbers(len(distance), 40, dtype=torch.float64).abs() + max(lowest, 0)
        e[:, 3] = lowest
        g = numbers(len(distance), 40, dtype=torch.float64, seed=1)
        g[:, 3] = 0
        reach = torch.where(g == 0, 0, g / (e - min(lowest, 0))).norm(dim=1)
        g[:, 3] = slope
        check(*(x.to(dtype) for x in (e, g, reach * (1 + distance))))


def _size(dtype: torch.dtype, batch: int, k: int) -> None:
    e, g = numbers(batch, k, dtype=dtype), numbers(batch, k, dtype=dtype, seed=1)
    check(e, g, numbers(batch, dtype=dtype, seed=2).abs() + 0.1)


def _strided() -> None:
    e, g = numbers(15, 76)[::3, ::2], numbers(76, 15, seed=1).mT[::3, ::2]
    radius = (numbers(30, seed=2).abs() + 0.1)[::6]
    assert (*e.stride(), *g.stride(), *radius.stride()) == (228, 2, 3, 30, 6)
    check(e, g, radius)
    check(e, g.contiguous(), radius[:1].expand(5))


def _first_lowest() -> None:
    """The first of several lowest eigenvalues, in each strip in turn, of the sign of -g there."""
    for first in (0, 31, 32, 69):
        for lowest in (-2.0, 0.0):
            e, g = numbers(2, 70).abs() + 0.5, numbers(70, 2, seed=1).mT / 20
            e[:, [first, 69]] = lowest
            g[:, [first, 69]] = 0
            g[1, first] = 1e-38
            radius = torch.full((2,), 3.0)
            check(e, g, radius)
            step, multiplier = trust_region(e, g, radius)
            # A singular problem is not hard: without a gradient there it has a minimiser inside.
            assert step[0, first] > 2 if lowest < 0 else step[0, first] == 0
            assert step[1, first] < -2
            assert first == 69 or (step[:, 69] == 0).all()
            assert multiplier.tolist() == [-lowest, -lowest]


def _radius_zero() -> None:
    e = numbers(5, 40).abs() + torch.tensor([-9, -0.5, 0, 0.5, 9])[:, None]
    step, multiplier = trust_region(e, numbers(5, 40), torch.zeros(5))
    assert (step == 0).all()
    assert torch.equal(multiplier, -e.amin(1).clamp(max=0))


def _saddle_inside() -> None:
    """A point inside where the gradient vanishes, which is no minimum."""
    e, g = numbers(3, 40).abs() + 0.5, numbers(3, 40, seed=1) / 1000
    e[:, 3] = -0.5
    check(e, g, torch.full((3,), 10.0))


def _radius_beside_the_inside() -> None:
    """The minimum of a convex problem lies a little outside, inside, and on the boundary."""
    e, g = numbers(3, 40).abs() + 0.5, numbers(3, 40, seed=1)
    length = (g / e).norm(dim=1)
    check(e, g, length * torch.tensor([0.8, 0.999, 1.001]))
    one = torch.ones(1, 1)
    step, multiplier = trust_region(one, one, one[0])
    assert step.item() == -1
    assert multiplier.item() == 0


def _no_gradient_at_the_lowest() -> None:
    """None of the other coordinates reaches the boundary alone, but all of them together do."""
    e = numbers(3, 40).abs() + 0.5
    e[:, 3] = -0.5
    check(e, (e + 0.5) / 2, torch.ones(3))


def _equal_terms() -> None:
    """Sums of equal terms, whose rounding errors have one sign: without compensation, 40 and 75."""
    ones = torch.ones(2, 2**14)
    check(ones, ones, torch.linspace(20, 110, 40)[[14, 30]])


def _scales(dtype: torch.dtype) -> None:
    """Curvature far above the gradient, and far below."""
    size = 10.0 ** (25 if dtype == torch.float32 else 160)
    e, g = numbers(3, 40, dtype=dtype), numbers(3, 40, dtype=dtype, seed=1)
    for scale in (size, 1 / size):
        check(e * scale, g / scale, torch.ones(3, dtype=dtype))


def _all_zero_beside_extremes() -> None:
    """What is all zero must not meet the power of two that the other argument asks for."""
    step, multiplier = trust_region(
        torch.tensor([[0.0, 0.0], [-1e-39, 1e-39]]),
        torch.tensor([[1e-42, 0.0], [0.0, 0.0]]),
        torch.tensor([1e38, 1e-39]),
    )
    expected = torch.tensor([[-1e38, 0.0], [1e-39, 0.0]])
    torch.testing.assert_close(step, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(multiplier, torch.tensor([0.0, 1e-39]), rtol=1e-6, atol=0)


def _not_finite() -> None:
    """A row that is not finite is NaN, and changes no bit of its neighbours."""
    for argument in range(3):
        for bad in (torch.nan, torch.inf, -torch.inf):
            clean = (numbers(6, 40), numbers(6, 40, seed=1), numbers(6, seed=2).abs() + 0.1)
            # What is wrong shows even where the step would be inside: g / inf = 0.
            clean[0][4] = 40
            spoilt = [x.clone() for x in clean]
            rows = spoilt[argument].view(6, -1)
            rows[1, 0] = rows[4, -1] = bad
            for result, expected in zip(trust_region(*spoilt), trust_region(*clean), strict=True):
                assert result[[1, 4]].isnan().all()
                kept = [0, 2, 3, 5]
                assert torch.equal(result[kept], expected[kept])


def _alone() -> None:
    problem = (numbers(6, 40), numbers(6, 40, seed=1), numbers(6, seed=2).abs() + 0.1)
    together = trust_region(*problem)
    for row in range(6):
        single = trust_region(*(x[row : row + 1] for x in problem))
        assert all(torch.equal(a[row : row + 1], b) for a, b in zip(together, single, strict=True))


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        for kind in KINDS:
            cases[f"{kind.replace(' ', '-')}-{name}"] = partial(_kind, dtype, kind)
        cases[f"edges-{name}"] = partial(_edges, dtype)
        cases[f"grazing-{name}"] = partial(_grazing, dtype)
        cases[f"scales-{name}"] = partial(_scales, dtype)
        for batch, k in [(0, 3), (1, 1), (3, 31), (4, 32), (5, 33), (9, 7), (2, 100)]:
            cases[f"size-{batch}x{k}-{name}"] = partial(_size, dtype, batch, k)
    cases["strided"] = _strided
    cases["all-zero-beside-extremes"] = _all_zero_beside_extremes
    cases["first-lowest"] = _first_lowest
    cases["radius-zero"] = _radius_zero
    cases["equal-terms"] = _equal_terms
    cases["saddle-inside"] = _saddle_inside
    cases["radius-beside-the-inside"] = _radius_beside_the_inside
    cases["no-gradient-at-the-lowest"] = _no_gradient_at_the_lowest
    cases["not-finite"] = _not_finite
    cases["alone"] = _alone
    return cases


CASES = _cases()
