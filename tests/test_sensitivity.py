"""Max-sensitivity by seed: reproducible, independent of batches, and right where it is known."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hessx

X = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
torch.manual_seed(0)
NET = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Softplus(), nn.Linear(9, 3)).double()
N = 23


def gradient(x: Tensor, target: Any = 0, additional_forward_args: Any = None) -> Tensor:
    """The gradient of an output, times a number of each input if there is one."""
    x = x.detach().requires_grad_()
    out = NET(x)
    index = torch.as_tensor(target).expand(len(x))
    value = out.gather(1, index[:, None]).sum()
    (found,) = torch.autograd.grad(value, x)
    if additional_forward_args is None:
        return found
    return found * additional_forward_args.reshape(-1, 1, 1, 1)


def displacements(radius: float, n: int, d: int = 12, seed: int = 0) -> Tensor:
    draw = hessx.ops.uniform(n, d, seed=seed, stream=210, dtype=torch.float64)
    return radius * (2 * draw - 1)


def test_a_linear_explanation():
    """Phi = A x changes by A u, whatever x is."""
    A = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = displacements(0.3, N, seed=7)
    found = hessx.sensitivity_max(
        lambda x: x.flatten(1) @ A.mT, X, None, 0.3, N, normalize=None, seed=7
    )
    expected = (u @ A.mT).norm(dim=1).max()
    torch.testing.assert_close(found, expected.expand(4), rtol=1e-12, atol=0)


def test_three_ways_to_normalize():
    u = displacements(0.3, N).reshape(N, 3, 2, 2)
    clean = gradient(X).flatten(1)
    near = torch.stack([gradient(x + u).flatten(1) for x in X])
    expected = {
        None: (near - clean[:, None]).norm(dim=2).amax(1),
        "captum": ((near - clean[:, None]).norm(dim=2) / clean.norm(dim=1, keepdim=True)).amax(1),
        "unit": (nn.functional.normalize(near, dim=2) - nn.functional.normalize(clean)[:, None])
        .norm(dim=2)
        .amax(1),
    }
    for normalize, value in expected.items():
        found = hessx.sensitivity_max(gradient, X, None, 0.3, N, normalize=normalize, seed=0)
        torch.testing.assert_close(found, value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", ["fro", "nuc", 1, 0.5, math.inf, -math.inf, 0])
def test_norms(order: Any):
    u = displacements(0.3, N).reshape(N, 3, 2, 2)
    p = 2 if isinstance(order, str) else order
    change = torch.stack([gradient(x + u) for x in X]) - gradient(X)[:, None]
    expected = torch.linalg.vector_norm(change, p, dim=(2, 3, 4)).amax(1)
    found = hessx.sensitivity_max(gradient, X, None, 0.3, N, norm_ord=order, normalize=None, seed=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("batch", [1, 3, 7, 23, 50, 1000])
@pytest.mark.parametrize("perturbed_by", ["default", "torch", "numpy"])
def test_batches_change_nothing(batch: int, perturbed_by: str):
    functions = {
        "default": None,
        "torch": lambda x, r: x + r * torch.randn(x.shape, dtype=x.dtype),
        "numpy": lambda x: x + torch.from_numpy(np.random.uniform(-1, 1, x.shape)),  # noqa: NPY002
    }
    kwargs: dict[str, Any] = dict(perturb_func=functions[perturbed_by], seed=3, perturb_radius=0.3)
    target = [0, 1, 2, 0]
    whole = hessx.sensitivity_max(gradient, X, n_perturb_samples=N, target=target, **kwargs)
    assert len(whole.unique()) == 4
    parts = hessx.sensitivity_max(
        gradient, X, n_perturb_samples=N, target=target, max_examples_per_batch=batch, **kwargs
    )
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    alone = hessx.sensitivity_max(
        gradient, X[2:3], n_perturb_samples=N, target=[2], max_examples_per_batch=batch, **kwargs
    )
    torch.testing.assert_close(alone, whole[2:3], rtol=1e-12, atol=0)


def test_more_points_can_only_find_more():
    scores = [
        hessx.sensitivity_max(gradient, X, n_perturb_samples=n, seed=0) for n in (1, 5, 20, 80)
    ]
    for fewer, more in pairwise(scores):
        # Batches of other sizes round otherwise.
        assert (fewer <= (1 + 1e-12) * more).all()
    assert (scores[0] < scores[-1]).any()


def test_it_does_not_depend_on_the_global_generators_and_leaves_them():
    def random_explanation(x: Tensor) -> Tensor:
        noise = torch.rand(()) + np.random.rand()  # noqa: NPY002
        return x * noise

    scores = []
    for start in (0, 1):
        torch.manual_seed(start)
        np.random.seed(start)  # noqa: NPY002
        states = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        scores.append(hessx.sensitivity_max(random_explanation, X, seed=0))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(*scores)


def test_kinds_of_inputs():
    """A tensor for a tensor, a tuple for a tuple, and a tuple is one input."""
    seen = []

    def explain(x: Any) -> Any:
        seen.append(type(x))
        return tuple(t.square() for t in x) if isinstance(x, tuple) else x.square()

    as_tensor = hessx.sensitivity_max(explain, X, seed=0)
    assert set(seen) == {Tensor}
    seen.clear()
    as_tuple = hessx.sensitivity_max(explain, (X,), seed=0)
    assert set(seen) == {tuple}
    assert torch.equal(as_tensor, as_tuple)
    two = hessx.sensitivity_max(explain, (X[:, :1], X[:, 1:]), seed=0)
    torch.testing.assert_close(two, as_tensor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype: torch.dtype):
    types = set()

    def explain(x: Tensor) -> Tensor:
        types.add(x.dtype)
        return 2 * x

    found = hessx.sensitivity_max(explain, X.to(dtype), perturb_radius=0.5, seed=0)
    assert types == {dtype}
    truth = hessx.sensitivity_max(explain, X, perturb_radius=0.5, seed=0)
    torch.testing.assert_close(found, truth, rtol=0.02, atol=0)


def test_every_example_is_explained_once():
    calls: list[int] = []

    def explain(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.square()

    hessx.sensitivity_max(explain, X, n_perturb_samples=50, seed=0)
    assert sum(calls) == 4 * 51
    assert len(calls) == 3


@pytest.mark.parametrize("seed", [None, 0])
def test_memory_limit(seed: int | None):
    sizes: list[int] = []

    def explain(x: Any) -> Any:
        (x,) = x if isinstance(x, tuple) else (x,)
        sizes.append(len(x))
        return (x.square(),)

    torch.manual_seed(0)
    free = hessx.sensitivity_max(explain, X, n_perturb_samples=N, seed=seed)
    assert max(sizes) == 4 * N
    sizes.clear()
    torch.manual_seed(0)
    # The example and its explanation are 192 bytes; a batch takes about 12 times its size.
    bounded = hessx.sensitivity_max(explain, X, n_perturb_samples=N, seed=seed, memory_limit=20_000)
    assert max(sizes) < 4 * N / 5
    assert torch.equal(free, bounded)
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        hessx.sensitivity_max(explain, X, seed=seed, memory_limit=100)


def test_progress(capsys: pytest.CaptureFixture[str]):
    hessx.sensitivity_max(gradient, X, n_perturb_samples=N, seed=0, show_progress=True)
    assert f"{4 * N}/{4 * N}" in capsys.readouterr().err


def test_a_zero_explanation_is_divided_by_one():
    def explain(x: Tensor) -> Tensor:
        return (x - X[:1]).abs()

    found = [
        hessx.sensitivity_max(explain, X[:1], seed=0, perturb_radius=0.1, normalize=normalize)
        for normalize in ("captum", None)
    ]
    assert torch.equal(*found)
    unit = hessx.sensitivity_max(explain, X[:1], seed=0, normalize="unit")
    torch.testing.assert_close(unit, torch.ones(1, dtype=torch.float64))


def test_radius_zero():
    found = hessx.sensitivity_max(torch.square, X, perturb_radius=0, seed=0)
    assert torch.equal(found, torch.zeros(4, dtype=torch.float64))


def no_call(*_: Any) -> Any:
    raise AssertionError("called before the arguments were checked")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(explanation_func=3), TypeError, "explanation_func must be callable, got int"),
        (dict(inputs=[X]), TypeError, "inputs must be a tensor, got list"),
        (dict(inputs=()), ValueError, "got an empty tuple"),
        (dict(inputs=X[:0]), ValueError, "not empty"),
        (dict(inputs=X / 0), ValueError, "inputs must be finite"),
        (dict(inputs=X.long()), TypeError, "inputs must be floating point"),
        (dict(inputs=(X, X[:2])), ValueError, r"inputs\[0\] has 4 on cpu, inputs\[1\] 2"),
        (dict(perturb_func=3), TypeError, "perturb_func must be callable, got int"),
        (dict(perturb_radius=-0.1), ValueError, "perturb_radius must be >= 0 and finite, got -0.1"),
        (dict(perturb_radius="1"), TypeError, "perturb_radius must be a number"),
        (dict(n_perturb_samples=0), ValueError, "n_perturb_samples must be >= 1, got 0"),
        (dict(norm_ord="max"), ValueError, "norm_ord must be one of 'fro', 'nuc', got 'max'"),
        (dict(norm_ord=None), TypeError, "norm_ord must be"),
        (dict(norm_ord=math.nan), ValueError, "got nan"),
        (dict(max_examples_per_batch=0), ValueError, "max_examples_per_batch must be >= 1"),
        (dict(normalize="l2"), ValueError, "normalize must be one of 'captum', 'unit', got 'l2'"),
        (dict(seed=-1), ValueError, "seed must be"),
        (dict(target=[0, 1]), ValueError, "one entry for each of 4 inputs, got 2"),
    ],
)
def test_arguments_are_checked_first(change: dict[str, Any], error: type, message: str):
    arguments = dict(explanation_func=no_call, inputs=X, seed=0) | change
    with pytest.raises(error, match=message):
        hessx.sensitivity_max(**arguments)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(
    ("perturb", "error", "message"),
    [
        (lambda x: x[:, :1], ValueError, "perturb_func must return inputs of shape"),
        (lambda x: x[:1], ValueError, "perturb_func must return inputs of shape"),
        (lambda x: (x, x), ValueError, "perturb_func must return inputs of shape"),
        (lambda x: x / 0, ValueError, "perturb_func must return finite numbers"),
        (lambda x: None, TypeError, "got NoneType"),
    ],
)
def test_bad_perturbations(seed: int | None, perturb: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        hessx.sensitivity_max(lambda x: x, X, perturb, seed=seed)


def test_a_law_of_infidelity_is_no_perturb_func():
    class Law(hessx.perturb.perturbation.Perturbation):
        def bind(self, inputs: Tensor, baselines: Any, seed: int) -> Any:
            raise AssertionError

    with pytest.raises(TypeError, match="is for infidelity"):
        hessx.sensitivity_max(gradient, X, Law(), seed=0)


def test_functions_of_tensors_alone_are_told_about_tuples():
    with pytest.raises(TypeError, match="with an int seed it is given the tensor"):
        hessx.sensitivity_max(gradient, X)


def test_functions_may_fill_one_buffer_in_every_call():
    points, explanations = {}, {}

    def into(buffers: dict[int, Tensor], value: Tensor) -> Tensor:
        return buffers.setdefault(len(value), torch.empty_like(value)).copy_(value)

    def noisy(x: Tensor) -> Tensor:
        return x + 0.3 * torch.randn(x.shape, dtype=x.dtype)

    arguments: dict[str, Any] = dict(n_perturb_samples=40, seed=0)
    expected = hessx.sensitivity_max(gradient, X, noisy, **arguments)
    for batch in (None, 1):
        found = hessx.sensitivity_max(
            lambda x: into(explanations, gradient(x)),
            X,
            lambda x: into(points, noisy(x)),
            max_examples_per_batch=batch,
            **arguments,
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_random_explanations_draw_other_numbers_than_the_points():
    """Also in block 0, and in the clean explanation, which is asked first."""
    points, explanations = [], []

    def noisy(x: Tensor) -> Tensor:
        points.append(torch.rand(5))
        return x + 0.1

    def explain(x: Tensor) -> Tensor:
        explanations.append(torch.rand(5))
        return x

    hessx.sensitivity_max(explain, X, noisy, n_perturb_samples=N, seed=0)
    assert not torch.isin(torch.cat(explanations), torch.cat(points)).any()


@pytest.mark.parametrize("seed", [None, 0])
def test_builtins_perturb(seed: int | None):
    """They have no signature to look at: functions of the inputs alone."""
    found = hessx.sensitivity_max(lambda x: x, X, torch.relu, seed=seed)
    expected = (X.relu() - X).flatten(1).norm(dim=1) / X.flatten(1).norm(dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("batch", [X, X[:1]])
def test_as_captum_functions_may_fill_one_buffer_in_every_call(batch: Tensor):
    buffer = torch.empty_like(batch)
    arguments: dict[str, Any] = dict(max_examples_per_batch=len(batch), normalize=None)

    def square(x: tuple[Tensor]) -> Tensor:
        return x[0].square()

    torch.manual_seed(0)
    expected = hessx.sensitivity_max(square, batch, **arguments)
    torch.manual_seed(0)
    found = hessx.sensitivity_max(lambda x: buffer.copy_(square(x)), batch, **arguments)
    assert torch.equal(found, expected)
    assert (found > 0).all()


def test_numbers_whose_sum_is_not_finite():
    big = torch.full((1, 4), 3e38)
    found = hessx.sensitivity_max(lambda x: x, big, lambda x: x / 2, n_perturb_samples=3, seed=0)
    torch.testing.assert_close(found, torch.tensor([0.5], dtype=torch.float64))
