"""Steps on the edges of grids on every CPU backend: values, gradients, NaN, threads, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops import edge_divergence, edge_prox, edge_update
from tests.references.edges import (
    GRIDS,
    assert_divergence,
    assert_update,
    difference_matrix,
    problem,
    prox,
)
from tests.references.shrink import spread

DTYPES = (torch.float32, torch.float64)
# More than one block of rows, and of columns.
LARGE = ((70, 64), (2, 5000), (1, 9001), (9001, 1))
BOX = ("z", "centre", "radius", "threshold")


def of_box(arguments: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The arguments of edge_prox among those of edge_update."""
    return [arguments[name] for name in BOX]


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(cpu_backend, dtype):
    for p1, p2 in GRIDS:
        arguments = problem(3, p1, p2, dtype)
        # Each difference is rounded once, and which one is taken is not rounded.
        assert torch.equal(edge_prox(*of_box(arguments)), prox(*of_box(arguments)))
        assert_divergence(edge_divergence(*of_box(arguments), p1, p2), p1, p2, arguments)
        assert_update(edge_update(**arguments), arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_values_are_those_of_the_reference(native_level, dtype):
    eps = torch.finfo(dtype).eps
    for p1, p2 in LARGE:
        arguments = problem(2, p1, p2, dtype)
        found = (
            edge_prox(*of_box(arguments)),
            edge_divergence(*of_box(arguments), p1, p2),
            *edge_update(**arguments),
        )
        with hessx.backend("reference"):
            expected = (
                edge_prox(*of_box(arguments)),
                edge_divergence(*of_box(arguments), p1, p2),
                *edge_update(**arguments),
            )
        # Numbers below 16, rounded at most five times; sums of 9000 squares in float64.
        for a, b, rtol, atol in zip(
            found, expected, (0, 0, 0, 4 * eps + 1e-14), (0, 64 * eps, 64 * eps, 0), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def test_problem_has_entries_of_every_kind():
    arguments = problem(3, 9, 66)
    a = edge_prox(*of_box(arguments))
    at_bound = (a - arguments["centre"]).abs() >= arguments["radius"][:, None] - 1e-12
    for kind in (at_bound, a == 0, ~at_bound & (a != 0)):
        assert kind.double().mean() > 0.1


def test_prox_is_the_minimiser(cpu_backend):
    """No other point of the box has a smaller value of threshold |a| + (a - z)^2 / 2."""
    z, centre, radius, threshold = of_box(problem(4, 6, 5))
    a = edge_prox(z, centre, radius, threshold)
    grid = centre + radius[:, None] * torch.linspace(-1, 1, 401)[:, None, None]

    def value(x):
        return threshold[:, None] * x.abs() + (x - z).square() / 2

    assert (value(a) <= value(grid).min(0).values + 1e-12).all()


def test_prox_at_its_edges(cpu_backend):
    inf, nan = float("inf"), float("nan")
    z = torch.tensor([[-9.0, -0.5, 0.0, 0.5, 9.0, inf, -inf, nan]])
    for centre, radius, threshold, expected in [
        (0.0, 1.0, 1.0, [-1.0, 0, 0, 0, 1, 1, -1, nan]),
        (5.0, 0.0, 1.0, [5.0, 5, 5, 5, 5, 5, 5, nan]),
        (0.0, inf, 0.0, [-9.0, -0.5, 0, 0.5, 9, inf, -inf, nan]),
        (0.0, 1.0, inf, [0.0, 0, 0, 0, 0, nan, nan, nan]),
        (0.0, -1.0, 0.0, [nan] * 8),
        (nan, 1.0, 0.0, [nan] * 8),
        (0.0, nan, 0.0, [nan] * 8),
        (0.0, 1.0, nan, [nan] * 8),
    ]:
        numbers = torch.tensor([radius]), torch.tensor([threshold])
        found = edge_prox(z, torch.full_like(z, centre), *numbers)
        torch.testing.assert_close(found, torch.tensor([expected]), rtol=0, atol=0, equal_nan=True)


def test_divergence_and_update_are_adjoint(cpu_backend):
    """<D^T b, g> = <b, D g> by the two ops alone: a box of one point, and no step back."""
    p1, p2 = 6, 5
    arguments = problem(3, p1, p2)
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    centre, g = arguments["centre"], arguments["potential"]
    nothing = torch.zeros_like(centre)
    divergence = edge_divergence(nothing, centre, zero, zero, p1, p2)
    advanced, _ = edge_update(centre, nothing, centre, g, zero, zero, one)
    difference = (advanced + centre) / 2
    torch.testing.assert_close(
        (divergence * g).sum((1, 2)), 2 * (centre * difference).sum(1), rtol=1e-12, atol=1e-12
    )


def test_iteration_solves_the_program():
    """min |D g|_1 in the box, by the iteration the ops are made for: one peak is lowered by R."""
    p1, p2 = 5, 6
    estimate = torch.zeros(1, p1, p2, dtype=torch.float64)
    estimate[0, 2, 3] = 1
    matrix = difference_matrix(p1, p2)
    inverse = torch.linalg.pinv(matrix.T @ matrix)
    centre = (matrix @ estimate.flatten())[None]
    radius, threshold, one = torch.tensor([[0.3], [0.25], [1.0]], dtype=torch.float64)
    z = anchor = centre
    for k in range(500):
        divergence = edge_divergence(z, centre, radius, threshold, p1, p2)
        potential = (inverse @ divergence.flatten()).reshape(1, p1, p2)
        weight = one * (k + 1) / (k + 2)
        z, residual = edge_update(z, anchor, centre, potential, radius, threshold, weight)
    a = edge_prox(z, centre, radius, threshold)
    # Four edges of 1, each of which may move by .3 towards zero.
    assert a.abs().sum().item() == pytest.approx(4 * 0.7, abs=2e-3)
    assert residual.item() < 1e-5


def test_residual_is_added_up_in_float64(cpu_backend):
    """2^24 + 1 is no float32 number: a float32 total would lose every later edge."""
    z = torch.ones(1, 2 * 70 * 64 - 134)
    z[0, 0] = 2.0**12
    zero, numbers = torch.zeros_like(z), torch.ones(1)
    _, residual = edge_update(
        z, zero, zero, torch.zeros(1, 70, 64), 2.0**13 * numbers, 0 * numbers, numbers
    )
    assert residual.item() == 2.0**24 + z.shape[1] - 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_output_used_again(cpu_backend, dtype):
    arguments = problem(2, 9, 66, dtype)
    expected = edge_update(**arguments)
    out = torch.full_like(arguments["z"], torch.nan)
    found = edge_update(**arguments, out=out)
    assert found[0] is out
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for name in ("z", "anchor"):
        copies = arguments | {name: arguments[name].clone()}
        found = edge_update(**copies, out=copies[name])
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_compiled():
    arguments = tuple(problem(2, 4, 5).values())

    def step(z, anchor, centre, potential, radius, threshold, weight):
        divergence = edge_divergence(z, centre, radius, threshold, 4, 5)
        return edge_update(z, anchor, centre, divergence + potential, radius, threshold, weight)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(*arguments), step(*arguments), strict=True):
        assert torch.equal(found, expected)


def test_empty(cpu_backend):
    arguments = problem(0, 3, 4)
    assert edge_prox(*of_box(arguments)).shape == (0, 17)
    assert edge_divergence(*of_box(arguments), 3, 4).shape == (0, 3, 4)
    next_point, residual = edge_update(**arguments)
    assert next_point.shape == (0, 17)
    assert residual.shape == (0,)
    # A single pixel has no edges: nothing flows, and nothing is left over.
    arguments = problem(2, 1, 1)
    assert edge_prox(*of_box(arguments)).shape == (2, 0)
    assert torch.equal(edge_divergence(*of_box(arguments), 1, 1), torch.zeros(2, 1, 1).double())
    assert torch.equal(edge_update(**arguments)[1], torch.zeros(2).double())


def test_strided(cpu_backend):
    arguments = problem(3, 6, 5)
    strided = {name: spread(x) for name, x in arguments.items()}
    assert not any(x.is_contiguous() for x in strided.values())
    assert torch.equal(edge_prox(*of_box(strided)), edge_prox(*of_box(arguments)))
    for found, expected in zip(
        (edge_divergence(*of_box(strided), 6, 5), *edge_update(**strided)),
        (edge_divergence(*of_box(arguments), 6, 5), *edge_update(**arguments)),
        strict=True,
    ):
        # torch orders the sums of the reference by strides.
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", problem(1, 1, 1))
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_reaches_what_it_touches_alone(cpu_backend, name, dtype):
    p1, p2 = 5, 34
    arguments = problem(3, p1, p2, dtype)

    def results():
        box = of_box(arguments)
        return edge_prox(*box), edge_divergence(*box, p1, p2), *edge_update(**arguments)

    clean = results()
    x = arguments[name]
    # Pixel (0, 1) and edge 1, from it to (0, 2).
    x[{1: (1,), 2: (1, 1), 3: (1, 0, 1)}[x.ndim]] = torch.nan
    everything = x.ndim == 1
    edges = [0, 1, p1 * (p2 - 1) + 1] if name == "potential" else [1]
    in_box = name in BOX
    expected = (
        (in_box, [1]),
        (in_box, [1, 2]),
        (True, edges),
        (name not in ("anchor", "weight"), [0]),
    )
    for result, (reached, places) in zip(results(), expected, strict=True):
        nan = result[1].isnan().flatten()
        places = list(range(nan.numel())) if everything else places
        assert nan.nonzero().flatten().tolist() == (places if reached else [])
    for found, expected in zip(results(), clean, strict=True):
        assert torch.equal(found[::2], expected[::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 66), (70, 64), (2, 5000)])
def test_threads_and_company_do_not_change_a_bit(native_level, dtype, shape):
    arguments = problem(3, *shape, dtype)

    def results(arguments):
        box = of_box(arguments)
        return edge_prox(*box), edge_divergence(*box, *shape), *edge_update(**arguments)

    torch.set_num_threads(1)
    alone = results(arguments)
    for n_threads in (2, 5):
        torch.set_num_threads(n_threads)
        assert all(torch.equal(a, b) for a, b in zip(results(arguments), alone, strict=True))
    single = results({name: x[1:2] for name, x in arguments.items()})
    assert all(torch.equal(a, b[1:2]) for a, b in zip(single, alone, strict=True))


# The gradient is written in torch and calls no kernel: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_prox_gradient(backend):
    z = torch.linspace(-3, 3, 20, dtype=torch.float64).reshape(2, 10).requires_grad_()
    centre = torch.linspace(-0.7, 0.9, 20, dtype=torch.float64).flip(0).reshape(2, 10)
    numbers = torch.tensor([[1.3, 0.8], [0.4, 0.55]], dtype=torch.float64)
    radius, threshold = numbers.requires_grad_().unbind()
    with hessx.backend(backend):
        a = edge_prox(z, centre, radius, threshold)
        shrunk = (z.abs() - threshold[:, None]).clamp(min=0) * z.sign()
        # Away from the kinks, on every side of them.
        for kink in (z.abs() - threshold[:, None], (shrunk - centre).abs() - radius[:, None]):
            assert kink.abs().min() > 1e-4
            assert (kink > 0).any()
            assert (kink < 0).any()
        assert ((a == 0) & (shrunk == 0)).any()
        inputs = (z, centre.requires_grad_(), radius, threshold)
        assert torch.autograd.gradcheck(edge_prox, inputs)
        assert torch.autograd.gradgradcheck(edge_prox, inputs)


def test_the_others_have_no_gradient():
    arguments = problem(1, 2, 2)
    arguments["z"].requires_grad_()
    assert not edge_divergence(*of_box(arguments), 2, 2).requires_grad
    assert not any(x.requires_grad for x in edge_update(**arguments))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(z=[[1.0]]), TypeError, "z must be a tensor, got list"),
        (dict(z=torch.ones(2, 7).half()), TypeError, "z must have a dtype of"),
        (dict(z=torch.ones(7)), ValueError, r"z must have shape \(N, m\), got \(7,\)"),
        (dict(centre=torch.ones(2, 6)), ValueError, r"centre must have the shape of z, \(2, 7\)"),
        (dict(centre=torch.ones(2, 7).double()), TypeError, "centre must have the dtype of z"),
        (dict(radius=torch.ones(3)), ValueError, r"radius must hold one number a row, 2, got"),
        (dict(threshold=0.5), TypeError, "threshold must be a tensor, got float"),
        (dict(threshold=torch.ones(2, device="meta")), ValueError, "on the device of z"),
    ],
)
def test_wrong_box(change, error, message):
    arguments = {name: torch.ones(2, 7) for name in BOX[:2]} | {
        name: torch.ones(2) for name in BOX[2:]
    }
    for op in (
        edge_prox,
        lambda **x: edge_divergence(**x, p1=2, p2=3),
        lambda **x: edge_update(
            **x, anchor=torch.ones(2, 7), potential=torch.ones(2, 2, 3), weight=torch.ones(2)
        ),
    ):
        with pytest.raises(error, match=message):
            op(**arguments | change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(p1=0), ValueError, "p1 must be >= 1, got 0"),
        (dict(p2=2.0), TypeError, "p2 must be an integer, got float"),
        (dict(p1=True), TypeError, "p1 must be an integer, got bool"),
        (dict(p2=4), ValueError, r"z must have the 10 edges of a grid of 2 x 4 pixels, got 7"),
    ],
)
def test_wrong_grid(change, error, message):
    box = (torch.ones(2, 7), torch.ones(2, 7), torch.ones(2), torch.ones(2))
    with pytest.raises(error, match=message):
        edge_divergence(*box, **({"p1": 2, "p2": 3} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(anchor=torch.ones(2, 8)), ValueError, "anchor must have the shape of z"),
        (dict(potential=torch.ones(2, 6)), ValueError, r"potential must have shape \(N, p1, p2\)"),
        (dict(potential=torch.ones(3, 2, 3)), ValueError, r"with N = 2 .* got \(3, 2, 3\)"),
        (dict(potential=torch.ones(2, 0, 3)), ValueError, r"p1, p2 >= 1, got \(2, 0, 3\)"),
        (dict(potential=torch.ones(2, 3, 3)), ValueError, "z must have the 12 edges"),
        (dict(weight=torch.ones(1)), ValueError, "weight must hold one number a row, 2"),
        (dict(weight=torch.ones(2).int()), TypeError, "weight must have a dtype of"),
        (dict(out=torch.ones(2, 6)), ValueError, "out must have the shape of z"),
        (dict(out=torch.ones(7, 2).T), ValueError, r"out must be contiguous, got strides \(1, 2\)"),
    ],
)
def test_wrong_update(change, error, message):
    with pytest.raises(error, match=message):
        edge_update(**problem(2, 2, 3, torch.float32) | change)


def test_raw_ops_refuse_what_would_reach_out_of_bounds(cpu_backend):
    arguments = tuple(problem(2, 2, 3).values())
    z, _, centre, _, radius, threshold, _ = arguments
    with pytest.raises(ValueError, match="radius must hold one number a row"):
        torch.ops.hessx.edge_prox(z, centre, radius[:1], threshold)
    for out, message in [
        (torch.ones(2, 3, 3).double(), "z must have the 12 edges"),
        (torch.ones(1, 2, 3).double(), r"out must have shape \(N, p1, p2\) with N = 2"),
        (torch.ones(2, 6).double(), r"out must have shape \(N, p1, p2\) with N = 2"),
        (torch.ones(2, 3, 2).double().mT, "out must be contiguous"),
    ]:
        with pytest.raises(ValueError, match=message):
            torch.ops.hessx.edge_divergence(z, centre, radius, threshold, out)
    with pytest.raises(TypeError, match="out must have the dtype of z"):
        torch.ops.hessx.edge_divergence(z, centre, radius, threshold, torch.ones(2, 2, 3))
    sums = torch.empty(2, dtype=torch.float64)
    for outputs, message in [
        ((z[:1], sums), "next must have the shape of z"),
        ((z, sums[:1]), r"residual must be contiguous, float64, of shape \(2,\)"),
        ((z, sums.float()), "residual must be contiguous, float64"),
        ((z, sums.to("meta")), "residual must be on the device of z"),
    ]:
        with pytest.raises(ValueError, match=message):
            torch.ops.hessx.edge_update(*arguments, *outputs)
