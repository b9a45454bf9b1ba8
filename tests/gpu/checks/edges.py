"""Steps on the edges of grids by Triton, against the formulas in float64."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch

from hessx.ops.edges import triton as kernels
from tests.gpu.checks import Cases
from tests.references.edges import GRIDS, assert_divergence, assert_update, problem, prox
from tests.references.shrink import spread

Tensors = tuple[torch.Tensor, ...]
BOX = ("z", "centre", "radius", "threshold")


def run(arguments: dict[str, torch.Tensor], out: torch.Tensor | None = None) -> Tensors:
    """All three ops: the prox, the divergence, the update and its residual."""
    box = [arguments[name] for name in BOX]
    divergence = torch.empty(arguments["potential"].shape, dtype=box[0].dtype)
    kernels.edge_divergence(*box, divergence)
    a = kernels.edge_prox(*box)
    if out is None:
        out = torch.empty(box[0].shape, dtype=box[0].dtype)
    residual = torch.empty(len(out), dtype=torch.float64)
    kernels.edge_update(*arguments.values(), out, residual)
    return a, divergence, out, residual


def _values(rows: int, p1: int, p2: int, dtype: torch.dtype) -> None:
    arguments = problem(rows, p1, p2, dtype)
    a, divergence, *update = run(arguments)
    assert torch.equal(a, prox(*(arguments[name] for name in BOX)))
    assert_divergence(divergence, p1, p2, arguments)
    assert_update(tuple(update), arguments)


def _small_rectangles(p1: int, p2: int) -> None:
    # To be quick.
    with mock.patch.object(kernels, "_PIXELS", 128):
        _values(2, p1, p2, torch.float32)


def _in_place(p1: int, p2: int) -> None:
    arguments = problem(2, p1, p2, torch.float32)
    expected = run(arguments)
    for name in ("z", "anchor"):
        copies = arguments | {name: arguments[name].clone()}
        found = run(copies, out=copies[name])
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _prox_edges() -> None:
    inf, nan = float("inf"), float("nan")
    z = torch.tensor([[-9.0, -0.5, 0.0, 0.5, 9.0, inf, -inf, nan]])
    for centre, radius, threshold, expected in [
        (0.0, 1.0, 1.0, [-1.0, 0, 0, 0, 1, 1, -1, nan]),
        (5.0, 0.0, 1.0, [5.0, 5, 5, 5, 5, 5, 5, nan]),
        (0.0, inf, 0.0, [-9.0, -0.5, 0, 0.5, 9, inf, -inf, nan]),
        (0.0, -0.25, 0.0, [nan] * 8),
    ]:
        numbers = torch.tensor([radius]), torch.tensor([threshold])
        found = kernels.edge_prox(z, torch.full_like(z, centre), *numbers)
        torch.testing.assert_close(found, torch.tensor([expected]), rtol=0, atol=0, equal_nan=True)


def _squares_in_order() -> None:
    # Two columns of 64 pixels in rectangles of 16 rows: a lower edge of each has a residual.
    z, zero, number = torch.zeros(1, 63 * 2 + 64), torch.zeros(1, 64, 2), torch.zeros(1)
    below = z[:, 64:].view(1, 63, 2)
    with mock.patch.object(kernels, "_PIXELS", 32):
        for large, expected in (
            (2.0**13, 2.0**26 + 6),  # float32 would lose the others
            (2.0**27, 2.0**54 + 4),  # float64 loses the first two, and only in this order
        ):
            below[0, ::16, 0] = torch.tensor([large, 1.0, 1.0, 2.0])
            found = torch.empty(1, dtype=torch.float64)
            step = (z, z, z, zero, number, number, number, torch.empty_like(z), found)
            kernels.edge_update(*step)
            assert found.item() == expected


def _strided() -> None:
    arguments = problem(3, 4, 6)
    expected = run(arguments)
    # Contiguous rows, no two of them equally far apart.
    gaps = {
        name: torch.zeros(3, x[0].numel() + gap, dtype=x.dtype)[:, gap:].copy_(x.flatten(1))
        for gap, (name, x) in enumerate(arguments.items(), 1)
        if x.ndim > 1
    }
    gaps["potential"] = gaps["potential"].unflatten(1, (4, 6))
    for strided in ({name: spread(x) for name, x in arguments.items()}, arguments | gaps):
        for found, exact in zip(run(strided), expected, strict=True):
            assert torch.equal(found, exact)


def _empty(rows: int, p1: int, p2: int) -> None:
    a, divergence, next_point, residual = run(problem(rows, p1, p2))
    assert a.shape == next_point.shape == (rows, 2 * p1 * p2 - p1 - p2)
    assert torch.equal(divergence, torch.zeros(rows, p1, p2).double())
    assert torch.equal(residual, torch.zeros(rows).double())


def _nan(name: str) -> None:
    p1, p2 = 3, 5
    arguments = problem(3, p1, p2, torch.float32)
    clean = run(arguments)
    x = arguments[name]
    # Pixel (0, 1) and edge 1, from it to (0, 2).
    x[{1: (1,), 2: (1, 1), 3: (1, 0, 1)}[x.ndim]] = torch.nan
    in_box = name in BOX
    edges = [0, 1, p1 * (p2 - 1) + 1] if name == "potential" else [1]
    expected = (
        (in_box, [1]),
        (in_box, [1, 2]),
        (True, edges),
        (name not in ("anchor", "weight"), [0]),
    )
    for result, value, (reached, places) in zip(run(arguments), clean, expected, strict=True):
        nan = result[1].isnan().flatten()
        places = list(range(nan.numel())) if x.ndim == 1 else places
        assert nan.nonzero().flatten().tolist() == (places if reached else [])
        assert torch.equal(result[::2], value[::2])


def _cases() -> Cases:
    cases: Cases = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        # One pixel has no edges: it is among the empty ones.
        for p1, p2 in GRIDS[1:]:
            cases[f"{p1}x{p2}-{name}"] = partial(_values, 2, p1, p2, dtype)
    # A block of edges and a little more, and rectangles by rows and columns.
    cases["large-33x70-float32"] = partial(_values, 1, 33, 70, torch.float32)
    for p1, p2 in ((9, 20), (3, 150), (40, 3)):
        cases[f"rectangles-{p1}x{p2}"] = partial(_small_rectangles, p1, p2)
    # With less pixels than threads, several of these have the same edges.
    for p1, p2 in ((2, 2), (5, 9)):
        cases[f"in-place-{p1}x{p2}"] = partial(_in_place, p1, p2)
    cases["prox-edges"] = _prox_edges
    cases["squares-in-order"] = _squares_in_order
    cases["strided"] = _strided
    for shape in ((0, 3, 4), (2, 1, 1)):
        cases[f"empty-{'x'.join(map(str, shape))}"] = partial(_empty, *shape)
    for name in problem(1, 1, 1):
        cases[f"nan-{name}"] = partial(_nan, name)
    return cases


CASES = _cases()
