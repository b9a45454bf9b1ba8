"""From attributions to pictures: the normalisation that the papers' saliency maps share."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx.run import check_inputs

# torch.quantile computes ranks in a way that is exact up to this length and refuses more.
_MOST_PIXELS = 2**24


def saliency_map(attributions: Tensor, *, percentile: float = 99.0) -> Tensor:
    """Return maps in [0, 1] for display: sizes, summed over channels, capped at a percentile.

    ``s = sum_channels |attribution|``, ``map = min(s / q, 1)`` with ``q`` the percentile of ``s``
    over the pixels of one image, interpolated linearly as ``np.percentile`` does. Each image is
    scaled by itself. This is the non-diverging normalisation as the appendix words it: it divides
    and clips, so that 0 stays 0. SmoothGrad's published code subtracts the smallest ``s`` first,
    which is the same for maps that have a zero, as sparse ones do.

    Where the percentile itself is 0 (fewer pixels than it leaves out are not zero), ``q`` is the
    largest ``s`` instead, so that the few keep their order. An all-zero map stays zero, and a
    constant one is 1 everywhere.

    Args:
        attributions: ``(B, *shape)``, finite, of any sign. A ``shape`` of three or more dimensions
            has its channels first, ``(C, H, W)``; one of one or two dimensions, ``(d,)`` or
            ``(H, W)``, has none.
        percentile: In (0, 100]; 100 caps nothing.

    Returns:
        ``(B, H, W)`` (``shape`` without its channels), in the dtype of ``attributions``; computed
        in float64.

    Raises:
        TypeError: If attributions are not a floating-point tensor.
        ValueError: If attributions are empty, without a batch dimension, not finite, or have more
            than 2^24 pixels an image, or percentile is out of range.

    Source:
        Singla et al., Understanding Impacts of High-Order Loss Approximations and Features in Deep
        Learning Interpretation (ICML 2019), appendix D.

    Example:
        >>> import torch, hessx
        >>> rgb = torch.tensor([[[[1.0, -2.0]], [[-1.0, 0.0]], [[0.0, 6.0]]]])
        >>> hessx.saliency_map(rgb, percentile=100)
        tensor([[[0.2500, 1.0000]]])
    """
    check_inputs(attributions, "attributions")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be in (0, 100], got {percentile}")
    has_channels = attributions.dim() > 3
    n_pixels = attributions.shape[2 if has_channels else 1 :].numel()
    if n_pixels > _MOST_PIXELS:
        raise ValueError(
            f"attributions must have at most {_MOST_PIXELS} pixels an image, got {n_pixels}"
        )
    sizes = attributions.detach().double().abs()
    if has_channels:
        sizes = sizes.sum(1)
    pixels = sizes.flatten(1)
    largest = pixels.amax(1)
    cap = torch.quantile(pixels, percentile / 100, dim=1)
    cap = torch.where(cap > 0, cap, largest)
    # Only an all-zero map still has a cap of 0.
    cap = torch.where(cap > 0, cap, 1)
    shares = (pixels / cap[:, None]).clamp(max=1)
    return shares.reshape(sizes.shape).to(attributions.dtype)
