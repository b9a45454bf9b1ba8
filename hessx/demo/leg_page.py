"""A page about LEG or LEG-TV alone."""

from __future__ import annotations

from html import escape
from pathlib import Path

from hessx.demo.fragments import circumstances, fill, picture_section, whole_page
from hessx.demo.leg import LegMaps
from hessx.demo.leg_section import leg_section


def write_leg_page(maps: LegMaps, path: str | Path) -> Path:
    """Write maps of LEG, and of LEG-TV if there are some, as a self-contained HTML page.

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
    name = escape(maps.target.name)
    values = {
        "picture": picture_section(maps),
        "leg": leg_section(maps),
        "target": name,
        "scale_levels": f"{maps.classifier.scale:g}",
        "facts": f"<li>seed {maps.seed}</li>" + circumstances(maps.photograph, maps.seconds),
    }
    page = whole_page(
        maps,
        fill("leg_page.html", values),
        methods=maps.title,
        title=f"what raises and lowers “{name}”",
        heading=f"What speaks for “{name}”, what against?",
        lead="Each cell of a grid is lit up and darkened at random, and the network asked again.",
    )
    path.write_text(page, encoding="utf-8")
    return path
