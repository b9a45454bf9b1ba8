"""Box sums through the compiled kernels, CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hessx import backends
from hessx.ops.boxes import rules


def box_sums(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Sums over squares; see `hessx.ops.box_sums`."""
    out = rules.box_sums_fake(x, sides)
    return _run("box_sums", x, out, sides, *x.shape[1:])


def box_sums_adjoint(w: torch.Tensor, sides: Sequence[int], p1: int, p2: int) -> torch.Tensor:
    """Sums over the squares that cover each pixel; see `hessx.ops.box_sums_adjoint`."""
    out = rules.box_sums_adjoint_fake(w, sides, p1, p2)
    return _run("box_sums_adjoint", w, out, sides, p1, p2)


def _run(
    name: str, x: torch.Tensor, out: torch.Tensor, sides: Sequence[int], p1: int, p2: int
) -> torch.Tensor:
    kind = "double" if x.dtype == torch.float64 else "float"
    kernel = getattr(backends.native(), f"{name}_{kind}")
    x = x.contiguous()
    kernel(
        x.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        p1,
        p2,
        sides,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out
