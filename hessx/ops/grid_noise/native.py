"""Noise on grids through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.grid_noise.rules import grid_normal_fake

# Numbers made at once for an output that the kernel cannot write to.
_NUMBERS_AT_ONCE = 2**18


def grid_normal(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, p1, p2) with noise; see `hessx.ops.grid_normal`."""
    grid_normal_fake(out, seed, first_sample, stream)
    kernels = backends.native()
    double = out.dtype == torch.float64
    real = torch.float64 if double else torch.float32
    draw = kernels.grid_normal_double if double else kernels.grid_normal_float
    level, n_threads = backends.cpu_level(), torch.get_num_threads()

    def fill(to: torch.Tensor, first: int) -> None:
        draw(to.data_ptr(), *to.shape, seed, first, stream, n_threads, level)

    if out.dtype == real and out.is_contiguous():
        fill(out, first_sample)
        return
    n, p1, p2 = out.shape
    samples = max(1, _NUMBERS_AT_ONCE // (p1 * p2))
    for start in range(0, n, samples):
        part = out[start : start + samples]
        drawn = torch.empty(part.shape, dtype=real, device=out.device)
        fill(drawn, first_sample + start)
        part.copy_(drawn)
