"""Black boxes: several outputs from one call, NumPy in and out, no gradient needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hessx
from hessx.query import BlackBoxQuery, Contrast, GradientQuery, Targets, ValueQuery
from hessx.run import Run

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def linear(x):
    return x @ WEIGHT


def test_targets_and_contrasts_come_from_one_call():
    calls = []

    def f(x):
        calls.append(len(x))
        return linear(x)

    target = Targets([3, [0, 1, 2], Contrast([4, 4, 0], 1), Contrast(2, 2)])
    query = BlackBoxQuery(f, X, target, Run())
    assert query.n_examples == sum(calls) == 3
    out = linear(X)
    rows = torch.arange(3)
    expected = [
        out[:, 3],
        out[rows, rows],
        out[rows, [4, 4, 0]] - out[:, 1],
        torch.zeros(3),
    ]
    torch.testing.assert_close(query.value, torch.stack(expected, 1))
    values = query.values(X[[2, 0]], torch.tensor([2, 0]))
    torch.testing.assert_close(values, query.value[[2, 0]])


def test_a_contrast_has_a_gradient():
    query = GradientQuery(linear, X, Contrast(4, [0, 1, 2]), Run())
    gradient = query.gradient(X, torch.arange(3))
    torch.testing.assert_close(gradient, WEIGHT[:, 4] - WEIGHT[:, :3].mT)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: linear(x.detach()).numpy(),
        lambda x: linear(x).numpy(),
        lambda x: np.asarray(x, dtype=np.float64) @ WEIGHT.numpy(),
        linear,
    ],
    ids=["detached", "numpy of a tensor", "numpy", "torch"],
)
def test_what_a_black_box_may_return(f):
    query = BlackBoxQuery(f, X, 2, Run(max_examples_per_batch=2))
    torch.testing.assert_close(query.value.float(), linear(X)[:, 2:3])


def test_arrays_in_and_out():
    kinds = []

    def f(x, scale):
        kinds.append((type(x), type(scale)))
        return scale * x.sum(1)

    run = Run(additional_forward_args=torch.tensor([1.0, 2.0, 3.0]))
    query = BlackBoxQuery(f, X, None, run, arrays=True)
    assert set(kinds) == {(np.ndarray, np.ndarray)}
    torch.testing.assert_close(query.value[:, 0], torch.tensor([1.0, 2, 3]) * X.sum(1))


def test_a_failed_probe_leaves_the_input_and_is_counted():
    """The first call, with a graph, works in place before it fails."""
    seen = []

    def f(x):
        seen.append(x.detach().clone())
        x.detach().sub_(5)
        return x.numpy().sum(1)

    query = BlackBoxQuery(f, X, None, Run(max_examples_per_batch=1))
    asked = torch.cat(seen)
    assert torch.equal(asked, X[[0, 0, 1, 2]])
    assert query.n_examples == len(asked)
    torch.testing.assert_close(query.value[:, 0], (X - 5).sum(1))


@pytest.mark.parametrize("entries", [np.array([3, 1]), torch.tensor([3, 1]), [np.int64(3), 1]])
def test_targets_of_arrays(entries):
    query = BlackBoxQuery(linear, X, Targets(entries), Run())
    torch.testing.assert_close(query.value, linear(X)[:, [3, 1]])


def test_contrasts_of_arrays():
    query = BlackBoxQuery(linear, X, Contrast(np.array([4, 4, 0]), np.int64(1)), Run())
    expected = linear(X)[torch.arange(3), [4, 4, 0]] - linear(X)[:, 1]
    torch.testing.assert_close(query.value[:, 0], expected)


@pytest.mark.parametrize("n_columns", [1, 5])
def test_arrays_of_negative_strides(n_columns):
    f = lambda x: linear(x).numpy()[:, ::-1][:, :n_columns]  # noqa: E731
    query = BlackBoxQuery(f, X, 0, Run(max_examples_per_batch=1))
    torch.testing.assert_close(query.value, linear(X)[:, 4:])


def test_no_graph_is_left():
    net = nn.Linear(4, 2)
    query = BlackBoxQuery(net, X, 0, Run())
    assert not query.value.requires_grad
    assert not query.values(X, torch.arange(3)).requires_grad
    assert net.weight.grad is None


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: linear(x)[:1], ValueError, "one output row an example"),
        (lambda x: linear(x) * torch.nan, ValueError, "returned nan for input row 0"),
        (lambda x: linear(x).numpy() > 0, TypeError, "floating-point tensor, got torch.bool"),
        (lambda x: None, TypeError, "floating-point tensor, got NoneType"),
        (lambda x: x @ torch.ones(7), ValueError, r"failed on inputs of shape \(1, 4\)"),
    ],
)
def test_what_a_black_box_may_not_return(f, error, message):
    with pytest.raises(error, match=message):
        BlackBoxQuery(f, X, 0, Run())


def test_several_targets_where_one_is_explained():
    with pytest.raises(TypeError, match="one target here, got several"):
        ValueQuery(linear, X, Targets([0, 1]), Run())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Targets([]), ValueError, "at least one target"),
        (lambda: Targets(3), TypeError, "entries must be a list of targets, got 3"),
        (lambda: Targets(np.array(3)), TypeError, "entries must be a list of targets, got 3"),
        (lambda: Targets([Targets([1])]), TypeError, "not Targets"),
        (lambda: Contrast(1, None), TypeError, "second must be a target"),
        (lambda: Contrast(Contrast(1, 2), 0), TypeError, "first must be a target"),
    ],
)
def test_bad_targets(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_public_names():
    assert hessx.Contrast is Contrast
    assert hessx.Targets is Targets
