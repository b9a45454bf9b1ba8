"""The part of a page about scores: a table of the page's own maps."""

from __future__ import annotations

import math
from html import escape

from hessx.demo.fragments import fill
from hessx.demo.laws import Law
from hessx.demo.scores import MapScores, Share

_NOTHING = "–"
_OCCLUSION = (
    " Occlusion, for comparison, puts the mean colour in place of one cell at a time, which is "
    "much like what the squares do."
)
_REVERSED = "; <em>reversed</em> maps predict best with the wrong sign"


def scores_section(scores: MapScores) -> str:
    """Return the HTML of a section with the scores of maps."""
    heads = [f"<th>{law.title}, unexplained</th>" for law in scores.laws] + ["<th>sensitivity</th>"]
    return fill(
        "scores.html",
        {
            "target": escape(scores.target.name),
            "n_samples": f"{scores.n_samples:,}",
            "n_points": str(scores.n_points),
            "radius_levels": f"{scores.radius * scores.classifier.scale:.3g}",
            "heads": "".join(heads),
            "rows": "".join(_row(scores, row) for row in range(len(scores.maps))),
            "laws": ". ".join(map(_law_text, scores.laws)),
            "occlusion": _OCCLUSION * any(each.name.startswith("Occl") for each in scores.maps),
            "reversed": _REVERSED * scores.any_reversed,
            "n_evaluations": f"{scores.n_evaluations:,}",
            "n_gradients": str(scores.n_gradients),
            "seconds": f"{scores.seconds:.1f}",
        },
    )


def share_text(share: Share | None) -> str:
    """Return a share and its standard error in percent.

    Example:
        >>> share_text(Share(0.8912, 0.0345, False))
        '89.1% ± 3.5%'
    """
    if share is None or math.isnan(share.value):
        return _NOTHING
    return f"{share.value:.1%} ± {share.stderr:.1%}"


def sensitivity_text(value: float | None) -> str:
    """Return a sensitivity as people read it."""
    return _NOTHING if value is None else f"{value:.2f}"


def _law_text(law: Law) -> str:
    form = ", and maps taken times what that takes away" if law.multiplied else ""
    return f"{law.title.capitalize()}: {law.text}{form}"


def _row(scores: MapScores, row: int) -> str:
    each = scores.maps[row]
    texts = [*map(share_text, each.shares), sensitivity_text(each.sensitivity)]
    cells = []
    for column, text in enumerate(texts):
        shown = f"<strong>{text}</strong>" if scores.best(column) == row else text
        cells.append(f"<td>{'<em>reversed</em> ' * each.is_reversed(column)}{shown}</td>")
    name = escape(each.name).replace("K_L", "K<sub>L</sub>")
    return f"<tr><th>{name}</th>{''.join(cells)}</tr>"
