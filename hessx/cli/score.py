"""What ``hessx score`` does."""

from __future__ import annotations

import argparse
import time

from hessx import demo
from hessx.cli.explain import opened, report
from hessx.cli.options import SCORED_BY, integer, number, words
from hessx.demo.scores_section import sensitivity_text, share_text

_BEST, _REVERSED = "*", "r"


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add what only ``hessx score`` takes."""
    parser.add_argument(
        "--maps",
        metavar="MAP,...",
        type=words(*demo.MAPS),
        default=",".join(demo.MAPS),
        help="; ".join(f"{name}: {text}" for name, text in demo.MAPS.items()),
    )
    parser.add_argument(
        "--perturbation",
        metavar="LAW,...",
        type=words(*demo.LAWS),
        default=",".join(SCORED_BY),
        help="; ".join(f"{name}: {text}" for name, text in demo.LAWS.items()),
    )
    parser.add_argument(
        "--sigma",
        metavar="S",
        type=number("> 0", lambda value: value > 0),
        default=demo.DEFAULT_SCORE_SIGMA,
        help="standard deviation of gaussian, in units of 128 grey levels",
    )
    parser.add_argument(
        "--n-samples",
        metavar="N",
        type=integer(2),
        default=demo.DEFAULT_SCORE_SAMPLES,
        help="changed pictures of each law",
    )
    parser.add_argument(
        "--radius",
        metavar="R",
        type=number(">= 0", lambda value: value >= 0),
        default=demo.DEFAULT_RADIUS,
        help="of the sensitivities, in units of 128 grey levels",
    )


def run_score(options: argparse.Namespace) -> None:
    """Print the scores of maps of a picture as a table."""
    started = time.perf_counter()
    photograph = demo.load_photograph(options.picture)
    classifier, target = opened(options, photograph)
    laws = [
        demo.perturbation_law(name, classifier, photograph, sigma=options.sigma)
        for name in options.perturbation
    ]
    maps = demo.quick_maps(
        classifier, photograph, options.maps, target=target, seed=options.seed, report=report
    )
    scores = demo.score_maps(
        classifier,
        photograph,
        maps,
        laws,
        target=target,
        n_samples=options.n_samples,
        radius=options.radius,
        seed=options.seed,
        report=report,
    )
    for law in laws:
        report(f"{law.title:<11}{law.text}")
    report("table      share of the squared change of the log-odds that a map leaves unexplained;")
    report(
        "           sensitivity: how far a map of unit length moves within "
        f"{scores.radius * classifier.scale:.3g} grey levels"
    )
    report("")
    for line in table(scores):
        report(line)
    report("")
    report(f"total      {time.perf_counter() - started:.1f} s")


def table(scores: demo.MapScores) -> list[str]:
    """Return the lines of a table: a map each, the best of each column marked."""
    # Every cell ends with a mark or a space in its place.
    rows = [["", *(f"{law.title} " for law in scores.laws), "sensitivity "]]
    for row, each in enumerate(scores.maps):
        texts = [*map(share_text, each.shares), sensitivity_text(each.sensitivity)]
        marked = [text + _mark(scores, row, column) for column, text in enumerate(texts)]
        rows.append([each.name, *marked])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("   ".join([first.ljust(widths[0]), *cells]).rstrip())
    notes = [f"{_BEST} lowest of its column"]
    if scores.any_reversed:
        notes.append(f"{_REVERSED} reversed: predicts best with the wrong sign")
    return [*lines, "; ".join(notes)]


def _mark(scores: demo.MapScores, row: int, column: int) -> str:
    if scores.best(column) == row:
        return _BEST
    return _REVERSED if scores.maps[row].is_reversed(column) else " "
