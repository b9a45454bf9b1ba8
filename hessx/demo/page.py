"""The page: one file with everything in it, that needs no server and no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from hessx import plot
from hessx.demo.explanation import Explanation, model_share
from hessx.demo.fragments import (
    circumstances,
    fill,
    on_photo,
    picture_section,
    png,
    shown_file,
    tinted_photo,
    whole_page,
)
from hessx.demo.interactions import FAINT_BELOW, STRONG_FROM, Interaction, strongest
from hessx.demo.labels import place_labels
from hessx.demo.leg import LegMaps
from hessx.demo.leg_section import leg_section
from hessx.demo.numbers import decimals, signed, with_error
from hessx.demo.saliency import SaliencyMaps
from hessx.demo.saliency_section import saliency_section
from hessx.demo.scores import MapScores
from hessx.demo.scores_section import scores_section
from hessx.demo.superpixels import centres, outlines
from hessx.explain import SmoothHess
from hessx.features import Grid

_N_STRONGEST = 6
_N_EIGENVECTORS = 4
# Standard deviation in pixels: single pixels of a gradient say little to the eye.
_BLUR = 2
_DOT = 5.0
# Height of the writing on the pictures, as a share of their side.
_LABEL = 1 / 36


def write_page(
    explanation: Explanation,
    path: str | Path,
    saliency: SaliencyMaps | None = None,
    leg: LegMaps | None = None,
    scores: MapScores | None = None,
) -> Path:
    """Write an explanation as a self-contained HTML page.

    Args:
        explanation: What to show.
        path: The file to write; its folder must exist.
        saliency: CASO and CAFO of the same photograph and class, for a section of their own.
        leg: LEG and LEG-TV of the same, for another.
        scores: Of these maps, for a table.

    Returns:
        The path.

    Raises:
        OSError: If the file cannot be written.
        MissingExtraError: If Pillow or scikit-image is not installed.
    """
    path = Path(path)
    path.write_text(_page(explanation, saliency, leg, scores), encoding="utf-8")
    return path


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What the pictures of one page share: coordinates are the network's pixels."""

    width: int
    height: int
    outlines: list[str]
    centres: np.ndarray

    def svg(self, content: str, label: str, attributes: str = "") -> str:
        return on_photo((self.width, self.height), content, label, attributes)


def _page(
    explanation: Explanation,
    saliency: SaliencyMaps | None,
    leg: LegMaps | None,
    scores: MapScores | None,
) -> str:
    height, width = explanation.labels.shape
    drawing = _Drawing(width, height, outlines(explanation.labels), centres(explanation.labels))
    hessian, stderr = (x[0].double().numpy() for x in explanation.segments.to_dense(stderr=True))
    positive = strongest(hessian, stderr, _N_STRONGEST, sign=1)
    negative = strongest(hessian, stderr, _N_STRONGEST, sign=-1)
    # One number of digits for all, so that columns of numbers line up.
    places = decimals(float(np.median(stderr)))
    target = explanation.target
    k = len(hessian)
    pairs = k * (k - 1) // 2
    clear = np.abs(hessian) >= STRONG_FROM * stderr
    also = [part for part in (saliency, leg) if part is not None]
    methods = ["SmoothHess", *(part.title for part in also)]
    timed = also if scores is None else [*also, scores]
    seconds = explanation.seconds + sum(part.seconds for part in timed)
    scripts = {
        "data": _json(_data(explanation, drawing, hessian, stderr, places)),
        "script": shown_file("page.js"),
    }
    values = {
        "picture": picture_section(explanation, _smoothgrad(explanation)),
        "explorer": _explorer(drawing),
        "positive": _lines(drawing, positive, "positive", places),
        "negative": _lines(drawing, negative, "negative", places),
        "positive_table": _table(positive, "positive", places),
        "negative_table": _table(negative, "negative", places),
        "segment_maps": _segment_maps(explanation, drawing),
        "grid_maps": _grid_maps(explanation, drawing),
        "scale": ", ".join(f"rgb{color}" for color in plot.DIVERGING),
        "facts": _facts(explanation, seconds),
        "saliency": "" if saliency is None else saliency_section(saliency),
        "leg": "" if leg is None else leg_section(leg),
        "scores": "" if scores is None else scores_section(scores),
        "n_segments": str(k),
        "n_cells": " × ".join(map(str, explanation.grid_size)),
        "n_pairs": f"{pairs:,}",
        "n_clear": str(int(clear[np.triu_indices(k, 1)].sum())),
        "by_chance": f"{0.0027 * pairs:.1f}",
        "faint_below": f"{FAINT_BELOW:g}",
        "strong_from": f"{STRONG_FROM:g}",
        "sigma": f"{explanation.sigma:g}",
        "grey_levels": f"{explanation.sigma * explanation.classifier.scale:.3g}",
        "scale_levels": f"{explanation.classifier.scale:g}",
        "relative_error": _error(explanation.segments),
        "grid_relative_error": _error(explanation.grid),
        "example": _example(positive + negative, explanation.sigma),
    }
    name = escape(target.name)
    return whole_page(
        explanation,
        fill("page.html", values),
        methods=", ".join(methods),
        title=f"what makes it “{name}”",
        heading=f"Which parts of this picture act together for “{name}”?",
        lead="A gradient says what each part does alone. The Hessian of the smoothed logit says "
        "which parts do more, or less, together than the sum of both.",
        shapes=_shapes(drawing),
        scripts=fill("page_scripts.html", scripts),
    )


def _data(
    explanation: Explanation,
    drawing: _Drawing,
    hessian: np.ndarray,
    stderr: np.ndarray,
    places: int,
) -> dict[str, Any]:
    gradient = explanation.segments.feature_gradient[0].double().numpy()
    pixels = np.bincount(explanation.labels.ravel())
    return {
        "hessian": _rounded(hessian),
        "stderr": _rounded(stderr),
        "gradient": _rounded(gradient),
        "pixels": pixels.tolist(),
        "centres": drawing.centres.tolist(),
        "places": places,
        "colors": plot.DIVERGING,
        "faintBelow": FAINT_BELOW,
        # The segment with the most to show: the largest sum of clear interactions.
        "start": int(
            np.where(np.abs(hessian) >= STRONG_FROM * stderr, np.abs(hessian), 0)
            .sum(1, where=~np.eye(len(hessian), dtype=bool))
            .argmax()
        ),
        "eigenvalues": _rounded(explanation.segments.eigenvalues[0].double().numpy()),
        "gridEigenvalues": _rounded(explanation.grid.eigenvalues[0].double().numpy()),
        "relativeError": _rounded(explanation.segments.relative_error.double().numpy())[0],
        "gridRelativeError": _rounded(explanation.grid.relative_error.double().numpy())[0],
    }


def _shapes(drawing: _Drawing) -> str:
    """Return the outlines that the pictures refer to, each stored once."""
    return "".join(
        f'<path id="s{segment}" d="{path}"/>' for segment, path in enumerate(drawing.outlines)
    )


def _smoothgrad(explanation: Explanation) -> str:
    norm = explanation.segments.gradient[0].double().norm(dim=0).numpy()
    blurred = ndimage.gaussian_filter(norm, _BLUR)
    overlay = plot.saliency_overlay(explanation.photograph.pixels, blurred, opacity=0.75)
    image = f'<img src="{png(overlay)}" alt="SmoothGrad map: norm of the mean gradient">'
    caption = (
        "First order: the size of the mean gradient, from the same queries, blurred by "
        f"{_BLUR} pixels. Bright pixels matter"
    )
    return f"<figure><h2>SmoothGrad</h2>{image}<figcaption>{caption}</figcaption></figure>"


def _explorer(drawing: _Drawing) -> str:
    shapes = "".join(
        f'<use href="#s{segment}" class="segment" data-segment="{segment}"/>'
        for segment in range(len(drawing.outlines))
    )
    overlay = '<use id="chosen" class="chosen"/><use id="partner" class="partner"/>'
    return drawing.svg(
        shapes + overlay,
        "Segments of the picture: choose one to see what it interacts with. "
        "Arrow keys go to the neighbours.",
        attributes=' id="explorer" tabindex="0"',
    )


def _lines(drawing: _Drawing, pairs: list[Interaction], sign: str, places: int) -> str:
    size = drawing.width * _LABEL
    dot = _DOT * drawing.width / 224
    largest = max((abs(pair.value) for pair in pairs), default=1.0)
    ends = [
        (tuple(drawing.centres[pair.first]), tuple(drawing.centres[pair.second])) for pair in pairs
    ]
    joined = sorted({segment for pair in pairs for segment in (pair.first, pair.second)})
    texts = [with_error(pair.value, pair.stderr, places) for pair in pairs]
    # 0.56 of the height is the mean width of a digit in the usual system fonts.
    width = max((0.56 * len(text) + 0.8) * size for text in texts) if texts else 0.0
    spots = place_labels(
        ends,
        width,
        1.5 * size,
        (drawing.width, drawing.height),
        [tuple(drawing.centres[segment]) for segment in joined],
        dot,
    )
    parts = [f'<use href="#s{segment}" class="joined"/>' for segment in joined]
    strokes, notes = [], []
    for pair, ((x1, y1), (x2, y2)), text, (x, y) in zip(pairs, ends, texts, spots, strict=True):
        thick = (0.8 + 2.2 * abs(pair.value) / largest) * drawing.width / 224
        name = f"{pair.first}-{pair.second}"
        strokes.append(
            f'<line data-pair="{name}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" '
            f'stroke-width="{thick:.2f}"/>'
        )
        notes.append(
            f'<g data-pair="{name}"><rect x="{x - width / 2:.1f}" y="{y - 0.75 * size:.1f}" '
            f'width="{width:.1f}" height="{1.5 * size:.1f}" rx="{0.4 * size:.1f}"/>'
            f'<text x="{x:.1f}" y="{y + 0.35 * size:.1f}" font-size="{size:.1f}">{text}</text></g>'
        )
    dots = []
    for segment in joined:
        x, y = drawing.centres[segment]
        dots.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{dot:.1f}"/>'
            f'<text x="{x:g}" y="{y + 0.3 * size:.1f}" font-size="{0.85 * size:.1f}" '
            f'class="number">{segment}</text>'
        )
    content = "".join(parts + strokes + dots + notes)
    label = f"The strongest {sign} interactions as lines between segments"
    return drawing.svg(content, label, attributes=f' class="lines {sign}"')


def _table(pairs: list[Interaction], sign: str, places: int) -> str:
    if not pairs:
        return (
            f'<tr><td colspan="3">No {sign} interaction is {STRONG_FROM:g} standard errors '
            "from 0.</td></tr>"
        )
    return "".join(
        f'<tr data-pair="{pair.first}-{pair.second}"><td>'
        f'<a href="#segment={pair.first}">{pair.first}</a> – '
        f'<a href="#segment={pair.second}">{pair.second}</a></td>'
        f"<td>{with_error(pair.value, pair.stderr, places)}</td><td>{signed(pair.z, 1)}</td></tr>"
        for pair in pairs
    )


def _segment_maps(explanation: Explanation, drawing: _Drawing) -> str:
    maps = []
    for value, vector, share in _eigenpairs(explanation.segments):
        colors = plot.diverging_colors(vector)
        content = "".join(
            f'<use href="#s{segment}" class="tint" fill="rgb({r},{g},{b})"/>'
            for segment, (r, g, b) in enumerate(colors.tolist())
        )
        maps.append(_map(drawing.svg(content, f"Eigenvector of {value:.3g}"), value, share))
    return "".join(maps)


def _grid_maps(explanation: Explanation, drawing: _Drawing) -> str:
    features = Grid(explanation.grid_size).bind((1, drawing.height, drawing.width))
    maps = []
    for value, vector, share in _eigenpairs(explanation.grid):
        cells = features.lift(torch.from_numpy(vector))[0].numpy()
        picture = tinted_photo(plot.diverging_colors(cells), f"Eigenvector of {value:.3g}")
        maps.append(_map(picture, value, share))
    return "".join(maps)


def _eigenpairs(result: SmoothHess) -> list[tuple[float, np.ndarray, float]]:
    """Return the leading eigenvalues, eigenvectors and shares of the sum of squares."""
    values = result.eigenvalues[0].double().numpy()
    vectors = result.eigenvectors[0].double().numpy().T
    energy = float(np.square(values).sum()) or 1.0
    pairs = []
    for value, vector in zip(values[:_N_EIGENVECTORS], vectors[:_N_EIGENVECTORS], strict=True):
        # An eigenvector's sign says nothing: its largest entry is shown as positive.
        sign = np.sign(vector[np.abs(vector).argmax()]) or 1.0
        pairs.append((float(value), vector * sign, float(value) ** 2 / energy))
    return pairs


def _map(picture: str, value: float, share: float) -> str:
    return (
        f"<figure>{picture}<figcaption>λ = {signed(value, 2)}"
        f"<small>{share:.0%} of Σλ²</small></figcaption></figure>"
    )


def _facts(explanation: Explanation, seconds: float) -> str:
    columns = (explanation.segments, explanation.grid)
    rows, across = explanation.grid_size
    n_features = [result.feature_gradient.shape[1] for result in columns]
    table = [
        ("", [f"{n_features[0]} segments", f"{rows} × {across} grid"]),
        ("estimated relative error of H", [_error(result) for result in columns]),
        ("gradients", [str(int(result.n_samples[0])) for result in columns]),
        ("estimator", [result.estimator for result in columns]),
        ("estimand: noise on", [result.estimand for result in columns]),
        ("time of smooth_hess", [f"{result.seconds:.1f} s" for result in columns]),
        ("of it inside the model", [f"{model_share(result):.1%}" for result in columns]),
    ]
    head = "".join(f"<th>{cell}</th>" for cell in table[0][1])
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in table[1:]
    )
    noise = f"<li>sigma {explanation.sigma:g}, seed {explanation.seed}</li>"
    lines = noise + circumstances(explanation.photograph, seconds)
    return (
        f'<table class="facts"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>'
        f'</table><ul class="facts">{lines}</ul>'
    )


def _example(pairs: list[Interaction], sigma: float) -> str:
    if not pairs:
        return ""
    pair = max(pairs, key=lambda each: abs(each.value))
    change = pair.value * sigma**2
    return (
        f"For instance, shifting segments {pair.first} and {pair.second} together by {sigma:g} "
        f"changes the smoothed logit by {signed(change, 4)} beyond the sum of the two shifts alone "
        f"(H = {signed(pair.value, 2)}, to second order)."
    )


def _error(result: SmoothHess) -> str:
    return f"{float(result.relative_error[0]):.2f}"


def _rounded(array: np.ndarray) -> list[Any]:
    """Return nested lists with six digits: more than the samples support, far fewer bytes."""
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in array.tolist()]


def _json(data: dict[str, Any]) -> str:
    # "</script>" inside a name would end the script element.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
