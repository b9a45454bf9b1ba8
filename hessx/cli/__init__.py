"""The command ``hessx``: the demo, a picture explained or scored, what is installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import hessx
from hessx import demo
from hessx.cli.explain import run_demo, run_explain
from hessx.cli.options import LEG_TV, METHODS, SMOOTH_HESS, add_options, integer, misplaced
from hessx.cli.score import add_score_options, run_score


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name, by default those of this process.

    Returns:
        The exit status: 0, 1 after a mistake that only running could show, 130 when interrupted.
        Mistakes in the arguments leave with status 2, as argparse does.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, RuntimeError, OSError, demo.MissingExtraError) as error:
        print(f"hessx: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hessx: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hessx", description="Explain trained networks with curvature and with statistics."
    )
    parser.add_argument("--version", action="version", version=f"hessx {hessx.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = _common()

    show = commands.add_parser(
        "demo",
        parents=[common],
        help="explain a photograph of a cat and write a page about it",
        description="Explain a photograph of a cat, as EfficientNet-Lite0 sees it, and write an "
        "HTML page: the superpixels and grid cells that act together, the pixels that the loss is "
        "most sensitive to, the cells that raise and lower the log-odds, and scores of these maps.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    show.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/demo"), help="folder of the page"
    )
    show.add_argument(
        "--score-samples",
        metavar="N",
        type=integer(2),
        default=demo.DEFAULT_SCORE_SAMPLES,
        help="changed pictures of each kind that score the maps",
    )
    add_options(show, [SMOOTH_HESS, LEG_TV])
    show.set_defaults(run=run_demo)

    explain = commands.add_parser(
        "explain",
        parents=[common],
        help="explain a picture of yours",
        description="Explain a picture, as EfficientNet-Lite0 sees it, and write an HTML page.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    explain.add_argument("picture", metavar="PICTURE", type=Path, help="a picture file")
    explain.add_argument(
        "--method",
        choices=METHODS,
        default=SMOOTH_HESS,
        help="; ".join(f"{name}: {text}" for name, text in METHODS.items()),
    )
    explain.add_argument(
        "--out",
        metavar="FILE.html",
        type=Path,
        # Suppressed from the help's automatic "(default: None)".
        default=argparse.SUPPRESS,
        help="the page (default: PICTURE's name, with -METHOD.html, in this folder)",
    )
    add_options(explain, METHODS)

    def run_checked(options: argparse.Namespace) -> None:
        mistake = misplaced(options, options.method)
        if mistake is not None:
            explain.error(mistake)
        run_explain(options)

    explain.set_defaults(run=run_checked)

    score = commands.add_parser(
        "score",
        parents=[common],
        help="print scores of maps of a picture of yours",
        description="Explain the log-odds of a class, as EfficientNet-Lite0 sees a picture, by "
        "maps that take seconds. Print how much they leave unexplained of what changes of the "
        "picture do (infidelity), and how far they move with the picture (sensitivity).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    score.add_argument("picture", metavar="PICTURE", type=Path, help="a picture file")
    add_score_options(score)
    score.set_defaults(run=run_score)

    info = commands.add_parser("info", help="print versions and backends, and why one is missing")
    info.set_defaults(run=lambda options: print(hessx.info()))
    return parser


def _common() -> argparse.ArgumentParser:
    """Return the options that demo, explain and score share."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--target",
        metavar="CLASS",
        default=argparse.SUPPRESS,
        help="class to explain: a number from 0 to 999, a name or a part of one "
        "(default: the most probable class)",
    )
    common.add_argument(
        "--seed", metavar="S", type=integer(0, 2**63 - 1), default=0, help="of the noise"
    )
    return common
