"""Pictures of explanations as plain arrays: colours, overlays, outlines.

Everything takes and returns NumPy arrays, so the result can be shown or saved with whatever is at
hand (matplotlib's ``imshow``, ``PIL.Image.fromarray``); no plotting library is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Evenly spaced from -1 to 1. Blue against red stays apart for the common colour blindnesses, and
# the lightness falls equally on both sides, so that neither sign looks stronger.
DIVERGING: tuple[tuple[int, int, int], ...] = (
    (20, 80, 160),
    (112, 170, 218),
    (247, 247, 247),
    (240, 150, 112),
    (178, 32, 42),
)
# Evenly spaced from 0 to 1, lightness rising throughout.
SEQUENTIAL: tuple[tuple[int, int, int], ...] = (
    (14, 12, 38),
    (92, 28, 110),
    (190, 54, 84),
    (246, 130, 52),
    (252, 240, 180),
)


def symmetric_limit(values: ArrayLike, quantile: float = 1.0) -> float:
    """Return the largest ``|value|``, or that quantile of them: a colour scale's end.

    Args:
        values: Numbers of any shape, at least one.
        quantile: In (0, 1]; below 1, so many of the values keep within the scale.

    Returns:
        The limit, 1.0 where all values are 0.

    Raises:
        ValueError: If there are no values, one is not finite, or quantile is outside (0, 1].
    """
    array = _finite("values", values)
    if array.size == 0:
        raise ValueError("values must not be empty")
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be in (0, 1], got {quantile}")
    return float(np.quantile(np.abs(array), quantile)) or 1.0


def diverging_colors(values: ArrayLike, limit: float | None = None) -> NDArray[np.uint8]:
    """Colour signed numbers: blue below 0, near white at 0, red above 0.

    Args:
        values: Numbers of any shape.
        limit: The ``|value|`` that has the full colour, > 0; larger ones share it. By default the
            largest of ``values``.

    Returns:
        ``(*values.shape, 3)`` RGB.

    Raises:
        ValueError: If a value is not finite or limit is not > 0.

    Example:
        >>> diverging_colors([-2.0, 0.0, 2.0]).tolist()
        [[20, 80, 160], [247, 247, 247], [178, 32, 42]]
    """
    array = _finite("values", values)
    if limit is None:
        limit = symmetric_limit(array) if array.size else 1.0
    elif not limit > 0:
        raise ValueError(f"limit must be > 0, got {limit}")
    return _interpolate(DIVERGING, (array / limit + 1) / 2)


def saliency_overlay(
    image: ArrayLike, saliency: ArrayLike, *, opacity: float = 0.85, quantile: float = 0.99
) -> NDArray[np.uint8]:
    """Lay a map of sizes over the picture in grey: dark where small, bright where large.

    Args:
        image: ``(H, W, 3)`` RGB, 0 to 255.
        saliency: ``(H, W)``, >= 0, for example the norm of the gradient over the channels.
        opacity: Share of the map in the mixture, 0 to 1.
        quantile: In (0, 1]: pixels above this quantile of the map share the brightest colour.

    Returns:
        ``(H, W, 3)`` RGB.

    Raises:
        ValueError: If the shapes do not fit, saliency is negative somewhere, or a number is
            outside its range.
    """
    picture = _rgb(image)
    array = _finite("saliency", saliency)
    if array.shape != picture.shape[:2]:
        raise ValueError(f"saliency must be {picture.shape[:2]}, got {array.shape}")
    if array.min() < 0:
        raise ValueError(f"saliency must be >= 0, got {array.min()}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], got {opacity}")
    colors = _interpolate(SEQUENTIAL, array / symmetric_limit(array, quantile))
    grey = picture @ np.array([0.299, 0.587, 0.114])
    mixed = opacity * colors + (1 - opacity) * grey[..., None]
    return np.rint(mixed).astype(np.uint8)


def segment_boundaries(labels: ArrayLike) -> NDArray[np.bool_]:
    """Mark the pixels whose right or lower neighbour belongs to another segment.

    Args:
        labels: ``(H, W)`` segment numbers.

    Returns:
        ``(H, W)``, True on boundaries.

    Raises:
        ValueError: If labels are not ``(H, W)``.

    Example:
        >>> segment_boundaries([[0, 0, 1], [0, 0, 1]]).astype(int).tolist()
        [[0, 1, 0], [0, 1, 0]]
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        raise ValueError(f"labels must be (H, W), got shape {array.shape}")
    edges = np.zeros(array.shape, dtype=bool)
    edges[:, :-1] |= array[:, :-1] != array[:, 1:]
    edges[:-1] |= array[:-1] != array[1:]
    return edges


def draw_boundaries(
    image: ArrayLike, labels: ArrayLike, color: Sequence[int] = (255, 255, 255)
) -> NDArray[np.uint8]:
    """Return the picture with the outlines of its segments.

    Args:
        image: ``(H, W, 3)`` RGB, 0 to 255.
        labels: ``(H, W)`` segment numbers.
        color: RGB of the outlines.

    Returns:
        ``(H, W, 3)`` RGB, a copy.

    Raises:
        ValueError: If the shapes do not fit.
    """
    picture = np.rint(_rgb(image)).astype(np.uint8)
    edges = segment_boundaries(labels)
    if edges.shape != picture.shape[:2]:
        raise ValueError(f"labels must be {picture.shape[:2]}, got {edges.shape}")
    picture[edges] = color
    return picture


def _interpolate(anchors: Sequence[Sequence[int]], position: NDArray) -> NDArray[np.uint8]:
    points = np.linspace(0, 1, len(anchors))
    channels = [np.interp(position, points, channel) for channel in zip(*anchors, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _rgb(image: ArrayLike) -> NDArray[np.float64]:
    picture = _finite("image", image)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"image must be (H, W, 3), got shape {picture.shape}")
    return picture
