"""What every implementation of tv_flow shares: dtype, shapes, values."""

from __future__ import annotations

import torch

# Potentials and hashes share 64 bits, which leaves hashes of 21 bits at this size: the isolation
# lemma bounds the chance of a tie, with m edges, by 2 m / 2^21 <= 1/4, and by nothing far beyond.
MAX_PIXELS = 2**17


def check_tv_flow(estimate: torch.Tensor, radius: torch.Tensor) -> None:
    """Check dtypes and shapes of the arguments of tv_flow."""
    for name, x in (("estimate", estimate), ("radius", radius)):
        if x.dtype != torch.float64:
            raise TypeError(f"{name} must have dtype torch.float64, got {x.dtype}")
    if estimate.ndim != 3 or 0 in estimate.shape[1:]:
        raise ValueError(
            f"estimate must have shape (N, p1, p2) with p1, p2 >= 1, got {tuple(estimate.shape)}"
        )
    if estimate.shape[1] * estimate.shape[2] > MAX_PIXELS:
        raise ValueError(
            f"estimate must have at most {MAX_PIXELS} pixels, got {tuple(estimate.shape[1:])}"
        )
    if radius.ndim != 2 or radius.shape[0] != estimate.shape[0]:
        raise ValueError(
            f"radius must have shape (N, M) with N = {estimate.shape[0]}, got {tuple(radius.shape)}"
        )


def check_values(estimate: torch.Tensor, radius: torch.Tensor) -> None:
    """Check the numbers that tv_flow is given."""
    if not estimate.isfinite().all():
        raise ValueError("estimate must be finite, got NaN or infinity")
    if not (radius.isfinite() & (radius >= 0)).all():
        wrong = radius[~(radius.isfinite() & (radius >= 0))][0].item()
        raise ValueError(f"radius must be finite and >= 0, got {wrong}")


def tv_flow_fake(
    estimate: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give empty outputs of tv_flow."""
    check_tv_flow(estimate, radius)
    (n, m), (p1, p2) = radius.shape, estimate.shape[1:]
    return (
        estimate.new_empty(n, m, p1, p2),
        estimate.new_empty(n, m, p1 - 1, p2 - 1, dtype=torch.int32),
        estimate.new_empty(n, m, dtype=torch.int64),
    )
