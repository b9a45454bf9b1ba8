"""The part of a page about CASO and CAFO: maps beside the photograph, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from torch import Tensor

from hessx import plot
from hessx.demo.fragments import fill, photo_figure, png
from hessx.demo.numbers import signed
from hessx.demo.saliency import SaliencyMaps
from hessx.explain import SparsePath, SparseSaliency, saliency_map

# Cosines between CASO and CAFO from which their maps cannot be told apart, or not easily.
_SAME = 0.99
_SIMILAR = 0.9


def saliency_section(maps: SaliencyMaps) -> str:
    """Return the HTML of a section with the maps and their numbers.

    It shows the photograph that ``whole_page`` stores.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    columns = maps.results
    titles = [maps.title_of(result) for result in columns]
    orders = ["first order", "second order"]
    figures = [
        f"<figure>{photo_figure(maps.photograph)}<figcaption>The picture</figcaption></figure>",
        _map(maps, maps.gradient, _gradient_name(maps), "every pixel"),
    ]
    figures += [
        _map(maps, result.delta, title, f"{_percent(result)} zero")
        for result, title in zip(columns, titles, strict=True)
    ]
    heads = [
        f"<th>{title} <small>{order}</small></th>"
        for title, order in zip(titles, orders, strict=False)
    ]
    return fill(
        "saliency.html",
        {
            "target": escape(maps.target.name),
            "names": " and ".join(titles) + (" look for" if len(titles) > 1 else " looks for"),
            "smoothing": _smoothing(maps),
            "maps": "".join(figures),
            "heads": "".join(heads),
            "rows": _rows(maps, columns),
            "note": _note(maps),
            "path": "" if maps.path is None else _path(maps, maps.path),
        },
    )


def second_order_note(maps: SaliencyMaps) -> str:
    """Return what the second order adds here: a sentence with the cosine between CASO and CAFO."""
    cosine, confidence = maps.cosine, f"{maps.target.probability:.1%}"
    if maps.caso is None or math.isnan(cosine):
        return "An empty map has no direction, so first and second order cannot be compared."
    if cosine >= _SAME:
        says = "the second order hardly changes which pixels the map shows"
    elif cosine >= _SIMILAR:
        says = "the second order changes the map a little"
    else:
        says = "the second order changes the map clearly"
    first, second = maps.title_of(maps.cafo), maps.title_of(maps.caso)
    return (
        f"At this confidence of {confidence} {says}: the cosine between "
        f"{second} and {first} is {signed(cosine, 4)}. The loss "
        f"changes by {_change(maps.caso)} along the one and {_change(maps.cafo)} along the other."
    )


def _note(maps: SaliencyMaps) -> str:
    if maps.caso is not None:
        return f"{second_order_note(maps)} Both have the same λ<sub>2</sub>."
    return (
        "CAFO is solved in closed form: its gap is 0. Most of its time goes into the largest "
        "eigenvalue, which only sets λ<sub>2</sub>, the scale of the map."
    )


def _rows(maps: SaliencyMaps, columns: Sequence[SparseSaliency]) -> str:
    bound = maps.main.curvature_bound.item()
    cells: list[tuple[str, Callable[[SparseSaliency], str]]] = [
        ("λ<sub>1</sub>, the price of moving pixels", lambda each: _number(each.lambda1)),
        ("pixels that are zero", _percent),
        ("pixels that are not", lambda each: f"{_moved(each):,}"),
        ("objective gap, at most", lambda each: _number(each.gap)),
        ("change of the loss, asked of the network", _change),
        ("largest eigenvalue of H, at most", lambda each: f"{bound:.3g}"),
        ("λ<sub>2</sub>, the price of length", lambda each: _number(each.lambda2)),
        (
            f"confidence in “{escape(maps.target.name)}”",
            lambda each: f"{maps.target.probability:.1%}",
        ),
        ("time", lambda each: f"{each.seconds * 1000:,.0f} ms"),
        ("of it inside the model", lambda each: f"{each.model_seconds / each.seconds:.1%}"),
    ]
    return "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{write(each)}</td>' for each in columns)}</tr>"
        for name, write in cells
    )


def _path(maps: SaliencyMaps, path: SparsePath) -> str:
    figures = []
    for index in range(len(path)):
        one = path[index]
        numbers = f"{_percent(one)} zero, loss {_change(one)}"
        figures.append(_map(maps, one.delta, f"λ<sub>1</sub> = {_number(one.lambda1)}", numbers))
    values = {
        "count": str(len(path)),
        "milliseconds": f"{path.seconds * 1000:,.0f}",
        "gap": _number(path.gap.max()),
        "maps": "".join(figures),
    }
    return fill("saliency_path.html", values)


def _map(maps: SaliencyMaps, attribution: Tensor, title: str, numbers: str) -> str:
    sizes = saliency_map(attribution)[0].double().numpy()
    # The map ends at its own percentile already.
    overlay = plot.saliency_overlay(maps.photograph.pixels, sizes, quantile=1.0)
    plain = title.replace("<sub>", "").replace("</sub>", "")
    image = f'<img class="map" src="{png(overlay)}" alt="Map: {escape(plain)}, {numbers}">'
    return f"<figure>{image}<figcaption>{title}<small>{numbers}</small></figcaption></figure>"


def _gradient_name(maps: SaliencyMaps) -> str:
    return "Gradient" if maps.smooth_sigma is None else "SmoothGrad"


def _smoothing(maps: SaliencyMaps) -> str:
    if maps.smooth_sigma is None:
        return ""
    levels = maps.smooth_sigma * maps.classifier.scale
    return (
        f" Gradient and Hessian are means over {maps.n_samples} noisy copies of the picture: a "
        f"standard deviation of {maps.smooth_sigma:g} ({levels:.3g} grey levels)."
    )


def _moved(result: SparseSaliency) -> int:
    return int((result.delta != 0).any(1).sum())


def _percent(result: SparseSaliency) -> str:
    return f"{result.sparsity.item():.1%}"


def _change(result: SparseSaliency) -> str:
    change = result.loss_change.item()
    # Four decimals unless they would hide a small change.
    places = 4 if change == 0 else min(7, max(3, 1 - math.floor(math.log10(abs(change)))))
    return signed(change, places)


def _number(value: Tensor) -> str:
    return f"{value.item():.3g}"
