"""Noise in plain torch: Philox in int64 arithmetic, Box-Muller in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from hessx.ops.noise.rules import fill_fake

Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

_MASK = 2**32 - 1
# Counters handled at once: a few dozen megabytes of int64 temporaries whatever the size of out.
_COUNTERS_AT_ONCE = 2**18


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Philox 4x32-10: four 32-bit words of counter to four random words, as int64 tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The 64-bit products wrap around as two's complement: their two halves stay exact.
        p0 = c0 * 0xD2511F53
        p1 = c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + 0x9E3779B9) & _MASK
        k1 = (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def uniform(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, m) with uniform draws; see `hessx.ops.uniform`."""

    def draw(words: Words) -> torch.Tensor:
        x = torch.stack(words, dim=-1)
        if out.dtype == torch.float64:
            return x.double() * 2.0**-32
        # 1 - eps/2 is the largest number below 1; to nearest, a half type would round up to 1.
        below_one = 1 - torch.finfo(out.dtype).eps / 2
        return ((x >> 8).float() * 2.0**-24).to(out.dtype).clamp(max=below_one)

    _fill(out, seed, first_sample, stream, draw)


def normal(out: torch.Tensor, seed: int, first_sample: int, stream: int) -> None:
    """Fill out (n, m) with standard normal draws; see `hessx.ops.normal`."""

    def draw(words: Words) -> torch.Tensor:
        x0, x1, x2, x3 = words
        return torch.cat((_box_muller(x0, x1, out.dtype), _box_muller(x2, x3, out.dtype)), dim=-1)

    _fill(out, seed, first_sample, stream, draw)


def _box_muller(x0: torch.Tensor, x1: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.float64:
        u1 = x0.double() * 2.0**-32 + 2.0**-33
    else:
        u1 = (x0.float().double() * 2.0**-32 + 2.0**-33).float().double()
    r = torch.sqrt(-2.0 * torch.log(u1))
    theta = x1.double() * (2.0 * math.pi * 2.0**-32)
    pair = torch.stack((r * torch.cos(theta), r * torch.sin(theta)), dim=-1)
    return pair if dtype == torch.float64 else pair.float()


def _fill(
    out: torch.Tensor,
    seed: int,
    first_sample: int,
    stream: int,
    draw: Callable[[Words], torch.Tensor],
) -> None:
    fill_fake(out, seed, first_sample, stream)
    n, m = out.shape
    blocks = torch.arange((m + 3) // 4, device=out.device)
    rows = max(1, _COUNTERS_AT_ONCE // max(1, len(blocks)))
    for start in range(0, n, rows):
        stop = min(n, start + rows)
        samples = torch.arange(first_sample + start, first_sample + stop, device=out.device)
        c0, c2 = torch.broadcast_tensors(blocks, samples[:, None])
        words = philox4x32(
            (c0, torch.full_like(c0, stream), c2 & _MASK, c2 >> 32), (seed & _MASK, seed >> 32)
        )
        out[start:stop] = draw(words).reshape(stop - start, 4 * len(blocks))[:, :m]
