"""Parts that the demo's pages share."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

import numpy as np
import torch

import hessx
from hessx.demo.classes import ClassScore
from hessx.demo.extra import require
from hessx.demo.photograph import Photograph


def shown_file(name: str) -> str:
    """Return the text of a template, style sheet or script of the demo."""
    return files("hessx.demo").joinpath(name).read_text(encoding="utf-8")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template of the demo with its ``$names`` replaced.

    Raises:
        KeyError: If a name has no value.
    """
    return Template(shown_file(template)).substitute(values)


def png(pixels: np.ndarray) -> str:
    """Return RGB pixels as the address of a PNG that is its own content.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    buffer = io.BytesIO()
    require("PIL.Image").fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def photo_definition(photograph: Photograph) -> str:
    """Return the photograph for the page's definitions, where it is stored once.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    height, width = photograph.pixels.shape[:2]
    return (
        f'<image id="photo" href="{png(photograph.shown)}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    )


def photo_figure(photograph: Photograph) -> str:
    """Return the photograph that the page defines, as a picture."""
    height, width = photograph.pixels.shape[:2]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="The picture as the network sees it"><use href="#photo"/></svg>'
    )


def class_list(classes: Sequence[ClassScore], target: ClassScore) -> str:
    """Return the list items of the most probable classes, and of the one that is explained."""
    listed = list(classes)
    if target.index not in [score.index for score in listed]:
        listed.append(target)
    rows = []
    for score in listed:
        mark = ' class="explained"' if score.index == target.index else ""
        rows.append(
            f'<li{mark}><span class="name">{escape(score.name)}</span>'
            f'<span class="percent">{score.probability:.1%}</span>'
            f'<span class="bar"><i style="width:{score.probability:.2%}"></i></span></li>'
        )
    return "".join(rows)


def circumstances(photograph: Photograph, seconds: float) -> str:
    """Return the list items that say what was explained, with what, and how long it took."""
    width, height = photograph.size
    crop_height, crop_width = photograph.pixels.shape[:2]
    versions = f"hessx {hessx.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    lines = [
        f"{seconds:.1f} s in total, threads: {torch.get_num_threads()}",
        f"{escape(photograph.name)}, {width} × {height}, centre crop scaled to "
        f"{crop_width} × {crop_height}",
        f"{versions}, Python {platform.python_version()}",
    ]
    return "".join(f"<li>{line}</li>" for line in lines)
