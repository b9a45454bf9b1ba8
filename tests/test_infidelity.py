"""Infidelity beyond Captum: several explanations and targets, seeds, laws, errors."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hessx
from hessx.perturb import Gaussian, NoisyBaseline, Perturbation, Shap, Square, Subsets

LAWS = [
    Gaussian(0.3),
    NoisyBaseline(0.2),
    NoisyBaseline(0.2, clip=None),
    Square(sides=[1, 2]),
    Square(sides=[2], multiplied=False),
    Subsets(),
    Shap(features=hessx.Segments(torch.arange(16).reshape(1, 4, 4) % 5)),
]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4)).double().eval()


def pictures(n: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def noise(x: Tensor) -> tuple[Tensor, Tensor]:
    step = 0.3 * torch.randn(x.shape, dtype=x.dtype)
    return step, x - step


def explanations(x: Tensor, k: int) -> Tensor:
    return torch.stack([(i + 1) * x.sin() - 0.1 * i for i in range(k)])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("normalize", [False, True])
def test_definition(law: Perturbation, normalize: bool) -> None:
    """Against the formula, perturbation by perturbation."""
    f, x, n = net(), pictures(), 20
    phi, base = explanations(x, 1)[0], 0.1
    score, stderr = hessx.infidelity(
        f,
        law,
        x,
        phi,
        base,
        target=2,
        n_perturb_samples=n,
        normalize=normalize,
        seed=4,
        return_stderr=True,
    )
    bound = law.bind(x, base, 4)
    rows = torch.arange(len(x))
    u = bound.draw(0, n)[:, None]
    dots = (bound.perturbations(u, rows) * phi).flatten(2).sum(2)
    with torch.no_grad():
        changed = f(bound.perturbed(u, rows).flatten(0, 1))[:, 2].unflatten(0, (n, len(x)))
        differences = f(x)[:, 2] - changed
    if normalize:
        dots = dots * (dots * differences).mean(0) / dots.square().mean(0)
    errors = (dots - differences).square()
    torch.testing.assert_close(score, errors.mean(0), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(stderr, errors.std(0) / n**0.5, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("perturb", [*LAWS, noise])
@pytest.mark.parametrize("normalize", [False, True])
def test_explanations_and_targets_share_evaluations(perturb, normalize: bool) -> None:
    """K explanations of T targets score as K T calls do, for the evaluations of one."""
    f, x = net(), pictures()
    asked = []

    def counted(x: Tensor) -> Tensor:
        asked.append(len(x))
        return f(x)

    settings = {"n_perturb_samples": 9, "seed": 1, "normalize": normalize}
    targets = [0, hessx.Contrast(1, 2), [3, 2, 1]]
    phi = torch.stack([explanations(x + i, 2) for i in range(3)])
    scores = hessx.infidelity(counted, perturb, x, phi, target=hessx.Targets(targets), **settings)
    assert scores.shape == (3, 2, 3)
    assert sum(asked) == 3 + 3 * 9
    for t, target in enumerate(targets):
        for k in range(2):
            alone = hessx.infidelity(f, perturb, x, phi[t, k], target=target, **settings)
            torch.testing.assert_close(scores[t, k], alone, rtol=1e-9, atol=1e-14)
    one_each = hessx.infidelity(f, perturb, x, phi[:, 0], target=hessx.Targets(targets), **settings)
    torch.testing.assert_close(one_each, scores[:, 0], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("perturb", [*LAWS, noise])
def test_a_seed_fixes_the_scores(perturb) -> None:
    """Neither batches, nor other inputs, nor the generators' state changes them."""
    f, x = net(), pictures(4)
    phi = explanations(x, 2)

    def scores(rows: slice = slice(None), **settings) -> Tensor:
        torch.manual_seed(random.randrange(10**6))
        return hessx.infidelity(
            f, perturb, x[rows], phi[:, rows], target=1, n_perturb_samples=300, seed=6, **settings
        )

    expected = scores()
    for settings in ({"max_examples_per_batch": 7}, {"memory_limit": 200_000}):
        torch.testing.assert_close(scores(**settings), expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(scores(slice(2, 3)), expected[:, 2:3], rtol=1e-9, atol=1e-14)
    other = hessx.infidelity(f, perturb, x, phi, target=1, n_perturb_samples=300, seed=7)
    assert (other != expected).any()


def test_the_generators_are_put_back() -> None:
    def all_three(x: Tensor) -> tuple[Tensor, Tensor]:
        step = torch.rand(x.shape) + np.random.rand() + random.random()  # noqa: NPY002
        return step, x - step

    x = pictures(2, torch.float32)
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    scores = [
        hessx.infidelity(lambda x: x.flatten(1).sum(1), all_three, x, x, seed=3) for _ in range(2)
    ]
    assert torch.equal(*scores)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_all_squares_are_listed() -> None:
    f, x = net(), pictures(2)
    law = Square(sides=[1, 2, 4])
    phi = explanations(x, 2)
    score, stderr = hessx.infidelity(
        f, law, x, phi, target=0, n_perturb_samples=None, return_stderr=True
    )
    z = [
        torch.zeros(4, 4, dtype=torch.float64).index_put_(
            tuple(torch.cartesian_prod(torch.arange(i, i + s), torch.arange(j, j + s)).T),
            torch.tensor(1.0, dtype=torch.float64),
        )
        for s in (1, 2, 4)
        for i in range(5 - s)
        for j in range(5 - s)
    ]
    z = torch.stack(z)[:, None, None]
    assert len(z) == 16 + 9 + 1
    with torch.no_grad():
        differences = f(x)[:, 0] - torch.stack([f(x * (1 - mask[0]))[:, 0] for mask in z])
    errors = ((z[:, None] * phi).flatten(3).sum(3) - differences[:, None]).square()
    torch.testing.assert_close(score, errors.mean(0), rtol=1e-10, atol=1e-14)
    assert (stderr == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype: torch.dtype) -> None:
    x = pictures(2, dtype)
    weight = torch.linspace(-1, 1, 16).to(dtype).reshape(1, 4, 4)
    for perturb, seed in ((Square(sides=[1, 2]), 0), (noise, None)):
        score = hessx.infidelity(
            lambda x: (x * weight).flatten(1).sum(1), perturb, x, (weight * x), seed=seed
        )
        assert score.dtype == torch.float64
        assert score.isfinite().all()


def test_one_perturbation_has_no_standard_error() -> None:
    x = pictures()
    _, stderr = hessx.infidelity(
        net(), Gaussian(0.1), x, x, target=0, n_perturb_samples=1, return_stderr=True
    )
    assert stderr.isnan().all()


def test_an_explanation_of_nothing_is_scaled_to_nothing() -> None:
    x = pictures()
    scores = [
        hessx.infidelity(net(), Gaussian(0.3), x, 0 * x, target=0, seed=0, normalize=normalize)
        for normalize in (False, True)
    ]
    assert torch.equal(*scores)


def test_numpy_models() -> None:
    x = pictures()
    expected = hessx.infidelity(lambda x: x.flatten(1).sum(1), Gaussian(0.2), x, x, seed=0)
    score = hessx.infidelity(lambda x: x.numpy().sum((1, 2, 3)), Gaussian(0.2), x, x, seed=0)
    torch.testing.assert_close(score, expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_perturb_samples": 0}, ValueError, "n_perturb_samples must be >= 1"),
        ({"n_perturb_samples": 2.0}, TypeError, "n_perturb_samples must be an integer"),
        ({"n_perturb_samples": None}, ValueError, "Gaussian does not list its perturbations"),
        (
            {"n_perturb_samples": None, "perturb_func": noise},
            ValueError,
            "n_perturb_samples must be given where perturb_func is a function",
        ),
        ({"perturb_func": 3}, TypeError, "perturb_func must be callable, got int"),
        ({"perturb_func": lambda x: x}, TypeError, "perturb_func must return perturbations and"),
        (
            {"perturb_func": lambda x: (x[..., :2], x)},
            ValueError,
            r"perturbations of shape \(30, 1, 4, 4\), got \(30, 1, 4, 2\)",
        ),
        (
            {"perturb_func": lambda x: (x, x[:2])},
            ValueError,
            r"perturbed inputs of shape \(30, 1, 4, 4\), got \(2, 1, 4, 4\)",
        ),
        ({"perturb_func": lambda x: ((x, x), (x, x))}, ValueError, "for each of 1 inputs, got 2"),
        ({"perturb_func": lambda x: (x.numpy(), x)}, TypeError, "tensors, got ndarray as pert"),
        ({"perturb_func": lambda x: (x / 0, x)}, ValueError, "finite perturbations"),
        ({"attributions": pictures(2)}, ValueError, r"of shape \(3, 1, 4, 4\) or \(K, 3, 1, 4, 4"),
        ({"attributions": pictures()[:, 0]}, ValueError, r"got \(3, 4, 4\)"),
        ({"attributions": pictures() / 0}, ValueError, "attributions must be finite"),
        ({"attributions": [1.0]}, TypeError, "attributions must be a floating-point tensor"),
        ({"attributions": (pictures(), pictures())}, ValueError, "as many tensors as inputs, 1"),
        (
            {"target": hessx.Targets([0, 1])},
            ValueError,
            r"of shape \(2, 3, 1, 4, 4\) or \(2, K, 3, 1, 4, 4\)",
        ),
        ({"inputs": pictures() / 0}, ValueError, "inputs must be finite"),
        ({"inputs": (pictures(), pictures(2))}, ValueError, "examples of one batch"),
        ({"inputs": ()}, ValueError, "empty tuple"),
        (
            {"inputs": torch.ones(3), "attributions": torch.ones(3), "seed": 0},
            ValueError,
            r"inputs must be \(B, \*shape\), got \(3,\)",
        ),
        ({"baselines": "black"}, TypeError, "baselines must be"),
        ({"baselines": torch.zeros(2, 1, 4, 4)}, ValueError, "baselines must be of shape"),
        ({"perturb_func": noise, "baselines": (0, 0)}, ValueError, "one for each of 1 inputs"),
        ({"target": None}, ValueError, "target must be given"),
        ({"target": 9}, ValueError, "does not name an output"),
        ({"normalize": 1}, TypeError, "normalize must be True or False"),
        ({"return_stderr": "yes"}, TypeError, "return_stderr must be True or False"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"memory_limit": 10}, ValueError, "memory_limit must be at least"),
        ({"forward_func": None}, TypeError, "forward_func must be callable"),
        ({"forward_func": lambda x: x.flatten(1) / 0}, ValueError, "values must be finite"),
        (
            {
                "inputs": (pictures(), pictures()),
                "attributions": (pictures(), pictures()),
                "seed": 1,
                "forward_func": lambda a, b: a.flatten(1).sum(1),
                "target": None,
            },
            ValueError,
            "perturb_func must be a function for inputs of 2 tensors",
        ),
    ],
)
def test_errors(change: dict, error: type, message: str) -> None:
    arguments = {
        "forward_func": net(),
        "perturb_func": Gaussian(0.1),
        "inputs": pictures(),
        "attributions": pictures(),
        "target": 0,
        **change,
    }
    with pytest.raises(error, match=message):
        hessx.infidelity(**arguments)


def test_memory_of_many_perturbations() -> None:
    """20,000 perturbations of 784 numbers stay under 300 MB."""
    program = """
import resource, torch, hessx
net = torch.nn.Sequential(torch.nn.Linear(784, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
x = torch.rand(1, 784)
hessx.infidelity(net, hessx.perturb.Gaussian(0.1), x, x, target=0, n_perturb_samples=10, seed=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for perturb in (hessx.perturb.Gaussian(0.1), lambda x: (x, 0 * x)):
    hessx.infidelity(net, perturb, x, x, target=0, n_perturb_samples=20_000, seed=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(out.stdout) * unit < 300e6
