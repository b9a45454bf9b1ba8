"""Smoothed explanations: right where they are known, the same in any batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hessx
from tests.references.closed_form import smooth_taylor

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).double()


def gradient(x: Tensor, target: int = 0) -> Tensor:
    x = x.requires_grad_()
    return torch.autograd.grad(NET(x)[:, target].sum(), x)[0]


def test_a_gaussian_kernel_of_the_gradient_is_smooth_grad():
    """The closed form of one hidden layer, and SmoothHess's gradient, within standard errors."""
    sigma, n = 0.5, 4000
    smooth, stderr = hessx.smooth_explanation(
        gradient, X, kernel="gaussian", radius=sigma, n_samples=n, return_stderr=True
    )
    covariance = sigma**2 * torch.eye(6, dtype=torch.float64)
    truth = torch.stack([smooth_taylor(NET, 0, x, covariance)[0] for x in X])
    # 18 numbers: a standard normal passes 4 once in 900 such tests.
    assert ((smooth - truth).abs() <= 4 * stderr).all()
    # Errors that are too large would pass as well.
    assert (smooth - truth).square().mean() > 0.3 * stderr.square().mean()
    smooth_grad = hessx.smooth_hess(NET, X, 0, sigma=sigma, n_samples=n, seed=1).gradient
    # SmoothGrad of SmoothHess is variance reduced: its own error is at most that of the mean.
    assert ((smooth - smooth_grad).abs() <= 4 * 2**0.5 * stderr).all()


def test_a_uniform_kernel():
    """The mean of x^2 over [x - r, x + r] is x^2 + r^2 / 3, that of |x| is quadratic inside."""
    r = 0.8
    square, stderr = hessx.smooth_explanation(
        torch.square, X, radius=r, n_samples=4000, return_stderr=True
    )
    assert ((square - X.square() - r**2 / 3).abs() <= 4 * stderr).all()
    x = torch.tensor([[0.0, 0.3]], dtype=torch.float64)
    size = hessx.smooth_explanation(torch.abs, x, radius=r, n_samples=40_000)
    truth = (x.square() + r**2) / (2 * r)
    torch.testing.assert_close(size, truth, rtol=0.02, atol=0)


def test_standard_errors_are_those_of_the_mean():
    smooth, stderr = hessx.smooth_explanation(
        lambda x: x, X, radius=0.3, n_samples=50, seed=5, return_stderr=True
    )
    u = 0.3 * (2 * hessx.ops.uniform(50, 6, seed=5, stream=211, dtype=torch.float64) - 1)
    torch.testing.assert_close(smooth, X + u.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(stderr, (u.std(0) / 50**0.5).expand(3, 6), rtol=1e-9, atol=0)


def test_no_cancellation_far_from_zero():
    """The spread is 1e-7 of the explanation: sums of plain squares would lose it."""
    _, stderr = hessx.smooth_explanation(
        lambda x: 1e7 + x, X, radius=1.0, n_samples=500, return_stderr=True
    )
    expected = (1 / 3) ** 0.5 / 500**0.5
    torch.testing.assert_close(stderr, torch.full_like(stderr, expected), rtol=0.1, atol=0)


@pytest.mark.parametrize("kernel", ["uniform", "gaussian"])
@pytest.mark.parametrize("batch", [1, 5, 37, 64, 1000])
def test_batches_change_nothing(kernel: Any, batch: int):
    """To the bit: sums go one by one. An explanation that torch rounds alike in every batch."""
    arguments: dict[str, Any] = dict(kernel=kernel, radius=0.4, n_samples=37, seed=2)
    whole = hessx.smooth_explanation(torch.sin, X, return_stderr=True, **arguments)
    parts = hessx.smooth_explanation(
        torch.sin, X, return_stderr=True, max_examples_per_batch=batch, **arguments
    )
    alone = hessx.smooth_explanation(torch.sin, X[1:2], max_examples_per_batch=batch, **arguments)
    # In float64 sin is rounded alike in and out of vector registers, but not promised to be.
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(alone, whole[0][1:2], rtol=1e-14, atol=1e-15)


def test_it_returns_what_the_explanation_returns():
    one = hessx.smooth_explanation(torch.square, X, radius=0.1, n_samples=5)
    assert isinstance(one, Tensor)

    def explain(x: Any) -> Any:
        return (x[0].float(), x[1].sum(1)) if isinstance(x, tuple) else (x.float(),)

    (single,) = hessx.smooth_explanation(explain, X, radius=0.1, n_samples=5)
    assert single.dtype == torch.float32
    two, errors = hessx.smooth_explanation(
        explain, (X, X[:, :2]), radius=0.1, n_samples=5, return_stderr=True
    )
    assert [t.shape for t in two] == [t.shape for t in errors] == [(3, 6), (3,)]
    ranks = hessx.smooth_explanation(lambda x: x.argsort(1), X, radius=0.1, n_samples=5)
    assert ranks.dtype == torch.float32


def test_arguments_of_each_input():
    targets = [0, 2, 1]

    def explain(x: Tensor, target: list[int]) -> Tensor:
        x = x.requires_grad_()
        value = NET(x).gather(1, torch.tensor(target)[:, None]).sum()
        return torch.autograd.grad(value, x)[0]

    together = hessx.smooth_explanation(
        explain, X, radius=0.4, n_samples=20, max_examples_per_batch=7, target=targets
    )
    for row, target in enumerate(targets):
        alone = hessx.smooth_explanation(
            gradient, X[row : row + 1], radius=0.4, n_samples=20, target=target
        )
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_types(dtype: torch.dtype):
    seen = set()

    def explain(x: Tensor) -> Tensor:
        seen.add(x.dtype)
        return x.square()

    found = hessx.smooth_explanation(explain, X.to(dtype), radius=0.5, n_samples=300)
    assert seen == {dtype}
    assert found.dtype == dtype
    truth = hessx.smooth_explanation(torch.square, X, radius=0.5, n_samples=300)
    rtol = 0.02 if dtype.itemsize == 2 else 1e-5
    torch.testing.assert_close(found.double(), truth, rtol=rtol, atol=rtol)


def test_memory_limit_and_progress(capsys: pytest.CaptureFixture[str]):
    sizes = []

    def explain(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.square()

    free = hessx.smooth_explanation(explain, X, radius=0.5, n_samples=100)
    assert max(sizes) > 100
    sizes.clear()
    bounded = hessx.smooth_explanation(
        explain, X, radius=0.5, n_samples=100, memory_limit=20_000, show_progress=True
    )
    assert max(sizes) < 50
    assert torch.equal(free, bounded)
    assert "300/300" in capsys.readouterr().err


def no_call(*_: Any) -> Any:
    raise AssertionError("called before the arguments were checked")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(explanation_func="gradient"), TypeError, "explanation_func must be callable"),
        (dict(inputs=X.tolist()), TypeError, "inputs must be a tensor, got list"),
        (dict(inputs=X.long()), TypeError, "inputs must be floating point"),
        (dict(inputs=X * math.nan), ValueError, "inputs must be finite"),
        (dict(kernel="ball"), ValueError, "kernel must be one of 'uniform', 'gaussian'"),
        (dict(radius=0), ValueError, "radius must be > 0"),
        (dict(radius=-1.0), ValueError, "radius must be > 0"),
        (dict(n_samples=0), ValueError, "n_samples must be >= 1"),
        (dict(n_samples=1, return_stderr=True), ValueError, "n_samples must be >= 2"),
        (dict(return_stderr=1), TypeError, "return_stderr must be True or False"),
        (dict(seed=None), TypeError, "seed must be an integer"),
        (dict(max_examples_per_batch=0), ValueError, "max_examples_per_batch"),
    ],
)
def test_arguments_are_checked_first(change: dict[str, Any], error: type, message: str):
    arguments = dict(explanation_func=no_call, inputs=X, radius=0.1) | change
    with pytest.raises(error, match=message):
        hessx.smooth_explanation(**arguments)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: None, TypeError, "got NoneType"),
        (lambda x: x / 0, ValueError, "explanation_func returned"),
        (lambda x: x.sum(0), ValueError, "one explanation for each of"),
    ],
)
def test_what_comes_back_is_checked(answer: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        hessx.smooth_explanation(answer, X, radius=0.1, n_samples=3)
