"""Optimal explanations: targets, batches, functions, types, texts, errors and memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import hessx
from hessx.perturb import Gaussian, Square
from tests.references.optimal import (
    LAWS,
    NET,
    SHAPE,
    X,
    net,
)


@pytest.mark.parametrize("law", [LAWS[name] for name in ("clipped", "square", "cells")])
def test_several_targets_and_contrasts_share_all_calls(law):
    calls = []

    def f(x):
        calls.append(len(x))
        return NET(x)

    targets = hessx.Targets([0, [1, 2], hessx.Contrast(2, 0)])
    together = hessx.optimal_explanation(f, X, targets, perturb_func=law, n_samples=300)
    assert sum(calls) == together.n_evaluations == 2 * 301
    for i, target in enumerate(targets.entries):
        alone = hessx.optimal_explanation(NET, X, target, perturb_func=law, n_samples=300)
        for field in ("attributions", "coefficients", "infidelity", "residual"):
            found, expected = getattr(together, field)[i], getattr(alone, field)
            assert torch.allclose(found, expected, atol=1e-9)
        assert torch.equal(together.condition, alone.condition)
    if law is LAWS["square"]:
        listed = hessx.optimal_explanation(NET, X, targets, perturb_func=law, n_samples=None)
        alone = hessx.optimal_explanation(NET, X, [1, 2], perturb_func=law, n_samples=None)
        assert torch.allclose(listed.attributions[1], alone.attributions, atol=1e-12)


@pytest.mark.parametrize("law", [LAWS[name] for name in ("clipped", "square", "cells", "sized")])
def test_batches_and_company_do_not_matter(law):
    def f(x):
        return (x.flatten(1) ** 3)[:, :20].sum(1)

    def explain(x, **options):
        return hessx.optimal_explanation(f, x, perturb_func=law, n_samples=1100, **options)

    whole = explain(X)
    for options in ({"max_examples_per_batch": 97}, {"max_examples_per_batch": 3001}):
        other = explain(X, **options)
        assert torch.equal(other.attributions, whole.attributions)
        assert torch.equal(other.infidelity, whole.infidelity)
    # Rows in chunks of one: the products of matrices are then of other shapes.
    needed = 2 * 12 * 1024 * 84 + 2 * 3 * 8 * 84**2 + 2 * 8 * (4 * 84 + 1024) * 3 // 2
    small = explain(X, memory_limit=needed)
    assert torch.allclose(small.attributions, whole.attributions, rtol=1e-9, atol=1e-12)
    for i in range(2):
        assert torch.allclose(
            explain(X[i : i + 1]).attributions[0], whole.attributions[i], rtol=1e-9, atol=1e-12
        )
    assert not torch.equal(explain(X, seed=1).attributions, whole.attributions)


def test_functions_are_called_for_one_input_at_a_time():
    generator_state = torch.get_rng_state()

    def noise(x):
        change = 0.1 * torch.randn_like(x)
        return (change,), (x - change,)

    def explain(x, **options):
        return hessx.optimal_explanation(NET, x, 1, perturb_func=noise, n_samples=600, **options)

    whole = explain(X)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert torch.equal(explain(X[1:]).attributions[0], whole.attributions[1])
    batched = explain(X, max_examples_per_batch=101)
    assert torch.allclose(batched.attributions, whole.attributions, rtol=1e-9)
    scored = hessx.infidelity(
        NET, noise, X, whole.attributions, target=1, n_perturb_samples=600, seed=0
    )
    assert torch.allclose(scored, whole.infidelity, rtol=1e-6)


def test_captum_style_functions_and_laws_agree():
    x = X[:1]
    bound = Gaussian(0.2).bind(x, None, 0)
    u = bound.draw(0, 200)
    state = {"first": 0}

    def same(inputs):
        first = state["first"] % 200
        state["first"] += len(inputs)
        change = u[first : first + len(inputs)].reshape(inputs.shape)
        return change, inputs - change

    called = hessx.optimal_explanation(NET, x, 1, perturb_func=same, n_samples=200)
    law = hessx.optimal_explanation(NET, x, 1, perturb_func=Gaussian(0.2), n_samples=200)
    assert torch.allclose(called.attributions, law.attributions, atol=1e-10)
    assert torch.allclose(called.condition, law.condition)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype):
    f = net(1).to(dtype)
    result = hessx.optimal_explanation(
        f, X.to(dtype), 1, perturb_func=LAWS["square"], n_samples=None
    )
    exact = hessx.optimal_explanation(net(1), X, 1, perturb_func=LAWS["square"], n_samples=None)
    assert result.attributions.dtype == torch.float32
    assert result.infidelity.dtype == torch.float64
    error = (result.attributions - exact.attributions).norm() / exact.attributions.norm()
    assert error < 30 * torch.finfo(dtype).eps


def test_black_boxes_return_numpy():
    weight = np.random.default_rng(0).normal(size=84)

    def f(x):
        assert isinstance(x, np.ndarray)
        x *= 2
        return x.reshape(len(x), -1) @ weight

    result = hessx.optimal_explanation(f, X.numpy(), perturb_func=Gaussian(0.1), n_samples=200)
    expected = torch.from_numpy(2 * weight.reshape(SHAPE)).expand_as(X)
    assert torch.allclose(result.attributions, expected, atol=1e-9)


def test_additional_arguments_follow_their_rows():
    scale = torch.tensor([1.0, 3.0]).double()
    result = hessx.optimal_explanation(
        lambda x, s, power: s * (x**power).flatten(1).sum(1), X,
        perturb_func=Gaussian(0.1), n_samples=200, additional_forward_args=(scale, 1),
    )  # fmt: skip
    expected = scale[:, None, None, None].expand_as(X)
    assert torch.allclose(result.attributions, expected, atol=1e-10)


def test_text():
    result = hessx.optimal_explanation(
        NET, X, 1, perturb_func=Square([2], features=hessx.Grid((6, 7))), n_samples=30
    )
    assert "Square, n_samples=30" in repr(result)
    assert "ridge up to" in repr(result)
    assert "Optimal explanation for Square" in result._repr_html_()
    called = hessx.optimal_explanation(
        NET, X, 1, perturb_func=lambda x: (0.1 * x, 0.9 * x), n_samples=2
    )
    assert "<lambda>" in repr(called)


def explain(**changes):
    arguments = {"perturb_func": Gaussian(0.1), "n_samples": 10, **changes}
    function = arguments.pop("forward_func", NET)
    return hessx.optimal_explanation(
        function, arguments.pop("inputs", X), arguments.pop("target", 1), **arguments
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be >= 1, got 0"),
        ({"n_samples": 1.5}, TypeError, "n_samples must be an integer"),
        ({"n_samples": None}, ValueError, "Gaussian does not list"),
        ({"n_samples": None, "perturb_func": abs}, ValueError, "n_samples must be given"),
        ({"perturb_func": 0.1}, TypeError, "perturb_func must be callable, got float"),
        ({"ridge": -1.0}, ValueError, "ridge must be >= 0"),
        ({"ridge": "big"}, TypeError, "ridge must be a number or 'auto'"),
        ({"inputs": (X, X)}, TypeError, "inputs must be a tensor, got tuple"),
        ({"inputs": X * torch.nan}, ValueError, "inputs must be finite"),
        ({"target": None}, ValueError, "target must be given"),
        ({"baselines": "0"}, TypeError, "baselines must be"),
        ({"baselines": torch.zeros(3, 1)}, ValueError, "baselines must be of shape"),
        ({"seed": -1}, ValueError, "seed must be between"),
        ({"forward_func": lambda x: NET(x) * torch.nan}, ValueError, "must be finite"),
        ({"perturb_func": lambda x: x}, TypeError, "must return perturbations and perturbed"),
        ({"perturb_func": lambda x: ((x, x), (x, x))}, ValueError, "each of 1 inputs"),
        ({"perturb_func": lambda x: (x[:, :1], x)}, ValueError, "perturbations of shape"),
        ({"perturb_func": lambda x: (x / 0, x)}, ValueError, "finite perturbations"),
        ({"memory_limit": 200_000}, ValueError, "memory_limit must be at least"),
        ({"perturb_func": Square([1, 8])}, ValueError, "sides must fit"),
        (
            {"forward_func": lambda x: 1e300 * NET(x)},
            ValueError,
            "too large values",
        ),
    ],
)  # fmt: skip
def test_errors(changes, error, message):
    with pytest.raises(error, match=message):
        explain(**changes)


def test_memory_does_not_grow_with_the_samples():
    """20,000 draws of 784 numbers: 63 MB in float32, and twice that in float64."""
    code = """
        import resource, torch, hessx
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        def explain(n):
            law = hessx.perturb.NoisyBaseline(0.2)
            f = lambda x: x[:, 0, :3].square().sum((1, 2))
            hessx.optimal_explanation(f, torch.ones(1, 1, 28, 28), perturb_func=law, n_samples=n)
        explain(10)
        before = peak()
        explain(20_000)
        print(peak() - before)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 120e6
