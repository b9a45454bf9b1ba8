"""The part of a page about LEG and LEG-TV: signed maps on a grid, and their numbers."""

from __future__ import annotations

from html import escape

from torch import Tensor

from hessx import ops, plot
from hessx.demo.fragments import fill, photo_figure, tinted_photo
from hessx.demo.leg import LegMaps
from hessx.explain import LegTV
from hessx.features import Grid

# Shares of numbers beyond two standard errors; chance alone gives .05.
_CHANCE = 0.08
_MANY = 0.25
_COLORS = ("red", "green", "blue")


def leg_section(maps: LegMaps) -> str:
    """Return the HTML of a section with the maps and their numbers.

    It shows the photograph that ``whole_page`` stores.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    gamma = maps.leg.gamma[0]
    values = {
        "target": escape(maps.target.name),
        "n_samples": f"{maps.leg.n_samples:,}",
        "grid": " × ".join(map(str, gamma.shape[-2:])),
        "channels": " Each colour has maps of its own." if len(gamma) > 1 else "",
        "maps": "".join(_maps(maps, channel) for channel in range(len(gamma))),
        "errors": _errors(maps),
        "path": "" if maps.path is None else _path(maps, maps.path),
        "sigma": f"{maps.leg.sigma:g}",
        "grey_levels": f"{maps.leg.sigma * maps.classifier.scale:.3g}",
    }
    return fill("leg.html", values)


def error_words(share: float) -> str:
    """Return what a share of numbers beyond two standard errors says of a map."""
    if share < _CHANCE:
        return "little more than chance: single cells mean nothing here, more samples would help"
    if share < _MANY:
        return "the strongest cells are measured, the faint ones are mostly noise"
    return "much of the map is measured, its faint cells are mostly noise"


def _maps(maps: LegMaps, channel: int) -> str:
    """Return the maps of one colour, or of all together, beside the photograph."""
    figures = [
        f"<figure>{photo_figure(maps.photograph)}<figcaption>The picture</figcaption></figure>",
        _map(maps, maps.leg.gamma[0, channel], "LEG", "LEG"),
    ]
    if maps.path is not None:
        figures += [
            _map(maps, gamma[channel], _level(share), f"LEG-TV at K_L = {share:g}")
            for share, gamma in zip(maps.K_L, maps.path.gamma[0], strict=True)
        ]
    heading = f"<h3>{_color(maps, channel).capitalize()}</h3>" if _color(maps, channel) else ""
    return f'{heading}<div class="maps">{"".join(figures)}</div>'


def _map(maps: LegMaps, gamma: Tensor, title: str, plain: str) -> str:
    height, width = maps.photograph.pixels.shape[:2]
    rows, columns = gamma.shape
    cells = Grid((rows, columns)).bind((1, height, width)).lift(gamma.flatten())[0]
    limit = gamma.abs().max().item()
    picture = tinted_photo(plot.diverging_colors(cells.double().numpy()), f"Map: {plain}")
    return (
        f"<figure>{picture}<figcaption><span>{title}</span>"
        f"<small>up to ±{limit:#.2g}</small></figcaption></figure>"
    )


def _errors(maps: LegMaps) -> str:
    leg = maps.leg
    return (
        f"Of the {leg.gamma.numel():,} numbers of LEG {leg.clear_share:.0%} are more than two "
        "standard errors from 0, where chance alone would put 5%: "
        f"{error_words(leg.clear_share)}. A standard error is {leg.stderr.median().item():.2g} "
        f"(the median), the largest number {leg.gamma.abs().max().item():.2g}. It took "
        f"{leg.n_evaluations:,} evaluations of the network, {leg.model_seconds:.1f} s."
    )


def _path(maps: LegMaps, path: LegTV) -> str:
    m = ops.grid_difference(path.gamma[0, 0]).shape[1]
    # Of a constant estimate all maps are constant: 0 % of nothing.
    whole = ops.grid_difference(maps.leg.gamma[0].double()).abs().sum(1)
    rows = []
    for channel in range(len(whole)):
        color = _color(maps, channel)
        for index, share in enumerate(maps.K_L):
            differences = ops.grid_difference(path.gamma[0, index])[channel]
            cells = [
                f"{path.L[0, index, channel].item():.3g}",
                f"{path.objective[0, index, channel].item() / (whole[channel].item() or 1):.1%}",
                f"{int((differences != 0).sum()):,} of {m:,}",
                f"{path.gap[0, index, channel].item():.1g}",
            ]
            name = f"{_level(share)}{color and ', ' + color}"
            numbers = "".join(f"<td>{cell}</td>" for cell in cells)
            rows.append(f"<tr><th>{name}</th>{numbers}</tr>")
    values = {
        "count": str(path.L.numel()),
        "milliseconds": f"{path.solver_seconds * 1000:.1f}",
        "solver": path.solver,
        "seconds": f"{maps.leg.model_seconds:.1f}",
        "rows": "".join(rows),
    }
    return fill("leg_path.html", values)


def _color(maps: LegMaps, channel: int) -> str:
    return _COLORS[channel] if maps.leg.gamma.shape[1] > 1 else ""


def _level(share: float) -> str:
    return f"K<sub>L</sub> = {share:g}"
