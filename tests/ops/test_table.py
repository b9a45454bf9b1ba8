"""The table of ops under torch's own checks and compiler, and the choice of a backend."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import hessx
from hessx import backends
from hessx.ops import table


def sample_arguments():
    """Arguments for every op; a new op without them fails `test_opcheck`."""
    u = torch.randn(2, 6, 3, requires_grad=True)
    v = torch.randn(1, 6, 4, requires_grad=True)
    a = torch.randn(1, 3, 3, requires_grad=True)
    e = torch.randn(3, 4, requires_grad=True)
    radius = torch.rand(3, dtype=torch.float64, requires_grad=True)
    basis, gradient = torch.randn(2, 3, 20), torch.randn(2, 20)
    z, lambda1 = torch.randn(2, 4, 3), torch.rand(2, 4)
    shared = basis[:1].expand(2, -1, -1)
    p = torch.rand(2, 4).softmax(1).requires_grad_()
    step = (torch.rand(2, 4), *torch.rand(3, 2, 3, 4), *torch.rand(4, 2, 3))
    outputs = (*torch.empty(2, 2, 3, 4), torch.empty(2, 3, 5, dtype=torch.float64))
    # Of 3 pictures of 2 x 2 pixels, which have 4 edges.
    box = (e, torch.randn(3, 4), torch.rand(3), torch.rand(3))
    doubles = (*[x.detach().double().mT.contiguous().mT for x in box[:2]], radius, radius)
    return {
        "uniform": [(torch.empty(3, 5), 7, 2, 1), (torch.empty(5, 3).T, 7, 2, 1)],
        "normal": [(torch.empty(3, 5), 7, 2, 1), (torch.empty(3, 5).double(), 7, 2, 1)],
        "cross_moments": [(u, v), (u, v, torch.rand(6)), (u.mT.contiguous().mT, v)],
        "normal_moments": [(v, None, 5, 7, 2, 1), (u, torch.rand(6), 3, 7, 2, 1)],
        "core_moments": [(u, u.detach() + 1), (u.double(), u.double())],
        "eigh": [(a,), (a.double(),), (a.detach().expand(4, 3, 3).mT,)],
        "prox_pass": [
            (basis, gradient, z, lambda1, True),
            (shared, gradient, z, lambda1, False),
            (
                basis.double().mT.contiguous().mT,
                gradient.double(),
                z.double(),
                radius[:2, None].detach().expand(2, 4),
                True,
            ),
        ],
        "gram": [(u,), (a.double(),), (u.detach().mT,)],
        "trust_region": [(e, e.detach() + 1, torch.rand(3)), (e.double(), e.double(), radius)],
        "softmax_product": [
            (p, torch.rand(2, 3, 4)),
            (p.double(), torch.rand(2, 4, 1).double().mT),
        ],
        "soft_threshold": [(e, torch.rand(3)), (a.detach()[0].T.double(), radius)],
        "grid_difference": [(u,), (v.double(),), (a.detach().mT,)],
        "grid_difference_adjoint": [(torch.rand(2, 7, requires_grad=True), 2, 3), (e, 2, 2)],
        "grid_laplacian": [(u,), (a.double(),), (a.detach().mT,)],
        "grid_curl": [(torch.rand(2, 7, requires_grad=True), 3, 2), (e.double(), 2, 2)],
        "grid_curl_adjoint": [(u,), (a.double(),), (torch.rand(2, 0, 3),)],
        "grid_normal": [(torch.empty(2, 3, 5), 7, 2, 1), (torch.empty(2, 5, 3).mT, 7, 2, 1)],
        "edge_prox": [box, doubles],
        "edge_divergence": [
            (*box, torch.empty(3, 2, 2)),
            (*doubles, torch.empty(3, 2, 2).double()),
        ],
        "edge_update": [
            (
                *(
                    e.detach(),
                    torch.rand(3, 4),
                    box[1],
                    torch.rand(2, 2, 3).permute(2, 0, 1),
                    *box[2:],
                ),
                *(torch.rand(3), torch.empty(3, 4), torch.empty(3, dtype=torch.float64)),
            )
        ],
        "perturbation_dots": [
            (u, torch.randn(2, 4, 3, requires_grad=True)),
            (v.detach(), torch.randn(3, 2, 4).double()),
            (v.detach().half(), torch.randn(1, 4, 2).half().mT),
        ],
        "perturbation_gradient": [
            (u.detach(), torch.randn(2, 4, 3), torch.randn(2, 6, 4).double(), None),
            (
                v.detach().bfloat16(),
                torch.randn(3, 2, 4),
                torch.randn(3, 2, 6).double().mT,
                torch.rand(6).double(),
            ),
        ],
        "tv_flow": [
            (torch.rand(2, 3, 4).double(), torch.rand(2, 3).double()),
            (torch.rand(2, 4, 1).double().mT, radius[:2, None].detach()),
        ],
        "box_sums": [(u, [2, 1, 3]), (a.detach().mT.double(), [3])],
        "box_sums_adjoint": [
            (torch.rand(2, 8, requires_grad=True), [2, 1], 2, 3),
            (e.double(), [2], 3, 3),
        ],
        "fista_step": [(step[0].T.contiguous().T, *step[1:], *outputs)],
    }


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("op", table.OPS, ids=lambda op: op.name)
def test_opcheck(backend, op):
    with hessx.backend(backend):
        for arguments in sample_arguments()[op.name]:
            torch.library.opcheck(getattr(torch.ops.hessx, op.name).default, arguments)


@pytest.mark.parametrize("op", table.OPS, ids=lambda op: op.name)
def test_every_backend_implements_every_op_of_its_family(op):
    """A file of the family's folder has all of its ops; it is read, as Triton may be missing."""
    folder = Path(table.__file__).parent / op.family
    for backend in table.implemented(op):
        module = ast.parse((folder / f"{backend}.py").read_text())
        assert op.name in [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
    assert {"reference", "native"} <= set(table.implemented(op))


def pipeline(n, weight):
    draws = hessx.ops.normal(n, 6, seed=3) + hessx.ops.uniform(n, 6, seed=4)
    _, _, uv = hessx.ops.cross_moments(draws, draws * 2, weight)
    return uv + hessx.ops.core_moments(draws, draws)[0]


def test_compiled_full_graph(cpu_backend):
    compiled = torch.compile(pipeline, fullgraph=True, backend="aot_eager")
    weight = torch.rand(40)
    torch.testing.assert_close(compiled(40, weight), pipeline(40, weight))


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compiled_with_gradient(compiler):
    weight = torch.rand(40, requires_grad=True)
    compiled = torch.compile(pipeline, fullgraph=True, backend=compiler)
    compiled(40, weight).sum().backward()
    gradient, weight.grad = weight.grad, None
    pipeline(40, weight).sum().backward()
    torch.testing.assert_close(gradient, weight.grad)


def test_exported():
    class Moments(torch.nn.Module):
        def forward(self, u):
            return hessx.ops.core_moments(u, u)

    u = torch.randn(2, 5, 3)
    program = torch.export.export(Moments(), (u,))
    for exported, eager in zip(program.module()(u), hessx.ops.core_moments(u, u), strict=True):
        assert torch.equal(exported, eager)


def test_forced_backend_is_honoured_by_a_compiled_graph(monkeypatch):
    """The choice is read when the graph runs, not when it is traced."""
    seen = []
    implementation = table.implementation

    def spy(op, backend):
        seen.append(backend)
        return implementation(op, backend)

    monkeypatch.setattr(table, "implementation", spy)
    compiled = torch.compile(
        lambda u: hessx.ops.core_moments(u, u)[0] + 1, fullgraph=True, backend="aot_eager"
    )
    u = torch.randn(3, 2)
    compiled(u)
    for name in ("reference", "native"):
        with hessx.backend(name):
            compiled(u)
        assert seen[-1] == name


def test_backends_nest_and_end():
    with hessx.backend("native"):
        with hessx.backend("reference"):
            assert backends.choose("cpu") == "reference"
        assert backends.choose("cpu") == "native"
    assert backends.choose("cpu") == "native"


def test_other_devices_take_the_reference():
    assert backends.choose("xpu") == "reference"
    meta = torch.ops.hessx.core_moments(*[torch.empty(2, 5, 3, device="meta")] * 2)
    assert [x.shape for x in meta] == [(2, 3, 3)] * 3 + [(2, 3)]


def test_level_is_chosen_and_checked():
    with hessx.backend("native", level=backends.levels()[0]):
        assert backends.cpu_level() == backends.levels()[0]
    assert backends.cpu_level() == backends.levels()[-1]
    for name, level, message in [
        ("native", "x86-64-v9", "level must be one of"),
        ("reference", backends.levels()[0], "level belongs to the native backend"),
        ("fastest", None, "name must be 'auto' or one of"),
    ]:
        with pytest.raises(ValueError, match=message), hessx.backend(name, level):
            pass


@pytest.fixture
def environment(monkeypatch):
    """Set environment variables and have them read again, now and after the test."""

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        backends._environment.cache_clear()

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    change()
    yield change
    backends._environment.cache_clear()


def test_forced_backend_that_cannot_serve_is_an_error(environment):
    with pytest.raises(RuntimeError, match="backend 'cuda' is missing"), hessx.backend("cuda"):
        pass
    environment(HESSX_BACKEND="triton")
    with pytest.raises(RuntimeError, match="triton"):
        hessx.ops.normal(2, 2, seed=0)


def test_environment_chooses(environment):
    environment(HESSX_BACKEND="reference")
    assert backends.choose("cpu") == "reference"
    with hessx.backend("native"):
        assert backends.choose("cpu") == "native"
    environment(HESSX_BACKEND="auto", HESSX_CPU_LEVEL=backends.levels()[0])
    assert backends.cpu_level() == backends.levels()[0]
    environment(HESSX_BACKEND="quickest", HESSX_CPU_LEVEL="")
    with pytest.raises(ValueError, match="HESSX_BACKEND must be 'auto' or one of"):
        hessx.ops.normal(2, 2, seed=0)
