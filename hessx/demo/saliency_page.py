"""A page about CASO or CAFO alone."""

from __future__ import annotations

from html import escape
from pathlib import Path

from hessx.demo.fragments import (
    circumstances,
    class_list,
    fill,
    photo_definition,
    photo_figure,
    shown_file,
)
from hessx.demo.saliency import SaliencyMaps
from hessx.demo.saliency_section import saliency_section


def write_saliency_page(maps: SaliencyMaps, path: str | Path) -> Path:
    """Write sparse saliency maps as a self-contained HTML page.

    Args:
        maps: What to show.
        path: The file to write; its folder must exist.

    Returns:
        The path.

    Raises:
        OSError: If the file cannot be written.
        MissingExtraError: If Pillow is not installed.
    """
    path = Path(path)
    seed = f"<li>seed {maps.seed}</li>"
    values = {
        "style": shown_file("page.css"),
        "method": maps.title(maps.main),
        "definitions": photo_definition(maps.photograph),
        "picture": photo_figure(maps.photograph),
        "picture_name": escape(maps.photograph.name),
        "model": escape(maps.classifier.name),
        "target": escape(maps.target.name),
        "probability": f"{maps.target.probability:.1%}",
        "logit": f"{maps.target.logit:.2f}",
        "classes": class_list(maps.classes, maps.target),
        "saliency": saliency_section(maps),
        "scale_levels": f"{maps.classifier.scale:g}",
        "facts": seed + circumstances(maps.photograph, maps.seconds),
    }
    path.write_text(fill("saliency_page.html", values), encoding="utf-8")
    return path
