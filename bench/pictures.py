"""Tables and pictures of the experiments, written to ``out/experiments``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUT = Path("out/experiments")
GREEN = "#1b7f4b"
_PANEL_INCHES = 1.25
_DPI = 100
# Maps are noisy: more colours, and their dithering, only make the file larger.
_COLOURS = 64


@dataclass(frozen=True, eq=False)
class Panel:
    """An image in a grid.

    Attributes:
        image: ``(H, W)`` in [0, 1], or RGB ``(H, W, 3)`` uint8.
        caption: Below it.
        marked: Drawn with a green frame.
    """

    image: np.ndarray
    caption: str = ""
    marked: bool = False


def write_table(rows: Sequence[Mapping[str, Any]], path: Path, *, show: bool = True) -> None:
    """Write rows as CSV, numbers with 6 digits, and print them with 4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_text(value, 6) for value in row.values()] for row in rows)
    if show:
        lines = [list(rows[0]), *([_text(value, 4) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells))
    print(f"wrote {path}", flush=True)


def _text(value: object, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def draw_panels(rows: Mapping[str, Sequence[Panel]], titles: Sequence[str], path: Path) -> None:
    """Draw rows of panels, named at the left, under the titles of the columns."""
    from matplotlib.figure import Figure

    columns = max(len(panels) for panels in rows.values())
    size = (columns * _PANEL_INCHES + 0.3, len(rows) * (_PANEL_INCHES + 0.22) + 0.2)
    canvas = Figure(figsize=size, layout="constrained")
    axes = canvas.subplots(len(rows), columns, squeeze=False)
    for line, (name, panels) in zip(axes, rows.items(), strict=True):
        for place, panel in zip(line[: len(panels)], panels, strict=True):
            place.imshow(panel.image, cmap="gray", vmin=0, vmax=1)
            place.set_xlabel(panel.caption, fontsize=7, labelpad=2)
            place.set(xticks=[], yticks=[])
            for spine in place.spines.values():
                spine.set(visible=panel.marked, color=GREEN, linewidth=2.5)
        for place in line[len(panels) :]:
            place.set_visible(False)
        line[0].set_ylabel(name, fontsize=7)
    for place, title in zip(axes[0], titles, strict=False):
        place.set_title(title, fontsize=8)
    save_png(canvas, path)


def save_png(canvas: Figure, path: Path) -> None:
    """Save a figure as PNG with few colours, small enough for the documentation."""
    from PIL import Image

    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=_DPI)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(buffer).convert("RGB")
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"wrote {path}", flush=True)
