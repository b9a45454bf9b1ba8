"""The command ``hessx``: the demo, a picture explained, what is installed."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hessx
from hessx import demo

if TYPE_CHECKING:
    from hessx.demo import Photograph

_METHODS = ("smooth-hess",)


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
    settings = _settings()

    show = commands.add_parser(
        "demo",
        parents=[settings],
        help="explain a photograph of a cat and write a page about it",
        description="Explain a photograph of a cat, as EfficientNet-Lite0 sees it, and write an "
        "HTML page: the superpixels and grid cells that act together.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    show.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/demo"), help="folder of the page"
    )
    show.set_defaults(run=_demo)

    explain = commands.add_parser(
        "explain",
        parents=[settings],
        help="explain a picture of yours",
        description="Explain a picture, as EfficientNet-Lite0 sees it, and write an HTML page.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    explain.add_argument("picture", metavar="PICTURE", type=Path, help="a picture file")
    explain.add_argument(
        "--method",
        choices=_METHODS,
        default=_METHODS[0],
        help="smooth-hess: pairwise interactions, the Hessian of the smoothed logit",
    )
    explain.add_argument(
        "--out",
        metavar="FILE.html",
        type=Path,
        # Suppressed from the help's automatic "(default: None)".
        default=argparse.SUPPRESS,
        help="the page (default: PICTURE's name, with -METHOD.html, in this folder)",
    )
    explain.set_defaults(run=_explain)

    info = commands.add_parser("info", help="print versions and backends, and why one is missing")
    info.set_defaults(run=lambda options: print(hessx.info()))
    return parser


def _settings() -> argparse.ArgumentParser:
    """Return the options that demo and explain share."""
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument(
        "--target",
        metavar="CLASS",
        default=argparse.SUPPRESS,
        help="class to explain: a number from 0 to 999, a name or a part of one "
        "(default: the most probable class)",
    )
    settings.add_argument(
        "--segments",
        metavar="N",
        type=_integer(2),
        default=demo.DEFAULT_SEGMENTS,
        help="about how many superpixels",
    )
    settings.add_argument(
        "--grid",
        metavar="N",
        type=_integer(1, 224),
        default=demo.DEFAULT_GRID,
        help="rows and columns of the grid",
    )
    settings.add_argument(
        "--sigma",
        metavar="S",
        type=_positive,
        default=demo.DEFAULT_SIGMA,
        help="standard deviation of the noise, in units of 128 grey levels",
    )
    settings.add_argument(
        "--n-samples",
        metavar="N",
        type=_integer(2),
        default=demo.DEFAULT_SAMPLES,
        help="gradients for the superpixels, and again for the grid",
    )
    settings.add_argument(
        "--seed", metavar="S", type=_integer(0, 2**63 - 1), default=0, help="of the noise"
    )
    return settings


def _demo(options: argparse.Namespace) -> None:
    _write(options, demo.example_photograph(), options.out / "index.html")


def _explain(options: argparse.Namespace) -> None:
    default = Path(f"{options.picture.stem}-{options.method}.html")
    out = getattr(options, "out", default)
    if out.is_dir():
        raise IsADirectoryError(f"--out must be a file, {out} is a folder")
    _write(options, demo.load_photograph(options.picture), out)


def _write(options: argparse.Namespace, photograph: Photograph, out: Path) -> None:
    started = time.perf_counter()
    width, height = photograph.size
    _report(f"picture    {photograph.name}, {width} x {height}")
    classifier = demo.efficientnet_lite0()
    _report(f"model      {classifier.name}")
    text = getattr(options, "target", None)
    target = None if text is None else classifier.class_index(text)
    # Before the work, so that it is not lost, and after every mistake that is known by now.
    out.parent.mkdir(parents=True, exist_ok=True)
    explanation = demo.explain_photograph(
        classifier,
        photograph,
        target=target,
        n_segments=options.segments,
        grid=options.grid,
        sigma=options.sigma,
        n_samples=options.n_samples,
        seed=options.seed,
        report=_report,
    )
    demo.write_page(explanation, out)
    _report(f"total      {time.perf_counter() - started:.1f} s")
    _report(f"page       {out} ({out.stat().st_size / 1000:.0f} kB)")


def _report(line: str) -> None:
    print(line, flush=True)


def _integer(low: int, high: int | None = None) -> Callable[[str], int]:
    bounds = f">= {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer {bounds}, got {text!r}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be an integer {bounds}, got {text}")
        return value

    return parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return value
