"""Superpixels of a photograph, and their shapes for drawing."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from hessx.demo.extra import require

# SLIC's weight of position against colour: at 20 the segments follow the outlines of things and
# stay compact enough to point at.
_COMPACTNESS = 20.0
# Blurring by so many pixels first keeps fur and grass from fraying the outlines.
_BLUR = 1.0


def superpixels(pixels: np.ndarray, n_segments: int) -> np.ndarray:
    """Divide a picture into about ``n_segments`` connected regions of similar colour (SLIC).

    Args:
        pixels: ``(H, W, 3)`` uint8.
        n_segments: How many, >= 2; the result usually has some 10 % fewer.

    Returns:
        ``(H, W)`` labels 0 .. k-1, each used.

    Raises:
        ValueError: If n_segments is less than 2, or the picture is so plain that it all becomes
            one segment.
        MissingExtraError: If scikit-image is not installed.
    """
    if n_segments < 2:
        raise ValueError(f"n_segments must be >= 2, got {n_segments}")
    slic = require("skimage.segmentation").slic
    labels = slic(
        pixels, n_segments=n_segments, compactness=_COMPACTNESS, sigma=_BLUR, start_label=0
    )
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(pixels.shape[:2])
    if labels.max() == 0:
        raise ValueError("the picture became a single segment: ask for more segments")
    return labels


def outlines(labels: np.ndarray) -> list[str]:
    """Return each segment's outline as an SVG path in pixel coordinates.

    Raises:
        MissingExtraError: If scikit-image is not installed.
    """
    find_contours = require("skimage.measure").find_contours
    paths = []
    for segment in range(int(labels.max()) + 1):
        contours = find_contours(np.pad(labels == segment, 1).astype(np.float32), 0.5)
        paths.append("".join(_path(contour) for contour in contours))
    return paths


def centres(labels: np.ndarray) -> np.ndarray:
    """Return for each segment its innermost point ``(x, y)``: inside it, unlike its mean."""
    points = []
    for segment in range(int(labels.max()) + 1):
        depth = ndimage.distance_transform_edt(np.pad(labels == segment, 1))
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        # Pixel (r, c) covers [c, c + 1]; the padding shifted it by one.
        points.append((column - 0.5, row - 0.5))
    return np.array(points)


def _path(contour: np.ndarray) -> str:
    # The padding shifted pixel centres by one, and centres lie half a pixel inside.
    points = contour[:-1, ::-1] - 0.5
    turns = np.roll(points, -1, 0) - points
    keep = np.abs(turns - np.roll(turns, 1, 0)).max(1) > 1e-6
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points[keep]) + "Z"
