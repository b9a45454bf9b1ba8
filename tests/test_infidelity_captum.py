"""Infidelity as Captum's: every documented argument and shape, on the same noise."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import hessx

metrics = pytest.importorskip("captum.metrics")


class TwoInputs(nn.Module):
    """Two inputs of different shapes, an additional tensor and an additional number."""

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | None = None, power: int = 1) -> Tensor:
        out = a.flatten(1).sum(1).tanh() + b.square().sum((1, 2))
        out = out if scale is None else out * scale
        return torch.stack([out, out**power, -out], 1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5)).eval()


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def noise(x: Tensor) -> tuple[Tensor, Tensor]:
    step = 0.3 * torch.randn(x.shape)
    return step, x - step


def both(*args, **kwargs) -> tuple[Tensor, Tensor]:
    """Captum's and our scores from the same state of the generator."""
    scores = []
    for function in (metrics.infidelity, hessx.infidelity):
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores.append(function(*args, **kwargs))
    return scores[0], scores[1]


def agree(*args, **kwargs) -> None:
    expected, score = both(*args, **kwargs)
    assert score.dtype == torch.float64
    assert score.shape == expected.shape
    torch.testing.assert_close(score.to(expected), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 3, 7, 12, 1000])
def test_batches(normalize: bool, batch: int | None) -> None:
    x = pictures()
    agree(
        net(),
        noise,
        x,
        0.3 * x,
        target=1,
        n_perturb_samples=10,
        max_examples_per_batch=batch,
        normalize=normalize,
    )


@pytest.mark.parametrize(
    "target", [0, torch.tensor(2), torch.tensor([4]), torch.tensor([0, 4, 1]), [3, 1, 0]]
)
def test_targets_of_flat_outputs(target: object) -> None:
    x = pictures()
    agree(net(), noise, x, 0.3 * x, target=target)


@pytest.mark.parametrize("target", [(0, 1), [(0, 1), (1, 2), (1, 0)]])
def test_targets_of_outputs_of_two_dimensions(target: object) -> None:
    x = pictures()
    agree(lambda x: x.mean((3,))[:, :2].tanh().repeat(1, 1, 2), noise, x, x, target=target)


@pytest.mark.parametrize("outputs", [(), (1,)])
def test_single_outputs_need_no_target(outputs: tuple[int, ...]) -> None:
    x = pictures()
    agree(lambda x: x.flatten(1).square().sum(1).reshape(-1, *outputs), noise, x, x)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (1, 2, 3, 2)])
def test_shapes_of_inputs(shape: tuple[int, ...]) -> None:
    x = torch.linspace(-1, 1, 2 * torch.Size(shape).numel()).reshape(2, *shape)
    agree(lambda x: x.reshape(len(x), -1).exp().sum(1), noise, x, x.exp())


def test_single_example() -> None:
    x = pictures(1)
    agree(net(), noise, x, x, target=torch.tensor([2]))


@pytest.mark.parametrize("baselines", [0, 0.5, torch.full((1, 3, 2, 2), 0.2), pictures().flip(0)])
@pytest.mark.parametrize("multiply", [False, True])
def test_baselines_with_the_decorator(baselines: object, multiply: bool) -> None:
    def blended(x: Tensor, base: Tensor | float) -> Tensor:
        share = torch.rand(len(x), 1, 1, 1)
        return share * x + (1 - share) * base

    x = pictures()
    x[0, 0] = 0
    scores = []
    for library in (metrics, hessx):
        torch.manual_seed(5)
        perturb = library.infidelity_perturb_func_decorator(multiply)(blended)
        scores.append(
            library.infidelity(net(), perturb, x, 0.2 * x, baselines, target=0)
            if library is hessx
            else metrics.infidelity(net(), perturb, x, 0.2 * x, baselines, target=0)
        )
    torch.testing.assert_close(scores[1].float(), scores[0], rtol=1e-5, atol=1e-6)


def test_the_decorator_without_baselines() -> None:
    x = pictures()
    x[1, 2] = 0
    for multiply in (False, True):
        found = []
        for decorator in (
            metrics.infidelity_perturb_func_decorator,
            hessx.infidelity_perturb_func_decorator,
        ):
            torch.manual_seed(2)
            found.append(decorator(multiply)(lambda x: x + torch.rand_like(x))(x))
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("baselines", [None, (0.0, 1.0), (torch.zeros(1, 4), torch.ones(2, 2, 3))])
@pytest.mark.parametrize("batch", [None, 4])
def test_tuples_of_inputs(baselines: object, batch: int | None) -> None:
    a, b = torch.randn(2, 4), torch.randn(2, 2, 3)

    def perturb(inputs: tuple[Tensor, Tensor], base: object = None) -> tuple:
        assert (base is None) == (baselines is None)
        steps = tuple(0.1 * torch.randn(x.shape) for x in inputs)
        return steps, tuple(x - step for x, step in zip(inputs, steps, strict=True))

    arguments = (torch.tensor([2.0, -1.0]), 2)
    agree(
        TwoInputs(),
        perturb,
        (a, b),
        (a.cos(), 2 * b),
        baselines,
        arguments,
        [1, 2],
        n_perturb_samples=5,
        max_examples_per_batch=batch,
    )


def test_a_tuple_of_one_input() -> None:
    x = pictures()
    agree(net(), lambda x: tuple((t,) for t in noise(x)), (x,), (0.3 * x,), target=1)


@pytest.mark.parametrize("args", [torch.tensor([1.0, 2.0, -1.0]), (torch.ones(3, 1), 2), 3])
def test_additional_arguments(args: object) -> None:
    def f(x: Tensor, scale: Tensor | int, power: int = 1) -> Tensor:
        factor = scale.reshape(-1) if isinstance(scale, Tensor) else scale
        return (x.flatten(1).tanh().sum(1) * factor) ** power

    x = pictures()
    agree(f, noise, x, x, additional_forward_args=args, max_examples_per_batch=9)


def test_double_precision_and_integer_masks() -> None:
    x = pictures().double()

    def masks(x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randint(2, x.shape)
        return z, x * (1 - z)

    expected, score = both(net().double(), masks, x, x, target=1, normalize=True)
    torch.testing.assert_close(score, expected, rtol=1e-12, atol=1e-14)


def test_the_same_calls_of_the_function() -> None:
    """Nothing but the import changes for a function with a state of its own."""
    calls: dict[str, list] = {"captum": [], "hessx": []}
    x, base = pictures(), torch.zeros(3, 3, 2, 2)
    for name, function in (("captum", metrics.infidelity), ("hessx", hessx.infidelity)):

        def perturb(x: Tensor, b: Tensor, name: str = name) -> tuple[Tensor, Tensor]:
            calls[name].append((x.clone(), b.clone(), torch.is_grad_enabled()))
            return noise(x)

        function(
            net(), perturb, x, x, base, target=0, n_perturb_samples=5, max_examples_per_batch=7
        )
    assert len(calls["captum"]) == len(calls["hessx"]) == 3
    for theirs, ours in zip(calls["captum"], calls["hessx"], strict=True):
        assert torch.equal(theirs[0], ours[0])
        assert torch.equal(theirs[1], ours[1])
        assert theirs[2] == ours[2]


def test_exact_explanations_of_linear_models_score_zero() -> None:
    """Where Captum's scaled form cancels in float32 to 1e-9, with either sign."""
    torch.manual_seed(0)
    weight = torch.randn(784)
    x = torch.rand(4, 784)

    def f(x: Tensor) -> Tensor:
        return (x.double() @ weight.double()).float()

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        step = 0.1 * torch.randn(x.shape)
        perturbed = x - step
        return x - perturbed, perturbed

    attributions = weight.expand(4, 784)
    expected, score = both(f, perturb, x, attributions, n_perturb_samples=200, normalize=True)
    assert expected.abs().max() > 1e-9
    assert (score >= 0).all()
    assert (score < 1e-10).all()
    assert (both(f, perturb, x, attributions, n_perturb_samples=200)[1] < 1e-10).all()
