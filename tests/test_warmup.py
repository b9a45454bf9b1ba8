"""hessx.warmup."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx import backends
from hessx.ops import table


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_op_runs_at_every_shape(monkeypatch, dtype):
    called = []
    implementation = table.implementation

    def spy(op, backend):
        called.append(op.name)
        return implementation(op, backend)

    monkeypatch.setattr(table, "implementation", spy)
    assert hessx.warmup([(2, 9, 5)], dtype=dtype) is None
    once = sorted(called)
    assert set(once) == {op.name for op in table.OPS}
    # The largest has more features than small eigenproblems, and needs the library as well.
    hessx.warmup(iter([(2, 9, 5), (1, 1, 1), (1, 2, 70)]), dtype=dtype, device="cpu")
    assert sorted(called) == sorted([*4 * once, "eigh"])


def test_no_shapes_are_nothing_to_do():
    assert hessx.warmup([]) is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(shapes=[(2, 3)]), ValueError, r"shapes must be \(batch, samples, features\)"),
        (dict(shapes=[(2, 0, 3)]), ValueError, "shapes must have sizes >= 1"),
        (dict(shapes=[(2, 1.5, 3)]), TypeError, "shapes must have integer sizes"),
        (dict(shapes=[(1, 1, 1), (True, 1, 1)]), TypeError, "shapes must have integer sizes"),
        (dict(shapes=[(1, 1, 1)], dtype=torch.int32), TypeError, "dtype must be one of"),
        (dict(shapes=[], device="cuda"), ValueError, "device must be there, got 'cuda'"),
    ],
)
def test_errors_come_before_any_work(monkeypatch, arguments, error, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(table, "implementation", lambda op, backend: pytest.fail("an op ran"))
    with pytest.raises(error, match=message):
        hessx.warmup(**arguments)


def test_a_forced_backend_is_what_is_warmed_up(monkeypatch):
    monkeypatch.setattr(backends, "native", lambda: pytest.fail("the native module was used"))
    with hessx.backend("reference"):
        hessx.warmup([(1, 2, 3)])
