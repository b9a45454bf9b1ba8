"""Offsets beyond 2^31 elements, without the memory: a store there is caught, and its place read."""

from __future__ import annotations

import pytest
import torch

from hessx.ops.boxes import triton as boxes
from hessx.ops.edges import triton as edges
from hessx.ops.grid import triton as grid
from hessx.ops.grid_noise import triton as grid_noise
from hessx.ops.moments import triton as moments
from hessx.ops.noise import triton as noise
from hessx.ops.prox import triton as prox
from hessx.ops.shrink import triton as shrink
from hessx.ops.softmax import triton as softmax
from tests.gpu.checks.edges import run
from tests.gpu.checks.grid import NAMES
from tests.gpu.checks.shrink import step
from tests.gpu.interpreter import OutOfBoundsError
from tests.references import edges as edge_problems
from tests.references.grid import arguments
from tests.references.shrink import problem

_STRIDE = 2**31 + 24


class _Strided(torch.Tensor):
    """A small tensor that, asked for the stride of one axis, gives a larger one."""

    @staticmethod
    def of(tensor: torch.Tensor, axis: int) -> torch.Tensor:
        strided = tensor.as_subclass(_Strided)
        strided.axis = axis
        return strided

    def stride(self, axis: int | None = None):
        if axis is None:
            # The interpreter makes its own view by all the strides: these stay true.
            return super().stride()
        return _STRIDE if axis == self.axis else super().stride(axis)


def _first_stray(tensor: torch.Tensor, launch) -> int:
    """Offset, in elements of `tensor`, of the first address out of bounds in a launch."""
    with pytest.raises(OutOfBoundsError) as caught:
        launch()
    return (int(caught.value.addresses[0]) - tensor.data_ptr()) // tensor.element_size()


@pytest.mark.parametrize("axis", [0, 1])
def test_noise_output(axis):
    out = torch.empty(3, 5)
    stray = _first_stray(out, lambda: noise.uniform(_Strided.of(out, axis), 0, 0, 0))
    assert stray == _STRIDE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pictures_of_noise(axis):
    out = torch.empty(3, 5, 6)
    stray = _first_stray(out, lambda: grid_noise.grid_normal(_Strided.of(out, axis), 0, 0, 0))
    assert stray == _STRIDE


@pytest.mark.parametrize("name", ["z", "centre", "anchor", "potential"])
def test_rows_of_edges(monkeypatch, name):
    arguments = edge_problems.problem(2, 2, 3)
    x = arguments[name]

    def far(tensor):
        return _Strided.of(tensor, 0) if tensor.data_ptr() == x.data_ptr() else tensor

    monkeypatch.setattr(edges, "rows_of", far)
    assert _first_stray(x, lambda: run(arguments)) == _STRIDE
    if name in ("z", "centre"):
        box = [arguments[name] for name in ("z", "centre", "radius", "threshold")]
        assert _first_stray(x, lambda: edges.edge_prox(*box)) == _STRIDE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_moments_inputs(axis):
    x = torch.ones(2, 3, 5)
    for launch in (
        lambda: moments.cross_moments(_Strided.of(x, axis), x.clone()),
        lambda: moments.cross_moments(x.clone(), _Strided.of(x, axis)),
        lambda: moments.core_moments(_Strided.of(x, axis), x.clone()),
        lambda: moments.core_moments(x.clone(), _Strided.of(x, axis)),
    ):
        assert _first_stray(x, launch) == _STRIDE


@pytest.mark.parametrize("argument", range(4))
def test_rows_of_a_step(monkeypatch, argument):
    arguments = problem(2, 1, 5)
    rows_of = shrink.rows_of
    x = arguments[argument]

    def far(tensor):
        return _Strided.of(rows_of(tensor), 0) if tensor is x else rows_of(tensor)

    monkeypatch.setattr(shrink, "rows_of", far)
    assert _first_stray(x, lambda: step(*arguments)) == _STRIDE


def test_rows_of_a_threshold(monkeypatch):
    x = torch.ones(2, 5)
    monkeypatch.setattr(shrink, "rows_of", lambda tensor: _Strided.of(tensor, 0))
    assert _first_stray(x, lambda: shrink.soft_threshold(x, torch.ones(2))) == _STRIDE


def test_rows_of_a_softmax_product(monkeypatch):
    p, u = torch.ones(2, 5), torch.ones(2, 1, 5)
    for far in (p, u):
        monkeypatch.setattr(
            softmax, "_rows", lambda x, far=far: _Strided.of(x.view(2, 5), 0) if x is far else x
        )
        assert _first_stray(far, lambda: softmax.softmax_product(p, u)) == _STRIDE


@pytest.mark.parametrize("name", NAMES)
def test_entries_of_grids(monkeypatch, name):
    x, *size = arguments(name, 2, 3, 4, torch.float32)
    monkeypatch.setattr(grid, "entries", lambda tensor: _Strided.of(tensor, 0))
    assert _first_stray(x, lambda: getattr(grid, name)(x, *size)) == _STRIDE


def test_entries_of_boxes(monkeypatch):
    monkeypatch.setattr(boxes, "entries", lambda tensor: _Strided.of(tensor, 0))
    x, w = torch.ones(2, 3, 4), torch.ones(2, 6)
    assert _first_stray(x, lambda: boxes.box_sums(x, [2])) == _STRIDE
    assert _first_stray(w, lambda: boxes.box_sums_adjoint(w, [2], 3, 4)) == _STRIDE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_prox_basis(axis):
    x, gradient, z, lambda1 = (
        torch.ones(2, 3, 5),
        torch.ones(2, 5),
        torch.ones(2, 1, 3),
        torch.ones(2, 1),
    )
    for launch in (
        lambda: prox.prox_pass(_Strided.of(x, axis), gradient, z, lambda1, False),
        lambda: prox.gram(_Strided.of(x, axis)),
    ):
        assert _first_stray(x, launch) == _STRIDE


@pytest.mark.parametrize("axis", [0, 1])
def test_prox_gradient(axis):
    gradient, z, lambda1 = torch.ones(2, 5), torch.ones(2, 1, 3), torch.ones(2, 1)
    strided = _Strided.of(gradient, axis)

    def launch():
        prox.prox_pass(torch.ones(2, 3, 5), strided, z, lambda1, False)

    assert _first_stray(gradient, launch) == _STRIDE
