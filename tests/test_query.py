"""Queries: right values and gradients, targets as in Captum, the model left as found."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from hessx.query import GradientQuery, ValueQuery, target_index
from hessx.query.model import check_mode
from hessx.run import Run

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
ROWS = torch.arange(3)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))


def test_gradients_are_those_of_the_targets():
    model = net()
    query = GradientQuery(model, X, [0, 4, 2], Run())
    expected = torch.func.jacrev(model)(X[1])[4]
    torch.testing.assert_close(query.gradient(X, ROWS)[1], expected)
    torch.testing.assert_close(query.value, model(X)[ROWS, [0, 4, 2]].detach())
    torch.testing.assert_close(query.gradient(X[:2], torch.tensor([1, 1]))[1], expected)


@pytest.mark.parametrize(
    ("target", "outputs", "expected"),
    [
        (None, (), [[], [], []]),
        (None, (1,), [[0], [0], [0]]),
        (2, (5,), [[2], [2], [2]]),
        ([2, 0, 1], (5,), [[2], [0], [1]]),
        (torch.tensor([2, 0, 1]), (5,), [[2], [0], [1]]),
        (torch.tensor(3), (5,), [[3], [3], [3]]),
        (torch.tensor([3]), (5,), [[3], [3], [3]]),
        (np.int64(2), (5,), [[2], [2], [2]]),
        (np.array([2, 0, 1]), (5,), [[2], [0], [1]]),
        (np.array(3), (5,), [[3], [3], [3]]),
        ([np.int32(2), torch.tensor(0), 1], (5,), [[2], [0], [1]]),
        ((np.int64(1), 2), (2, 3), [[1, 2], [1, 2], [1, 2]]),
        ((1, 2), (2, 3), [[1, 2], [1, 2], [1, 2]]),
        ([(1, 2), (0, 0), (1, 1)], (2, 3), [[1, 2], [0, 0], [1, 1]]),
    ],
)
def test_targets(target, outputs, expected):
    assert target_index(target, 3, torch.Size(outputs)).tolist() == expected


@pytest.mark.parametrize(
    ("target", "outputs", "error", "message"),
    [
        (None, (5,), ValueError, "target must be given"),
        (5, (5,), ValueError, "target 5 does not name an output"),
        (-1, (5,), ValueError, "target -1 does not name an output"),
        (0, (), ValueError, "target must be None for a single output"),
        ((1, 2), (5,), ValueError, "does not name an output"),
        ([1, 2], (5,), ValueError, "one entry for each of 3 rows"),
        (1.0, (5,), TypeError, "target must be an int"),
        (True, (5,), TypeError, "target must be an int"),
        (np.True_, (5,), TypeError, "target must be an int"),
        (np.array([0.0, 1, 2]), (5,), TypeError, "target must be an int"),
        ([torch.tensor(True), 1, 2], (5,), TypeError, "target must be an int"),
        (torch.tensor([0.0, 1, 2]), (5,), TypeError, "target must hold integers"),
    ],
)
def test_bad_targets_are_refused(target, outputs, error, message):
    with pytest.raises(error, match=message):
        target_index(target, 3, torch.Size(outputs))


@pytest.mark.parametrize(
    ("target", "first", "later"), [(None, (1,), (2,)), (4, (5,), (3,)), (None, (), (1,))]
)
def test_outputs_keep_their_shape(target, first, later):
    def f(x):
        shape = later if torch.equal(x[0], X[2]) else first
        return x.sum(1).reshape(-1, *[1] * len(shape)).expand(-1, *shape)

    query = ValueQuery(f, X[:2], target, Run())
    with pytest.raises(ValueError, match="forward_func must return outputs of one shape") as error:
        query.values(X[2:], ROWS[:1])
    assert f"first {first} an example, later {later}" in str(error.value)


def test_additional_arguments_go_with_their_rows():
    scale = torch.tensor([1.0, 2, 3])

    def f(x, scale, factor):
        return factor * scale * x.sum(1)

    query = GradientQuery(f, X, None, Run(additional_forward_args=(scale, 10.0)))
    gradient = query.gradient(X[:2], torch.tensor([2, 0]))
    torch.testing.assert_close(gradient, torch.tensor([[30.0] * 4, [10.0] * 4]))


def test_additional_arrays_go_with_their_rows():
    query = ValueQuery(
        lambda x, scale: torch.as_tensor(scale) * x.sum(1),
        X,
        None,
        Run(additional_forward_args=np.array([1.0, 2, 3], dtype=np.float32)),
    )
    expected = torch.tensor([3.0, 1]) * X[:2].sum(1)
    torch.testing.assert_close(query.values(X[:2], torch.tensor([2, 0])), expected)


@pytest.mark.parametrize("kind", [ValueQuery, GradientQuery])
def test_no_graph_outlives_a_query(kind):
    hidden = []

    class Layer(nn.Module):
        def forward(self, x):
            y = (2 * x).tanh()
            hidden.append(weakref.ref(y))
            return y

    kind(nn.Sequential(Layer(), nn.Linear(4, 5), nn.Softmax(1)), X, 0, Run())
    gc.collect()
    assert all(reference() is None for reference in hidden)


def test_no_parameter_gradient_is_computed():
    model = net()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    seen = []
    handle = model[0].weight.register_hook(lambda g: seen.append(g))
    GradientQuery(model, X, 0, Run()).gradient(X, ROWS)
    handle.remove()
    assert not seen
    assert all((p.grad == 7).all() for p in model.parameters())


def test_batch_size_follows_the_memory_limit():
    wide = nn.Sequential(nn.Linear(4, 10_000), nn.ReLU(), nn.Linear(10_000, 1))
    small = GradientQuery(wide, X, None, Run(memory_limit=10**6))
    large = GradientQuery(wide, X, None, Run(memory_limit=10**7))
    # 10,000 floats saved by each example, 2 x 40 kB at least, out of half the limit.
    assert 1 <= small.examples_per_batch <= 500_000 // 40_000
    assert large.examples_per_batch >= 5 * small.examples_per_batch
    capped = GradientQuery(wide, X, None, Run(memory_limit=10**7, max_examples_per_batch=3))
    assert capped.examples_per_batch == 3
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        GradientQuery(wide, X, None, Run(memory_limit=1000))


def test_values_are_asked_in_batches():
    sizes = []

    def f(x):
        sizes.append(len(x))
        return x.sum(1)

    query = ValueQuery(f, torch.ones(10, 4), None, Run(max_examples_per_batch=4))
    assert query.value.tolist() == [4.0] * 10
    assert max(sizes) <= 4


def test_black_boxes_may_work_in_place():
    inputs = torch.ones(5, 4)

    def f(x):
        with torch.no_grad():
            return x.sub_(3).sum(1)

    query = ValueQuery(f, inputs, None, Run())
    assert query.value.tolist() == [-8.0] * 5
    assert (inputs == 1).all()
    # Nothing is known of the memory that a black box takes.
    assert query.examples_per_batch <= 1024


@pytest.mark.parametrize(
    ("module", "refused"),
    [
        (nn.InstanceNorm1d(4, track_running_stats=True), True),
        (nn.InstanceNorm1d(4), False),
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (nn.LSTM(4, 4, num_layers=2, dropout=0.1), True),
        (nn.LSTM(4, 4), False),
        (nn.MultiheadAttention(4, 1, dropout=0.1), True),
        (nn.MultiheadAttention(4, 1), False),
    ],
)
def test_layers_that_behave_differently_in_training(module, refused):
    def check():
        check_mode(nn.ModuleList([module.train()]))

    if refused:
        with pytest.raises(ValueError, match="training mode"):
            check()
    else:
        check()


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (lambda x: x.detach().sum(1), ValueError, "does not reach its input"),
        (lambda x: nn.Parameter(torch.ones(len(x))), ValueError, "does not reach its input"),
        (lambda x: x.sum(), ValueError, "one output row an example"),
        (lambda x: x.sum(1).numpy(force=True), TypeError, "floating-point tensor, got ndarray"),
        (lambda x: x.sum(1).long(), TypeError, "floating-point tensor, got torch.int64"),
        (lambda x: x.sum(1) / 0, ValueError, "its values must be finite"),
        ("model", TypeError, "forward_func must be callable"),
    ],
)
def test_unfit_models_are_refused(forward, error, message):
    with pytest.raises(error, match=message):
        GradientQuery(forward, X, None, Run()).gradient(X, ROWS)


def test_training_mode_is_refused_where_it_matters():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"'1' \(BatchNorm1d\) behaves differently"):
        GradientQuery(model, X, 0, Run())
    GradientQuery(model.eval(), X, 0, Run())
    GradientQuery(nn.Linear(4, 3).train(), X, 0, Run())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"seed": 2**63}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"max_examples_per_batch": 0}, ValueError),
        ({"memory_limit": 0}, ValueError),
        ({"memory_limit": 1e9}, TypeError),
    ],
)
def test_run_arguments_are_checked(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        Run(**arguments)
