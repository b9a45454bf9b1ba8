"""Explanation functions in batches: each row's own arguments, and what comes back is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hessx
from hessx.query import ExplanationQuery
from hessx.run import Run

B = 5
X = torch.randn(B, 3, generator=torch.Generator().manual_seed(0))
ROWS = torch.tensor([4, 0, 0, 2])


def asked(kwargs: dict[str, Any], inputs: Any = X, rows: Tensor = ROWS) -> dict[str, Any]:
    """The keyword arguments that the function is given for some rows."""
    seen: dict[str, Any] = {}

    def explain(x: Any, **given: Any) -> Tensor:
        seen.update(given)
        return x[0] if isinstance(x, tuple) else x

    several = isinstance(inputs, tuple)
    tensors = inputs if several else (inputs,)
    query = ExplanationQuery(explain, tensors, kwargs, Run(), takes_tuple=several)
    query(tuple(t[rows] for t in tensors), rows)
    return seen


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (3, 3),
        ((1, 2), (1, 2)),
        ([3], [3]),
        ([9, 8, 7, 6, 5], [5, 9, 9, 7]),
        ([(0,), (1,), (2,), (3,), (4,)], [(4,), (0,), (0,), (2,)]),
        (torch.tensor([9, 8, 7, 6, 5]), torch.tensor([5, 9, 9, 7])),
        (np.array([9, 8, 7, 6, 5]), np.array([5, 9, 9, 7])),
        (torch.tensor(3), torch.tensor(3)),
        (None, None),
        (hessx.Contrast([9, 8, 7, 6, 5], 1), hessx.Contrast([5, 9, 9, 7], 1)),
        (hessx.Targets([[9, 8, 7, 6, 5], 1]), hessx.Targets([[5, 9, 9, 7], 1])),
    ],
    ids=str,
)
def test_targets(target: Any, expected: Any):
    found = asked({"target": target})["target"]
    assert type(found) is type(expected)
    if isinstance(expected, (Tensor, np.ndarray)):
        assert found.tolist() == expected.tolist()
    else:
        assert found == expected


def test_additional_arguments():
    each, one = torch.arange(B), torch.arange(3)
    found = asked({"additional_forward_args": (each, "mode", one, each.numpy())})
    taken = found["additional_forward_args"]
    assert taken[0].tolist() == ROWS.tolist()
    assert taken[1] == "mode"
    assert taken[2] is one
    assert taken[3].tolist() == ROWS.tolist()
    alone = asked({"additional_forward_args": each})["additional_forward_args"]
    assert alone.tolist() == ROWS.tolist()


@pytest.mark.parametrize("name", ["baselines", "feature_mask"])
def test_examples_for_each_input(name: str):
    each, one, number = X.flip(0), X[:1], 0.5
    assert torch.equal(asked({name: each})[name], each[ROWS])
    assert asked({name: one})[name] is one
    assert asked({name: number})[name] == number
    both = asked({name: (each, number)}, (X, X))[name]
    assert torch.equal(both[0], each[ROWS])
    assert both[1] == number
    single = asked({name: one}, X[:1], torch.zeros(4, dtype=torch.long))[name]
    assert single is one


def test_other_arguments_are_handed_over_untouched():
    model, weights = nn.Linear(3, 1), torch.arange(B)
    found = asked({"model": model, "weights": weights})
    assert found["model"] is model
    assert found["weights"] is weights


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: None, TypeError, "explanation_func must return a real tensor .* got NoneType"),
        (lambda x: x.tolist(), TypeError, "explanation_func must return .* got list"),
        (lambda x: (x, None), TypeError, "got a tuple with NoneType"),
        (lambda x: x.to(torch.complex64), TypeError, "got torch.complex64"),
        (lambda x: (), ValueError, "explanation_func must return at least one tensor"),
        (lambda x: x.sum(), ValueError, r"explanation for each of 1 examples, got shape \(\)"),
        (lambda x: x[:0], ValueError, "explanation for each of 1 examples"),
        (lambda x: x.sum(0), ValueError, r"explanation for each of 1 examples, got shape \(3,\)"),
        (lambda x: x / 0, ValueError, "explanation_func returned -?inf for input row 0"),
        (lambda x: x * torch.nan, ValueError, "explanation_func returned nan for input row 0"),
        (lambda x: x if len(x) == 1 else x[:, :2], ValueError, "explanations of one shape"),
        (lambda x: x if len(x) == 1 else (x, x), ValueError, "explanations of one shape"),
    ],
)
def test_what_comes_back_is_checked(answer: Any, error: type, message: str):
    query = ExplanationQuery(answer, (X,), {}, Run(), takes_tuple=False)
    with pytest.raises(error, match=message):
        query.at_inputs()


def test_the_row_at_fault_is_named():
    def explain(x: Tensor) -> Tensor:
        return torch.where(x == X[3], torch.nan, x)

    query = ExplanationQuery(explain, (X,), {}, Run(max_examples_per_batch=2), takes_tuple=False)
    with pytest.raises(ValueError, match="returned nan for input row 3"):
        query.at_inputs()


def test_gradients_are_enabled_for_any_caller():
    def explain(x: Tensor) -> Tensor:
        x = x.requires_grad_()
        return torch.autograd.grad(x.square().sum(), x)[0]

    expected = 2 * X
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = hessx.smooth_explanation(explain, X + 0, radius=1e-6, n_samples=1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert not found.requires_grad


def test_inputs_and_parameters_are_left_alone():
    net = nn.Linear(3, 1)
    x = X.clone().requires_grad_()

    def explain(x: Tensor) -> Tensor:
        x.mul_(2)
        return net(x)

    hessx.smooth_explanation(explain, x, radius=0.1, n_samples=3)
    hessx.sensitivity_max(explain, x, seed=0)
    assert torch.equal(x.detach(), X)
    assert x.grad is None
    assert all(p.grad is None for p in net.parameters())


def test_what_an_example_takes_is_counted():
    """More layers, smaller batches: what autograd saves is looked at."""

    def deep(layers: int) -> ExplanationQuery:
        def explain(x: Tensor) -> Tensor:
            x = x.requires_grad_()
            out = x
            for _ in range(layers):
                out = out.sin()
            return torch.autograd.grad(out.sum(), x)[0]

        return ExplanationQuery(explain, (X,), {}, Run(memory_limit=100_000), takes_tuple=False)

    few, many = deep(10).examples_per_batch, deep(100).examples_per_batch
    assert few > 4 * many


def test_functions_of_torch_func():
    """Its transforms refuse to be counted."""
    per_example = torch.func.vmap(torch.func.grad(lambda x: x.square().sum()))
    found = hessx.sensitivity_max(per_example, X, seed=0, normalize=None)
    expected = hessx.sensitivity_max(lambda x: 2 * x, X, seed=0, normalize=None)
    torch.testing.assert_close(found, expected)
