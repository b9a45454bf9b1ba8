"""Noise through the compiled kernels, CPU tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessx import backends
from hessx.ops.noise.rules import fill_fake

# float32 numbers drawn at once for a half-precision output.
_NUMBERS_AT_ONCE = 2**18


def uniform(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, m) with uniform draws; see `hessx.ops.uniform`."""
    kernels = backends.native()
    _fill(out, seed, first_sample, stream, kernels.uniform_float, kernels.uniform_double)
    if out.dtype in (torch.bfloat16, torch.float16):
        # To nearest, a half type rounds up to 1, which is outside [0, 1).
        out.clamp_(max=1 - torch.finfo(out.dtype).eps / 2)


def normal(
    out: torch.Tensor, seed: int, first_sample: int, stream: int, first_block: int = 0
) -> None:
    """Fill out (n, m) with standard normal draws; see `hessx.ops.normal`.

    Column 0 is feature ``4 first_block``.
    """
    kernels = backends.native()
    _fill(out, seed, first_sample, stream, kernels.normal_float, kernels.normal_double, first_block)


def _fill(
    out: torch.Tensor,
    seed: int,
    first_sample: int,
    stream: int,
    fill_float: Callable[..., None],
    fill_double: Callable[..., None],
    first_block: int = 0,
) -> None:
    fill_fake(out, seed, first_sample, stream)
    level, n_threads = backends.cpu_level(), torch.get_num_threads()

    def run(fill: Callable[..., None], to: torch.Tensor, first: int) -> None:
        fill(
            to.data_ptr(), to.shape, to.stride(), seed, first, stream, first_block, n_threads, level
        )

    if out.dtype == torch.float32:
        run(fill_float, out, first_sample)
    elif out.dtype == torch.float64:
        run(fill_double, out, first_sample)
    else:
        rows = max(1, _NUMBERS_AT_ONCE // max(1, out.shape[1]))
        for start in range(0, out.shape[0], rows):
            part = out[start : start + rows]
            drawn = torch.empty(part.shape, dtype=torch.float32, device=out.device)
            run(fill_float, drawn, first_sample + start)
            part.copy_(drawn)
