"""Reading a picture and cropping it as the classifier saw its training pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hessx.demo.extra import package_folder, require

_SHORT_SIDE = 256
_CROP = 224
_SHOWN = 448
_SMALLEST = 32


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture, cropped.

    Attributes:
        name: The file's name.
        size: Width and height of the file's picture.
        pixels: ``(H, W, 3)`` uint8, what the network sees.
        shown: ``(H', W', 3)`` uint8, the same field of view with more detail, for the page.
    """

    name: str
    size: tuple[int, int]
    pixels: np.ndarray
    shown: np.ndarray


def load_photograph(path: str | Path, *, crop: int = _CROP) -> Photograph:
    """Read a picture: short side to 256/224 of ``crop``, then the square in the middle.

    Args:
        path: A file that Pillow can read; transparency is ignored, the camera's orientation used.
        crop: Side of the square in pixels, >= 1.

    Returns:
        The photograph.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, or its short side is under 32 pixels.
        MissingExtraError: If Pillow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such picture: {path}")
    image = _read(path)
    width, height = image.size
    short = min(width, height)
    if short < _SMALLEST:
        raise ValueError(
            f"{path} is {width} x {height}: both sides must have at least {_SMALLEST} pixels"
        )
    factor = crop * _SHORT_SIDE / _CROP / short
    resampling = require("PIL.Image").Resampling
    small = image.resize((round(width * factor), round(height * factor)), resampling.BILINEAR)
    left, top = (small.width - crop) // 2, (small.height - crop) // 2
    box = (left, top, left + crop, top + crop)
    scale = (width / small.width, height / small.height) * 2
    field = tuple(edge * s for edge, s in zip(box, scale, strict=True))
    shown = image.resize((_SHOWN, _SHOWN), resampling.LANCZOS, box=field)
    return Photograph(path.name, (width, height), np.asarray(small.crop(box)), np.asarray(shown))


def example_photograph() -> Photograph:
    """Return scikit-image's cat Chelsea.

    Raises:
        MissingExtraError: If scikit-image or Pillow is not installed.
    """
    return load_photograph(package_folder("skimage") / "data" / "chelsea.png")


def _read(path: Path) -> Any:
    images = require("PIL.Image")
    try:
        with images.open(path) as file:
            upright = require("PIL.ImageOps").exif_transpose(file)
            return upright.convert("RGB")
    except (OSError, SyntaxError, images.DecompressionBombError) as error:
        # Pillow reports broken PNG chunks as SyntaxError.
        raise ValueError(f"cannot read {path} as a picture: {error}") from error
