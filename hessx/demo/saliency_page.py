"""A page about CASO or CAFO alone."""

from __future__ import annotations

from html import escape
from pathlib import Path

from hessx.demo.fragments import circumstances, fill, picture_section, whole_page
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
        "picture": picture_section(maps),
        "saliency": saliency_section(maps),
        "scale_levels": f"{maps.classifier.scale:g}",
        "facts": seed + circumstances(maps.photograph, maps.seconds),
    }
    method, name = maps.title_of(maps.main), escape(maps.target.name)
    page = whole_page(
        maps,
        fill("saliency_page.html", values),
        methods=method,
        title=f"the pixels behind “{name}”",
        heading=f"Which pixels is “{name}” most sensitive to?",
        lead=f"{method} looks for the few pixels that, shifted together, make it doubt this most.",
    )
    path.write_text(page, encoding="utf-8")
    return path
