"""Robust infidelity: the maximum that one finds point by point, and what the ascent adds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hessx
from hessx.query import ExplanationQuery
from hessx.run import Run
from hessx.score.nearby import NearbyInfidelity

X = torch.randn(3, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
torch.manual_seed(0)
NET = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3)).double()
TARGET = [0, 2, 1]


def gradient(x: Tensor, target: Any = 0, *, create_graph: bool = False) -> Tensor:
    if not create_graph:
        x = x.detach()
    x = x if x.requires_grad else x.requires_grad_()
    index = torch.as_tensor(target).expand(len(x))
    value = NET(x).gather(1, index[:, None]).sum()
    return torch.autograd.grad(value, x, create_graph=create_graph)[0]


def with_graph(x: Tensor, target: Any = 0) -> Tensor:
    return gradient(x, target, create_graph=True)


def added_noise(x: Tensor) -> tuple[Tensor, Tensor]:
    step = 0.5 * torch.randn(x.shape, dtype=x.dtype)
    return step, x - step


def scaled(x: Tensor, baselines: Tensor) -> tuple[Tensor, Tensor]:
    """A perturbation that depends on x."""
    share = torch.rand(x.shape, dtype=x.dtype)
    step = share * (x - baselines)
    return step, x - step


def numpy_noise(x: Tensor) -> tuple[Tensor, Tensor]:
    step = torch.from_numpy(np.random.normal(size=x.shape))  # noqa: NPY002
    return step, torch.from_numpy(x.detach().numpy() - step.numpy())


def displacements(radius: float, n: int, seed: int) -> Tensor:
    draw = hessx.ops.uniform(n, 6, seed=seed, stream=212, dtype=torch.float64)
    return (radius * (2 * draw - 1)).reshape(n, 1, 2, 3)


LAWS: dict[str, dict[str, Any]] = {
    "gaussian": dict(perturb_func=hessx.perturb.Gaussian(0.5)),
    "noisy baseline": dict(perturb_func=hessx.perturb.NoisyBaseline(0.5), baselines=0.3),
    "unclipped": dict(
        perturb_func=hessx.perturb.NoisyBaseline(0.5, clip=None), baselines=X.flip(0)
    ),
    "subsets": dict(perturb_func=hessx.perturb.Subsets(), baselines=X.flip(0)),
    "not multiplied": dict(perturb_func=hessx.perturb.Subsets(multiplied=False), baselines=0.5),
    "all squares": dict(perturb_func=hessx.perturb.Square([1, 2]), n_perturb_samples=None),
    "function": dict(perturb_func=added_noise),
    "function of x": dict(perturb_func=scaled, baselines=X.flip(0)),
    "numpy": dict(perturb_func=numpy_noise),
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", LAWS)
def test_the_largest_of_all_points(name: str, normalize: bool):
    arguments = dict(n_perturb_samples=12, normalize=normalize, seed=4) | LAWS[name]
    perturb = arguments.pop("perturb_func")
    points = [torch.zeros_like(X[0]), *displacements(0.3, 7, seed=4)]
    scores = torch.stack(
        [
            hessx.infidelity(
                NET, perturb, X + u, gradient(X + u, TARGET), target=TARGET, **arguments
            )
            for u in points
        ]
    )
    found = hessx.robust_infidelity(
        NET,
        perturb,
        X,
        gradient,
        target=TARGET,
        radius=0.3,
        n_points=7,
        explanation_kwargs={"target": TARGET},
        **arguments,
    )
    torch.testing.assert_close(found, scores.amax(0), rtol=1e-9, atol=0)
    assert (found > scores[0]).any()


@pytest.mark.parametrize("batch", [1, 4, 1000])
@pytest.mark.parametrize("name", ["gaussian", "subsets", "function", "function of x"])
def test_batches_change_nothing(name: str, batch: int):
    arguments: dict[str, Any] = dict(
        explanation_func=with_graph, n_points=5, ascent_steps=2, radius=0.3
    )
    arguments |= LAWS[name]
    whole = hessx.robust_infidelity(NET, inputs=X, target=1, **arguments)
    parts = hessx.robust_infidelity(
        NET, inputs=X, target=1, max_examples_per_batch=batch, **arguments
    )
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=0)
    baselines = arguments.get("baselines")
    if isinstance(baselines, Tensor):
        arguments["baselines"] = baselines[1:2]
    alone = hessx.robust_infidelity(NET, inputs=X[1:2], target=1, **arguments)
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-9, atol=0)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("explanation", ["differentiable", "fixed"])
@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_score(name: str, explanation: str, normalize: bool):
    """Against central differences of the score, the explanation fixed where it has no gradient."""
    arguments = dict(n_perturb_samples=9, baselines=None) | LAWS[name]
    at = gradient(X, TARGET)

    def explain(x: Tensor, target: Any) -> Tensor:
        return with_graph(x, target) if explanation == "differentiable" else at[: len(x)] + 0

    score = NearbyInfidelity(
        NET,
        arguments["perturb_func"],
        ExplanationQuery(explain, (X,), {"target": TARGET}, Run(), takes_tuple=False),
        baselines=arguments["baselines"],
        additional_forward_args=None,
        target=TARGET,
        n=arguments["n_perturb_samples"],
        normalize=normalize,
        run=Run(seed=3),
    )
    rows = torch.arange(3)
    with torch.no_grad():
        found = 2 * score.gradient((X,), rows)
        step = 1e-5
        expected = torch.empty_like(found)
        for j, e in enumerate(step * torch.eye(6, dtype=torch.float64).reshape(6, 1, 2, 3)):
            expected[:, j] = (score((X + e,), rows) - score((X - e,), rows)) / (2 * step)
    assert (expected != 0).any()
    # Central differences in float64 with a step of 1e-5: 1e-10 from both sides.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_ascent_reaches_the_corner_of_a_convex_score():
    """f = w x and Phi = 3 x give (3 (x + u) - w)^T M (3 (x + u) - w), largest in a corner."""
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64)
    noise = hessx.perturb.Gaussian(1.0)

    def explain(x: Tensor) -> Tensor:
        return 3 * x

    def score(u: Tensor) -> float:
        at = x + u
        return float(
            hessx.infidelity(lambda x: x @ w, noise, at, explain(at), n_perturb_samples=40, seed=0)
        )

    corners = [score(0.2 * torch.tensor(c).double()) for c in product((-1, 1), repeat=3)]
    arguments: dict[str, Any] = dict(n_perturb_samples=40, radius=0.2, n_points=3)
    sampled = hessx.robust_infidelity(lambda x: x @ w, noise, x, explain, **arguments)
    climbed = hessx.robust_infidelity(
        lambda x: x @ w, noise, x, explain, ascent_steps=5, **arguments
    )
    assert sampled < max(corners) - 1e-3
    torch.testing.assert_close(climbed.item(), max(corners), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("explain", [gradient, with_graph])
def test_the_ascent_never_ends_below_the_points(name: str, explain: Callable[..., Tensor]):
    arguments: dict[str, Any] = dict(explanation_func=explain, n_points=4, target=1)
    arguments |= dict(explanation_kwargs={"target": 1}) | LAWS[name]
    sampled = hessx.robust_infidelity(NET, inputs=X, **arguments)
    climbed = hessx.robust_infidelity(NET, inputs=X, ascent_steps=4, **arguments)
    assert (climbed >= sampled).all()
    if explain is with_graph:
        assert (climbed > sampled).any()


def test_explanations_that_work_in_place_are_held_fixed():
    def explain(x: Tensor) -> Tensor:
        return x.mul_(2)

    def copied(x: Tensor) -> Tensor:
        return 2 * x.detach()

    scores = [
        hessx.robust_infidelity(NET, added_noise, X, function, target=0, ascent_steps=3, n_points=2)
        for function in (explain, copied)
    ]
    assert torch.equal(*scores)


def test_several_inputs():
    a, b = X.flatten(1)[:, :2], X.flatten(1)[:, 2:].reshape(3, 2, 2)

    def forward(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        return scale * NET(torch.cat([a, b.flatten(1)], 1))[:, 0]

    def noise(x: tuple[Tensor, Tensor]) -> Any:
        steps = tuple(torch.randn(t.shape, dtype=t.dtype) for t in x)
        return steps, tuple(t - s for t, s in zip(x, steps, strict=True))

    scale = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    zero = hessx.robust_infidelity(
        forward,
        noise,
        (a, b),
        lambda x: tuple(t.square() for t in x),
        additional_forward_args=scale,
        n_points=3,
        ascent_steps=2,
    )
    for row in range(3):
        alone = hessx.robust_infidelity(
            forward,
            noise,
            (a[row : row + 1], b[row : row + 1]),
            lambda x: tuple(t.square() for t in x),
            additional_forward_args=scale[row : row + 1],
            n_points=3,
            ascent_steps=2,
        )
        torch.testing.assert_close(alone, zero[row : row + 1], rtol=1e-9, atol=0)


def test_an_argument_as_long_as_a_batch_of_points_is_not_taken_apart():
    """Three inputs with 1 + 4 points each make batches of 3 and 12; so long are the weights."""
    weights = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def forward(x: Tensor, weights: Tensor) -> Tensor:
        assert len(weights) == 12
        return x.sum((1, 2, 3)) * weights.sum()

    found = hessx.robust_infidelity(
        forward,
        hessx.perturb.Gaussian(0.1),
        X,
        lambda x: weights.sum() + 0 * x,
        additional_forward_args=weights,
        n_points=4,
        ascent_steps=1,
    )
    assert (found < 1e-20).all()


def test_half_types():
    half = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3))
    half.load_state_dict(NET.state_dict())
    half = half.to(torch.bfloat16)
    arguments: dict[str, Any] = dict(target=0, n_points=4, n_perturb_samples=20, ascent_steps=2)
    noise = hessx.perturb.Gaussian(1.0)
    found = hessx.robust_infidelity(half, noise, X.bfloat16(), torch.ones_like, **arguments)
    truth = hessx.robust_infidelity(NET, noise, X, torch.ones_like, **arguments)
    torch.testing.assert_close(found, truth, rtol=0.1, atol=0)


def test_memory_limit_progress_and_generators(capsys: pytest.CaptureFixture[str]):
    arguments: dict[str, Any] = dict(target=0, n_points=20, ascent_steps=2)
    free = hessx.robust_infidelity(NET, added_noise, X, gradient, **arguments)
    state = torch.get_rng_state()
    bounded = hessx.robust_infidelity(
        NET, added_noise, X, gradient, memory_limit=50_000, show_progress=True, **arguments
    )
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(free, bounded, rtol=1e-9, atol=0)
    assert "69/69" in capsys.readouterr().err


def no_call(*_: Any) -> Any:
    raise AssertionError("called before the arguments were checked")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(forward_func=3), TypeError, "forward_func must be callable"),
        (dict(forward_func=nn.Dropout()), ValueError, "training mode"),
        (dict(perturb_func=3), TypeError, "perturb_func must be callable"),
        (dict(explanation_func=X), TypeError, "explanation_func must be callable, got Tensor"),
        (dict(inputs=[X]), TypeError, "inputs must be a tensor"),
        (dict(radius=-1), ValueError, "radius must be >= 0 and finite, got -1"),
        (dict(n_points=0), ValueError, "n_points must be >= 1"),
        (dict(ascent_steps=-1), ValueError, "ascent_steps must be >= 0"),
        (dict(n_perturb_samples=0), ValueError, "n_perturb_samples must be >= 1"),
        (dict(n_perturb_samples=None), ValueError, "n_perturb_samples must be given"),
        (dict(normalize="captum"), TypeError, "normalize must be True or False"),
        (dict(seed=None), TypeError, "seed must be an integer"),
        (dict(target=hessx.Targets([0, 1])), TypeError, "target must be one target"),
        (dict(target=[0, 1]), ValueError, "one entry for each of 3 inputs"),
        (dict(explanation_kwargs=[1]), TypeError, "explanation_kwargs must be a mapping"),
        (dict(baselines=X[:2], perturb_func=hessx.perturb.Subsets()), ValueError, "baselines"),
    ],
)
def test_arguments_are_checked_first(change: dict[str, Any], error: type, message: str):
    arguments = dict(forward_func=no_call, perturb_func=no_call, inputs=X, explanation_func=no_call)
    with pytest.raises(error, match=message):
        hessx.robust_infidelity(**(arguments | change))


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: None, TypeError, "explanation_func must return"),
        (lambda x: x * torch.nan, ValueError, "explanation_func returned nan"),
        (lambda x: x[:, :, :1], ValueError, "explanations shaped like the inputs"),
    ],
)
def test_what_comes_back_is_checked(answer: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        hessx.robust_infidelity(NET, added_noise, X, answer, target=0)


def test_a_model_without_a_gradient_has_points_but_no_ascent():
    def black_box(x: Tensor) -> Any:
        return x.detach().numpy().sum((1, 2, 3))

    noise = hessx.perturb.Gaussian(0.1)
    assert (hessx.robust_infidelity(black_box, noise, X, torch.ones_like) < 1e-20).all()
    with pytest.raises((TypeError, ValueError), match="forward_func"):
        hessx.robust_infidelity(black_box, noise, X, torch.ones_like, ascent_steps=1)
