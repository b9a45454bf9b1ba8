"""Every op on a GPU: values against the reference, layouts, repeated calls, compiled graphs."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.device.calls import CALLS, CASES, on

pytestmark = pytest.mark.gpu


def expected(call, arguments):
    with hessx.backend("reference"):
        return call.run(*arguments)


def assert_close(call, dtype, result, truth):
    """Each entry is as exact as the largest one can be."""
    largest = max(1, truth.abs().max().item())
    torch.testing.assert_close(
        result.double(), truth.double(), rtol=0, atol=call.tolerance(dtype) * largest
    )


def assert_results(call, dtype, results, truth, device):
    assert len(results) == len(truth)
    for result, true in zip(results, truth, strict=True):
        assert result.device.type == device.type
        assert_close(call, dtype, result.cpu(), true)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_values(device, name, dtype):
    call = CALLS[name]
    arguments = call.arguments(dtype)
    results = call.run(*on(device, arguments))
    assert_results(call, dtype, results, expected(call, arguments), device)


@pytest.mark.parametrize("name", CALLS)
def test_strided_arguments(device, name):
    """Every other entry of every axis, the last two transposed."""
    call = CALLS[name]
    arguments = []
    for x in call.arguments(torch.float32):
        transposed = x.mT if x.ndim > 1 else x
        spread = torch.zeros([2 * size for size in transposed.shape])
        strided = spread[tuple(slice(None, None, 2) for _ in x.shape)].copy_(transposed)
        arguments.append(strided.mT if x.ndim > 1 else strided)
    results = call.run(*on(device, tuple(arguments)))
    truth = expected(call, tuple(arguments))
    assert_results(call, torch.float32, results, truth, device)


@pytest.mark.parametrize("name", CALLS)
def test_repeated_calls_are_equal_to_the_bit(device, name):
    call = CALLS[name]
    arguments = on(device, call.arguments(torch.float32))
    first = call.run(*arguments)
    for _ in range(5):
        again = call.run(*arguments)
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_compiled_full_graph(device, name):
    call = CALLS[name]
    arguments = on(device, call.arguments(torch.float32))
    compiled = torch.compile(call.run, fullgraph=True, backend="aot_eager")
    for result, eager in zip(compiled(*arguments), call.run(*arguments), strict=True):
        assert_close(call, torch.float32, result, eager)


def test_empty_batches(device):
    x = torch.ones(0, 3, 3, device=device)
    assert hessx.ops.eigh(x)[1].shape == (0, 3, 3)
    assert hessx.ops.trust_region(x[:, 0], x[:, 0], 1.0)[0].shape == (0, 3)
    assert hessx.ops.core_moments(x, x)[0].shape == (0, 3, 3)
    assert (hessx.ops.cross_moments(x.mT.reshape(3, 0, 3), x.reshape(3, 0, 3))[2] == 0).all()
    assert hessx.ops.normal(0, 3, seed=0, device=device).shape == (0, 3)


def test_gradient(device):
    u = torch.ones(1, 4, 2, device=device, requires_grad=True)
    hessx.ops.core_moments(u, u.detach())[0].sum().backward()
    assert torch.equal(u.grad, torch.full_like(u, 2))


def test_warmup_then_an_explanation(device):
    """Draws, moments and solves on the GPU explain as they do on the CPU."""
    hessx.warmup([(2, 64, 8)], device=device)
    x = torch.linspace(-1, 1, 16).reshape(2, 8)

    def explain(inputs):
        return hessx.smooth_hess(
            lambda z: z.sin().prod(1) + z.square().sum(1), inputs, sigma=0.1, n_samples=64
        ).to_dense()

    hessian = explain(x.to(device))
    assert hessian.device.type == device.type
    # Solves of the estimator amplify the rounding of the gradients.
    torch.testing.assert_close(hessian.cpu(), explain(x), rtol=1e-3, atol=1e-3)
