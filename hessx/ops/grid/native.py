"""Grid operators through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.grid import rules


def grid_difference(grid: torch.Tensor) -> torch.Tensor:
    """Differences along the edges; see `hessx.ops.grid_difference`."""
    out = rules.grid_difference_fake(grid)
    return _run("grid_difference", grid, out, *grid.shape[1:])


def grid_difference_adjoint(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What flows into each pixel; see `hessx.ops.grid_difference_adjoint`."""
    out = rules.grid_difference_adjoint_fake(edges, p1, p2)
    return _run("grid_difference_adjoint", edges, out, p1, p2)


def grid_laplacian(grid: torch.Tensor) -> torch.Tensor:
    """D^T D g; see `hessx.ops.grid_laplacian`."""
    out = rules.grid_laplacian_fake(grid)
    return _run("grid_laplacian", grid, out, *grid.shape[1:])


def grid_curl(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What goes round each face; see `hessx.ops.grid_curl`."""
    out = rules.grid_curl_fake(edges, p1, p2)
    return _run("grid_curl", edges, out, p1, p2)


def grid_curl_adjoint(potential: torch.Tensor) -> torch.Tensor:
    """Differences of the faces beside each edge; see `hessx.ops.grid_curl_adjoint`."""
    out = rules.grid_curl_adjoint_fake(potential)
    _, rows, columns = potential.shape
    return _run("grid_curl_adjoint", potential, out, rows + 1, columns + 1)


def _run(name: str, x: torch.Tensor, out: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    kind = "double" if x.dtype == torch.float64 else "float"
    kernel = getattr(backends.native(), f"{name}_{kind}")
    x = x.contiguous()
    kernel(
        x.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        p1,
        p2,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out
