"""What every implementation of the edges ops shares: dtypes, shapes, the gradient of the prox."""

from __future__ import annotations

from typing import Any

import torch

from hessx.ops.grid.rules import check_size, edge_count

DTYPES = (torch.float32, torch.float64)


def check_edge_prox(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> None:
    """Check the arguments of edge_prox."""
    _check_alike({"z": z, "centre": centre, "radius": radius, "threshold": threshold})
    if z.ndim != 2:
        raise ValueError(f"z must have shape (N, m), got {tuple(z.shape)}")
    _check_shapes(z, {"centre": centre})
    _check_numbers(z.shape[0], {"radius": radius, "threshold": threshold})


def edge_prox_fake(
    z: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Give an empty output of edge_prox."""
    check_edge_prox(z, centre, radius, threshold)
    return z.new_empty(z.shape)


def save_edge_prox(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Keep what tells where an entry was clipped or shrunk to zero."""
    ctx.save_for_backward(*inputs[:3], output)


def edge_prox_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Gradient of edge_prox: an entry moves with its bound, or with z where it lies between."""
    z, centre, radius, output = ctx.saved_tensors
    at_low = output == centre - radius[:, None]
    at_high = output == centre + radius[:, None]
    clipped = at_low | at_high
    moving = ~clipped & (output != 0)
    to_bound = torch.where(clipped, grad, 0)
    to_z = torch.where(moving, grad, 0)
    # An empty box, or one of a single number, is moved by its centre alone.
    outwards = at_high.to(grad.dtype) - at_low.to(grad.dtype)
    to_radius = (to_bound * outwards).sum(1, dtype=torch.float64).to(grad.dtype)
    to_threshold = -(to_z * z.sign()).sum(1, dtype=torch.float64).to(grad.dtype)
    return to_z, to_bound, to_radius, to_threshold


def check_edge_divergence(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    p1: int,
    p2: int,
) -> None:
    """Check the arguments of edge_divergence."""
    check_edge_prox(z, centre, radius, threshold)
    check_size(p1, p2)
    _check_edges(z, p1, p2)


def edge_divergence_fake(
    z: torch.Tensor,
    centre: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Check the arguments and the tensor that is filled in place."""
    _check_alike({"z": z, "out": out})
    _check_pictures("out", out, z.shape[0])
    check_edge_divergence(z, centre, radius, threshold, *out.shape[1:])
    _check_contiguous("out", out)


def check_edge_update(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
    **outputs: torch.Tensor,
) -> None:
    """Check the arguments of edge_update, and the tensor that is filled in place."""
    vectors = {"anchor": anchor, "centre": centre}
    numbers = {"radius": radius, "threshold": threshold, "weight": weight}
    _check_alike({"z": z} | vectors | {"potential": potential} | numbers | outputs)
    if z.ndim != 2:
        raise ValueError(f"z must have shape (N, m), got {tuple(z.shape)}")
    _check_shapes(z, vectors | outputs)
    _check_numbers(z.shape[0], numbers)
    _check_pictures("potential", potential, z.shape[0])
    _check_edges(z, *potential.shape[1:])
    for name, x in outputs.items():
        _check_contiguous(name, x)


def edge_update_fake(
    z: torch.Tensor,
    anchor: torch.Tensor,
    centre: torch.Tensor,
    potential: torch.Tensor,
    radius: torch.Tensor,
    threshold: torch.Tensor,
    weight: torch.Tensor,
    next: torch.Tensor,
    residual: torch.Tensor,
) -> None:
    """Check the arguments and the tensors that are filled in place."""
    check_edge_update(z, anchor, centre, potential, radius, threshold, weight, next=next)
    if (
        residual.shape != z.shape[:1]
        or residual.dtype != torch.float64
        or not residual.is_contiguous()
    ):
        raise ValueError(
            f"residual must be contiguous, float64, of shape {tuple(z.shape[:1])}, "
            f"got {residual.dtype} of shape {tuple(residual.shape)}, strides {residual.stride()}"
        )
    if residual.device != z.device:
        raise ValueError(f"residual must be on the device of z, {z.device}, got {residual.device}")


def _check_alike(tensors: dict[str, torch.Tensor]) -> None:
    first = tensors["z"]
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES:
            raise TypeError(f"{name} must have a dtype of {DTYPES}, got {x.dtype}")
        if x.dtype != first.dtype:
            raise TypeError(f"{name} must have the dtype of z, {first.dtype}, got {x.dtype}")
        if x.device != first.device:
            raise ValueError(f"{name} must be on the device of z, {first.device}, got {x.device}")


def _check_shapes(z: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
    for name, x in tensors.items():
        if x.shape != z.shape:
            raise ValueError(
                f"{name} must have the shape of z, {tuple(z.shape)}, got {tuple(x.shape)}"
            )


def _check_numbers(rows: int, numbers: dict[str, torch.Tensor]) -> None:
    for name, x in numbers.items():
        if x.shape != (rows,):
            raise ValueError(f"{name} must hold one number a row, {rows}, got {tuple(x.shape)}")


def _check_edges(z: torch.Tensor, p1: int, p2: int) -> None:
    m = edge_count(p1, p2)
    if z.shape[1] != m:
        raise ValueError(
            f"z must have the {m} edges of a grid of {p1} x {p2} pixels, got {z.shape[1]}"
        )


def _check_pictures(name: str, x: torch.Tensor, rows: int) -> None:
    if x.ndim != 3 or x.shape[0] != rows or 0 in x.shape[1:]:
        raise ValueError(
            f"{name} must have shape (N, p1, p2) with N = {rows} and p1, p2 >= 1, "
            f"got {tuple(x.shape)}"
        )


def _check_contiguous(name: str, x: torch.Tensor) -> None:
    if not x.is_contiguous():
        raise ValueError(f"{name} must be contiguous, got strides {x.stride()}")
