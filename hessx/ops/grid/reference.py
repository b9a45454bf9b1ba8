"""Differences, curl and their adjoints in plain torch, in float64: the ground truth."""

from __future__ import annotations

import torch

from hessx.ops.grid import rules


def grid_difference(grid: torch.Tensor) -> torch.Tensor:
    """Differences along the edges; see `hessx.ops.grid_difference`."""
    out = rules.grid_difference_fake(grid)
    g = grid.double()
    return out.copy_(torch.cat((g.diff(dim=2).flatten(1), g.diff(dim=1).flatten(1)), dim=1))


def grid_difference_adjoint(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What flows into each pixel; see `hessx.ops.grid_difference_adjoint`."""
    out = rules.grid_difference_adjoint_fake(edges, p1, p2)
    h, v = _split(edges.double(), p1, p2)
    h, v = torch.nn.functional.pad(h, (1, 1)), torch.nn.functional.pad(v, (0, 0, 1, 1))
    return out.copy_(-h.diff(dim=2) - v.diff(dim=1))


def grid_laplacian(grid: torch.Tensor) -> torch.Tensor:
    """D^T D g; see `hessx.ops.grid_laplacian`."""
    out = rules.grid_laplacian_fake(grid)
    differences = grid_difference(grid.double())
    return out.copy_(grid_difference_adjoint(differences, *grid.shape[1:]))


def grid_curl(edges: torch.Tensor, p1: int, p2: int) -> torch.Tensor:
    """What goes round each face; see `hessx.ops.grid_curl`."""
    out = rules.grid_curl_fake(edges, p1, p2)
    h, v = _split(edges.double(), p1, p2)
    return out.copy_(v.diff(dim=2) - h.diff(dim=1))


def grid_curl_adjoint(potential: torch.Tensor) -> torch.Tensor:
    """Differences of the faces beside each edge; see `hessx.ops.grid_curl_adjoint`."""
    out = rules.grid_curl_adjoint_fake(potential)
    psi = torch.nn.functional.pad(potential.double(), (1, 1, 1, 1))
    h, v = psi[:, :, 1:-1].diff(dim=1), -psi[:, 1:-1].diff(dim=2)
    return out.copy_(torch.cat((h.flatten(1), v.flatten(1)), dim=1))


def _split(edges: torch.Tensor, p1: int, p2: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The horizontal and the vertical edges, as grids."""
    n, horizontal = edges.shape[0], p1 * (p2 - 1)
    h, v = edges[:, :horizontal], edges[:, horizontal:]
    return h.reshape(n, p1, p2 - 1), v.reshape(n, p1 - 1, p2)
