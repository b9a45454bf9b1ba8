"""The second moment of all squares and systems with it, against the list of the squares."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch

from hessx.solve.least_squares import square_factor
from hessx.solve.least_squares.conjugate_gradients import conjugate_gradients
from hessx.solve.least_squares.square_matrices import circulant_eigenvalues
from hessx.solve.least_squares.squares import DENSE_UP_TO, SquareMoments
from tests.references.boxes import box_matrix

# A pixel, a row, a column, a square that is the picture, sizes that differ.
PROBLEMS = ((1, 1, (1,)), (1, 5, (1,)), (4, 1, (1,)), (3, 3, (1, 3)), (6, 4, (1, 2, 4)))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("p1", "p2", "sides"), [*PROBLEMS, (5, 7, (2, 3)), (7, 5, (4,))])
def test_moment_and_matrix(p1, p2, sides):
    squares = SquareMoments(p1, p2, sides)
    z = box_matrix(p1, p2, sides)
    assert squares.count == len(z)
    # Counts of pairs of pixels are whole numbers, divided once.
    assert torch.equal(squares.gram(), z.mT @ z / len(z))
    v, differences = normal(3, p1 * p2), normal(3, len(z), seed=1)
    torch.testing.assert_close(squares.dots(v), v @ z.mT)
    torch.testing.assert_close(squares.moment(differences), differences @ z / len(z))
    torch.testing.assert_close(squares.apply(v), v @ squares.gram())


@pytest.mark.parametrize("method", ["cholesky", "conjugate gradients"])
@pytest.mark.parametrize(("p1", "p2", "sides"), PROBLEMS)
def test_solution_is_least_squares_on_all_squares(p1, p2, sides, method):
    squares, z = SquareMoments(p1, p2, sides), box_matrix(p1, p2, sides)
    differences = normal(2, len(z))
    found = squares.solve(squares.moment(differences), method=method)
    expected = torch.linalg.lstsq(z, differences.mT).solution.mT
    # Conjugate gradients stop at 1e-10, times a condition below sum of s^4 <= 273.
    assert relative(found.solution, expected) < (1e-12 if method == "cholesky" else 3e-8)
    assert found.ridge == 0
    assert (found.residual <= (1e-13 if method == "cholesky" else 1e-10)).all()
    assert (found.iterations == 0) == (method == "cholesky")


def test_digit_sized_squares():
    """5,605 squares of sides 1 to 10 on 28 x 28 pixels, whose condition is 12,923."""
    squares = SquareMoments(28, 28, range(1, 11))
    z = squares.dots(torch.eye(784, dtype=torch.float64)).mT
    assert z.shape == (5605, 784)
    differences = normal(2, 5605)
    found = squares.solve(squares.moment(differences))
    expected = torch.linalg.lstsq(z, differences.mT).solution.mT
    assert relative(found.solution, expected) < 1e-8
    # The iterations behind the estimate end some percent below.
    assert 0.8 * 12923 < found.condition <= 12924
    iterated = squares.solve(squares.moment(differences), method="conjugate gradients")
    # 1e-10 in the residual, times the condition at the worst.
    assert relative(iterated.solution, found.solution) < 1e-6
    assert iterated.iterations < 80


def test_pictures_above_the_bound_take_conjugate_gradients():
    squares = SquareMoments(52, 47, (1, 2, 3, 5))
    assert DENSE_UP_TO < 52 * 47
    x = normal(3, 52 * 47)
    x[1] = 0
    found = squares.solve(squares.apply(x))
    # The condition is below sum of s^4 = 723.
    assert relative(found.solution, x) < 1e-10 * 723
    assert 0 < found.iterations < 60
    assert (found.solution[1] == 0).all()
    assert (found.residual <= 1e-10).all()


def test_ridge_where_the_squares_leave_something_open():
    """A chessboard adds up to 0 on all squares of side 2; odd sizes have no such frequency."""
    for p1, p2 in ((6, 6), (7, 9)):
        squares = SquareMoments(p1, p2, (2,))
        x = normal(2, p1 * p2)
        rhs = squares.apply(x)
        for method in ("cholesky", "conjugate gradients"):
            found = squares.solve(rhs, method=method)
            # At most 4 pixels of one square share it, in 4 squares: the largest row sum.
            assert found.ridge == pytest.approx(16 / squares.count / 1e12)
            # Any solution answers the squares alike.
            assert relative(squares.dots(found.solution), squares.dots(x)) < 1e-6
        with pytest.raises(ValueError, match=r"ridge must be larger, or 'auto'.*got ridge = 0"):
            squares.solve(rhs, ridge=0, method="cholesky")


def test_no_ridge_where_sides_without_1_determine_it():
    squares = SquareMoments(12, 11, (3, 4, 5))
    eigenvalues = torch.linalg.eigvalsh(squares.gram())
    found = squares.solve(normal(1, 132))
    assert found.ridge == 0
    assert found.condition == pytest.approx((eigenvalues[-1] / eigenvalues[0]).item(), rel=0.1)


@pytest.mark.parametrize("method", ["cholesky", "conjugate gradients"])
def test_given_ridge(method):
    squares = SquareMoments(6, 7, (2, 3))
    rhs, ridge = normal(2, 42), 0.01
    expected = torch.linalg.solve(squares.gram() + ridge * torch.eye(42).double(), rhs.mT).mT
    found = squares.solve(rhs, ridge=ridge, method=method)
    assert found.ridge == ridge
    assert relative(found.solution, expected) < 1e-8


def test_circulant_is_the_mean_of_the_diagonals():
    p1, p2, sides = 5, 6, (1, 3, 4)
    gram = SquareMoments(p1, p2, sides).gram() * SquareMoments(p1, p2, sides).count
    frequencies = torch.fft.fft2(torch.eye(p1 * p2).view(-1, p1, p2).cdouble(), norm="ortho")
    f = frequencies.flatten(1)
    diagonal = (f.conj() * (gram.cdouble() @ f)).sum(0).real.view(p1, p2)
    found = circulant_eigenvalues(p1, p2, sides, torch.device("cpu"))
    torch.testing.assert_close(found, diagonal[:, : p2 // 2 + 1])
    eigenvalues = torch.linalg.eigvalsh(gram)
    assert eigenvalues[0] <= found.min() <= found.max() <= eigenvalues[-1]


def test_factor_is_made_once_and_the_cache_is_bounded(monkeypatch):
    made = []
    make = square_factor._make

    def counted(*key):
        made.append(key)
        return make(*key)

    monkeypatch.setattr(square_factor, "_make", counted)
    monkeypatch.setattr(square_factor, "_cache", square_factor._Cache())
    # Room for two factors of 36 numbers of 8 bytes squared.
    monkeypatch.setattr(square_factor, "_CACHE_BYTES", 2 * 8 * 36**2)
    squares = SquareMoments(6, 6, (1, 2))
    threads = [
        threading.Thread(target=squares.solve, args=(normal(1, 36, seed=seed),))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    SquareMoments(6, 6, [1, 2]).solve(normal(1, 36))
    assert len(made) == 1
    squares.solve(normal(1, 36), ridge=0.5)
    squares.solve(normal(1, 36))
    squares.solve(normal(1, 36), ridge=0.25)
    assert len(made) == 3
    # The one used last but one was kept, the other was dropped.
    squares.solve(normal(1, 36))
    assert len(made) == 3
    squares.solve(normal(1, 36), ridge=0.5)
    assert len(made) == 4


def test_conjugate_gradients_that_do_not_arrive_say_so(monkeypatch):
    monkeypatch.setattr("hessx.solve.least_squares.squares._MAX_ITERATIONS", 3)
    squares = SquareMoments(9, 8, (1, 2, 5))
    with pytest.warns(RuntimeWarning, match="stopped after 3 iterations at a relative residual"):
        found = squares.solve(normal(1, 72), method="conjugate gradients")
    assert found.iterations == 3
    residual = relative(squares.apply(found.solution), normal(1, 72))
    assert found.residual.item() == pytest.approx(residual)


def test_systems_do_not_disturb_each_other():
    """Alone and in company, a system takes the same steps until it is done."""
    matrix = torch.diag(torch.tensor([1.0, 4.0, 9.0, 16.0], dtype=torch.float64))
    rhs = torch.tensor([[1.0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]], dtype=torch.float64)

    def solve(b):
        return conjugate_gradients(
            lambda v: v @ matrix,
            b,
            preconditioner=lambda r: r,
            tolerance=1e-12,
            max_iterations=20,
        )

    together = solve(rhs)
    torch.testing.assert_close(together.solution, rhs / matrix.diag(), rtol=1e-11, atol=0)
    assert together.iterations == 4
    assert solve(rhs[:1]).iterations == 1
    assert torch.equal(together.solution[:1], solve(rhs[:1]).solution)
    assert (together.solution[2] == 0).all()
    assert together.residual[2] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((2.0, 2, [1]), TypeError, "p1 must be an integer, got float"),
        ((2, 0, [1]), ValueError, "p2 must be >= 1, got 0"),
        ((2, 2, []), ValueError, "sides must name at least one side"),
        ((2, 2, [1, 1]), ValueError, r"sides must increase, got \[1, 1\]"),
        ((3, 3, [2, 1]), ValueError, r"sides must increase, got \[2, 1\]"),
        ((3, 2, [3]), ValueError, r"\[1, min\(p1, p2\)\] = \[1, 2\], got 3"),
        ((3, 2, [0]), ValueError, r"got 0"),
        ((3, 2, [1.0]), TypeError, "sides must be integers, got float"),
    ],
)
def test_wrong_squares(arguments, error, message):
    with pytest.raises(error, match=message):
        SquareMoments(*arguments)


@pytest.mark.parametrize(
    ("rhs", "options", "error", "message"),
    [
        (torch.ones(4), {}, ValueError, r"rhs must have shape \(T, 4\), got \(4,\)"),
        (torch.ones(1, 5), {}, ValueError, r"rhs must have shape \(T, 4\), got \(1, 5\)"),
        (torch.full((1, 4), float("nan")), {}, ValueError, "rhs must be finite"),
        (torch.ones(1, 4), {"ridge": -1.0}, ValueError, "ridge must be >= 0 and finite, got -1"),
        (torch.ones(1, 4), {"ridge": "small"}, TypeError, "number or 'auto', got 'small'"),
        (torch.ones(1, 4), {"method": "lu"}, ValueError, "method must be .* got 'lu'"),
    ],
)
def test_wrong_systems(rhs, options, error, message):
    with pytest.raises(error, match=message):
        SquareMoments(2, 2, [1, 2]).solve(rhs, **options)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [range(1, 16), range(10, 31)])
def test_photograph_sized_squares(sides):
    squares = SquareMoments(224, 224, sides)
    x = normal(1, 224 * 224)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = squares.solve(squares.apply(x))
    assert found.iterations < 200
    assert found.ridge == 0 if sides[0] == 1 else 0 < found.ridge < 1e-11
    # What the squares see of it is found to the residual times the root of the condition.
    assert relative(squares.dots(found.solution), squares.dots(x)) < 1e-6
