"""Max-sensitivity as Captum's: every documented argument and shape, on the same noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hessx

metrics = pytest.importorskip("captum.metrics")
attr = pytest.importorskip("captum.attr")

pytestmark = pytest.mark.filterwarnings("ignore:.*did not already require gradients")


class TwoInputs(nn.Module):
    """Two inputs of different shapes, an additional tensor and an additional number."""

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | None = None, power: int = 1) -> Tensor:
        out = a.flatten(1).sum(1).tanh() * b.square().sum((1, 2))
        out = out if scale is None else out * scale
        return torch.stack([out, out**power, -out], 1)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(12, 16), nn.Softplus(), nn.Linear(16, 5)
    return nn.Sequential(*layers).eval()


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def pair(n: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 2, 3, generator=generator)


def wide_noise(x: Tensor, radius: float = 0.02) -> Tensor:
    return x + 5 * radius * torch.randn(x.shape)


def narrow_noise(x: Tensor) -> Tensor:
    return x + 0.01 * torch.rand(x.shape)


def noise_of_two(x: tuple[Tensor, Tensor], radius: float) -> tuple[Tensor, Tensor]:
    return x[0] + radius * torch.rand(x[0].shape), x[1] * (1 + radius * torch.rand(()))


def both(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Captum's and our scores from the same state of the generator."""
    scores = []
    for function in (metrics.sensitivity_max, hessx.sensitivity_max):
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores.append(function(*args, **kwargs))
    return scores[0], scores[1]


def agree(*args: Any, **kwargs: Any) -> None:
    expected, score = both(*args, **kwargs)
    assert score.dtype == torch.float64
    assert score.shape == expected.shape
    assert (expected > 0).all()
    # Captum's norms are in float32, on differences of explanations that are 20 times as large.
    torch.testing.assert_close(score.to(expected), expected, rtol=1e-5, atol=0)


def saliency() -> Callable[..., Any]:
    return attr.Saliency(net().double()).attribute


X = pictures().double()
TARGET = [0, 3, 4]


@pytest.mark.parametrize("batch", [None, 1, 3, 7, 12, 1000])
def test_batches(batch: int | None):
    agree(saliency(), X, max_examples_per_batch=batch, target=TARGET)


@pytest.mark.parametrize("n", [1, 5, 23])
def test_numbers_of_points(n: int):
    agree(saliency(), X, n_perturb_samples=n, max_examples_per_batch=9, target=TARGET)


@pytest.mark.parametrize("order", ["fro", 0.5, 1, 2, 3.0, math.inf, -math.inf, -1, 0])
def test_norms(order: float | str):
    agree(attr.InputXGradient(net().double()).attribute, X, norm_ord=order, target=1)


@pytest.mark.parametrize("radius", [1e-3, 0.5])
@pytest.mark.parametrize("function", [wide_noise, narrow_noise])
def test_functions_of_one_and_two_parameters(function: Callable[..., Tensor], radius: float):
    agree(saliency(), X, function, radius, target=TARGET)


def test_float32():
    # The difference of two explanations loses 2 to 3 of the 7 digits on both sides.
    expected, score = both(attr.Saliency(net()).attribute, pictures(), target=1)
    torch.testing.assert_close(score.float(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "target",
    [2, (2,), [1, 2, 0], [(1,), (2,), (0,)], torch.tensor(2), torch.tensor([1, 2, 0])],
    ids=str,
)
def test_targets(target: Any):
    agree(saliency(), X, target=target)


@pytest.mark.parametrize("one", [[2], torch.tensor([2]), [(2,)]], ids=str)
def test_targets_of_one_input(one: Any):
    agree(saliency(), X[:1], target=one)


@pytest.mark.parametrize(
    "baselines",
    [None, 0.5, X.flip(0), X[:1], (X.flip(0),)],
    ids=["none", "number", "each", "one", "tuple"],
)
def test_baselines(baselines: Any):
    method = attr.IntegratedGradients(net().double())
    agree(method.attribute, X, target=1, baselines=baselines, n_steps=8)


def test_one_input_and_one_baseline():
    method = attr.IntegratedGradients(net().double())
    agree(method.attribute, X[:1], target=1, baselines=X[1:2], n_steps=8)


def test_several_inputs_and_additional_arguments():
    a, b = (t.double() for t in pair())
    scale = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    for method in (attr.Saliency, attr.InputXGradient):
        explain = method(TwoInputs()).attribute
        agree(explain, (a, b), target=1, additional_forward_args=(scale, 2))
        agree(explain, (a, b), target=[0, 1, 2], additional_forward_args=scale)
        agree(explain, (a, b), noise_of_two, 0.3, 7, target=1, max_examples_per_batch=6)
    method = attr.IntegratedGradients(TwoInputs())
    both_given = (a.flip(0), b.flip(0))
    agree(method.attribute, (a, b), target=0, baselines=both_given, n_steps=5)
    agree(method.attribute, (a, b), target=0, baselines=(0.5, 1), n_steps=5)


def test_a_zero_explanation():
    """Captum divides by 1 where the explanation of the input is 0."""

    agree(lambda x: ((x[0] - X[:1]).abs(),), X[:1], perturb_radius=0.1)


def test_explanations_of_another_shape():
    """Captum takes the rows of a tensor for the tensors of a tuple."""
    model = net().double()
    layer = attr.LayerGradientXActivation(model, model[2]).attribute
    with pytest.raises(RuntimeError, match="must match the size"):
        metrics.sensitivity_max(layer, X, target=0)

    def explain(x: Any, **kwargs: Any) -> tuple[Tensor]:
        return (layer(x, **kwargs),)

    agree(explain, X, target=TARGET)
    scores = []
    for function in (explain, layer):
        torch.manual_seed(3)
        scores.append(hessx.sensitivity_max(function, X, target=TARGET))
    assert torch.equal(*scores)


class Recorder:
    """What the two functions of the user's are given, call by call."""

    def __init__(self, with_tuples: bool):
        self.calls: list[Any] = []
        self._with_tuples = with_tuples

    def explain(self, inputs: Any, **kwargs: Any) -> Any:
        self.calls.append(("explain", _copied(inputs), _copied(kwargs)))
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        found = tuple(t.square() for t in tensors)
        return found if isinstance(inputs, tuple) else found[0]

    def perturb(self, inputs: Any, radius: float) -> Any:
        self.calls.append(("perturb", _copied(inputs), radius))
        if isinstance(inputs, tuple):
            return tuple(t + radius * torch.rand(t.shape) for t in inputs)
        found = inputs + radius * torch.rand(inputs.shape)
        return (found,) if self._with_tuples else found


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in sorted(value.items())}
    if isinstance(value, (tuple, list)):
        return type(value)(_copied(entry) for entry in value)
    return value.clone() if isinstance(value, Tensor) else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return a == b


@pytest.mark.parametrize("with_tuples", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("batch", [None, 7])
def test_the_very_calls(with_tuples: bool, several: bool, batch: int | None):
    inputs = pair() if several else pictures()
    kwargs = dict(
        target=[2, 0, 1],
        additional_forward_args=(torch.arange(3), "as is", torch.arange(6).reshape(3, 2)),
        baselines=tuple(t.flip(0) for t in inputs) if several else (inputs.flip(0),),
        method="mine",
    )
    recorders = []
    for function in (metrics.sensitivity_max, hessx.sensitivity_max):
        torch.manual_seed(4)
        recorder = Recorder(with_tuples)
        function(
            recorder.explain,
            inputs,
            recorder.perturb,
            0.1,
            n_perturb_samples=5,
            max_examples_per_batch=batch,
            **kwargs,
        )
        recorders.append(recorder.calls)
    captums, ours = recorders
    assert len(captums) == len(ours) > 2
    for theirs, mine in zip(captums, ours, strict=True):
        assert _same(theirs, mine)


def test_the_default_noise_is_captums():
    recorders = []
    for function in (metrics.sensitivity_max, hessx.sensitivity_max):
        torch.manual_seed(4)
        recorder = Recorder(True)
        function(recorder.explain, (pictures(), pictures(3).double()), max_examples_per_batch=8)
        recorders.append(recorder.calls)
    assert all(map(_same, *recorders))


def test_batches_smaller_than_the_inputs_warn_as_captums():
    with pytest.warns(UserWarning, match="at least the batch size 3"):
        hessx.sensitivity_max(saliency(), X, max_examples_per_batch=2, target=0)
    with pytest.warns(UserWarning, match="at least equal to the input batch size"):
        metrics.sensitivity_max(saliency(), X, max_examples_per_batch=2, target=0)


def test_what_cannot_be_copied():
    """Captum copies all arguments, models among them, and fails on those with a graph."""
    weight = (torch.ones(3, 1, dtype=torch.float64, requires_grad=True) * 2.0,)

    def explain(x: Any, additional_forward_args: Any) -> Tensor:
        x = x[0] if isinstance(x, tuple) else x
        return x.flatten(1).square() * additional_forward_args[0]

    with pytest.raises(RuntimeError, match="deepcopy"):
        metrics.sensitivity_max(explain, X, additional_forward_args=weight)
    assert (hessx.sensitivity_max(explain, X, additional_forward_args=weight) > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype: torch.dtype):
    """Captum adds float32 noise, and the model then meets a type that it is not of."""
    half = net().to(dtype)
    explain = attr.Saliency(half).attribute
    with pytest.raises(RuntimeError, match="dtype"):
        metrics.sensitivity_max(explain, X.to(dtype), target=1)
    truth = saliency()
    torch.manual_seed(0)
    found = hessx.sensitivity_max(explain, X.to(dtype), perturb_radius=0.5, target=1)
    torch.manual_seed(0)
    expected = metrics.sensitivity_max(truth, X, perturb_radius=0.5, target=1)
    # Gradients of bfloat16 have 8 bits, and the change is a fifth of them.
    torch.testing.assert_close(found, expected, rtol=0.2, atol=0)
