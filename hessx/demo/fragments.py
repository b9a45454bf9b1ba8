"""Parts that the demo's pages share."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Protocol

import numpy as np
import torch

import hessx
from hessx.demo.classes import ClassScore
from hessx.demo.classifier import Classifier
from hessx.demo.extra import require
from hessx.demo.photograph import Photograph


class Explained(Protocol):
    """What every result of the demo says of its subject."""

    @property
    def photograph(self) -> Photograph:
        """What was explained."""

    @property
    def classifier(self) -> Classifier:
        """The network that was explained."""

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """The most probable classes, best first."""

    @property
    def target(self) -> ClassScore:
        """The class that was explained."""


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


def whole_page(
    explained: Explained,
    main: str,
    *,
    methods: str,
    title: str,
    heading: str,
    lead: str,
    shapes: str = "",
    scripts: str = "",
) -> str:
    """Return a page: its head, what the network answered, and the main part.

    Args:
        explained: The photograph, the network and its answer.
        main: HTML.
        methods: The names beside the brand.
        title: Of the window, after the picture's name.
        heading: A question.
        lead: Follows the sentence with the network's answer.
        shapes: SVG that the main part refers to, beside the photograph.
        scripts: HTML after the main part.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    target = explained.target
    values = {
        "style": shown_file("page.css"),
        "definitions": _photo_definition(explained.photograph) + shapes,
        "picture_name": escape(explained.photograph.name),
        "model": escape(explained.classifier.name),
        "target": escape(target.name),
        "probability": f"{target.probability:.1%}",
        "logit": f"{target.logit:.2f}",
        "methods": methods,
        "title": title,
        "heading": heading,
        "lead": lead,
        "main": main,
        "scripts": scripts,
    }
    return fill("frame.html", values)


def picture_section(explained: Explained, more: str = "") -> str:
    """Return the section with the picture and the most probable classes.

    Args:
        explained: The photograph and the network's answer.
        more: A third figure.
    """
    values = {
        "columns": "three" if more else "two",
        "picture": photo_figure(explained.photograph),
        "picture_name": escape(explained.photograph.name),
        "classes": _class_list(explained.classes, explained.target),
        "more": more,
    }
    return fill("picture.html", values)


def photo_figure(photograph: Photograph) -> str:
    """Return the photograph, which `whole_page` stores once, as a picture."""
    height, width = photograph.pixels.shape[:2]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="The picture as the network sees it"><use href="#photo"/></svg>'
    )


def on_photo(size: tuple[int, int], content: str, label: str, attributes: str = "") -> str:
    """Return the photograph in faint grey with something drawn on it.

    Args:
        size: Width and height of the drawing's coordinates.
        content: SVG.
        label: What it shows, in words.
        attributes: More attributes of the picture, with a space before.
    """
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"'
        f'{attributes}><use href="#photo" class="grey"/>{content}</svg>'
    )


def tinted_photo(pixels: np.ndarray, label: str) -> str:
    """Return the photograph in the colours ``(H, W, 3)`` of a map.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    height, width = pixels.shape[:2]
    tint = f'<image href="{png(pixels)}" class="tint" width="{width}" height="{height}"/>'
    return on_photo((width, height), tint, label)


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


def _photo_definition(photograph: Photograph) -> str:
    """Return the photograph for the page's definitions, where it is stored once."""
    height, width = photograph.pixels.shape[:2]
    return (
        f'<image id="photo" href="{png(photograph.shown)}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    )


def _class_list(classes: Sequence[ClassScore], target: ClassScore) -> str:
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
