"""Streams, graphs and several devices."""

from __future__ import annotations

import pytest
import torch

import hessx
from tests.gpu.device.calls import CALLS, on

pytestmark = pytest.mark.gpu

# Tens of milliseconds.
CYCLES = 100_000_000
DRAWS = ("uniform", "normal")


@pytest.mark.parametrize("name", [name for name in CALLS if name not in DRAWS])
def test_kernels_run_on_the_current_stream(gpu, name):
    """On a side stream the op waits for what is before it there, and nothing else does."""
    call = CALLS[name]
    arguments = on(gpu, call.arguments(torch.float32))
    truth = call.run(*arguments)
    late = tuple(torch.zeros_like(x) for x in arguments)
    torch.cuda.synchronize(gpu)
    side = torch.cuda.Stream(gpu)
    with torch.cuda.stream(side):
        # On any other stream the op would read zeros: the values come after the sleep.
        torch.cuda._sleep(CYCLES)
        for x, value in zip(late, arguments, strict=True):
            x.copy_(value)
        results = call.run(*late)
    side.synchronize()
    assert all(torch.equal(x, y) for x, y in zip(results, truth, strict=True))


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_made_on_the_current_stream(gpu, name):
    """They read nothing, but on a side stream they come after what was written there before."""
    draw = getattr(hessx.ops, name)
    truth = draw(300, 33, seed=7, device=gpu)
    torch.cuda.synchronize(gpu)
    side = torch.cuda.Stream(gpu)
    with torch.cuda.stream(side):
        torch.cuda._sleep(CYCLES)
        written_before = torch.full_like(truth, torch.nan)
        memory = written_before.data_ptr()
        del written_before
        drawn = draw(300, 33, seed=7, device=gpu)
    side.synchronize()
    assert drawn.data_ptr() == memory, "torch gives the freed memory to the next on its stream"
    # Drawn on any other stream, the NaNs of after the sleep would lie over the draws.
    assert torch.equal(drawn, truth)


@pytest.mark.parametrize("name", CALLS)
def test_captured_in_a_graph(gpu, name):
    call = CALLS[name]
    arguments = on(gpu, call.arguments(torch.float32))
    truth = call.run(*arguments)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call.run(*arguments)
    for result in results:
        result.zero_()
    graph.replay()
    torch.cuda.synchronize(gpu)
    assert all(torch.equal(x, y) for x, y in zip(results, truth, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_the_second_device(gpu, name):
    """The kernel runs where its tensors are, and the current device stays what it was."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    call = CALLS[name]
    first, second = (
        call.run(*on(torch.device("cuda", i), call.arguments(torch.float32))) for i in (0, 1)
    )
    assert torch.cuda.current_device() == 0
    assert all(y.get_device() == 1 for y in second)
    assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(first, second, strict=True))
