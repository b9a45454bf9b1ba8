"""Options of the command line: what each takes, its default, the methods that it belongs to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hessx import demo

SMOOTH_HESS = "smooth-hess"
SMOOTHED = ("smooth-caso", "smooth-cafo")
SPARSE = ("caso", "cafo", *SMOOTHED)
LEG_TV = "leg-tv"
FROM_VALUES = ("leg", LEG_TV)
METHODS = {
    SMOOTH_HESS: "pairwise interactions, the Hessian of the smoothed logit",
    "caso": "the pixels whose sparse shift raises the loss most, to second order",
    "cafo": "the same to first order",
    "smooth-caso": "caso, averaged over noise",
    "smooth-cafo": "cafo, averaged over noise",
    "leg": "the gradient of the log-odds on a grid, from the network's answers alone",
    LEG_TV: "leg, with as little variation as the answers allow",
}
# What scores maps unless told otherwise: what is near the picture, and what is far from it.
SCORED_BY = ("gaussian", "square")


@dataclass(frozen=True)
class Option:
    """An option that only some methods have.

    Attributes:
        flag: As it is written.
        metavar: What stands for its value in the help.
        parse: From text to value.
        defaults: The methods that have it, and its value for each when it is not given.
        help: One line, without the default.
        instead: Whether it goes into the group of which one excludes the others.
    """

    flag: str
    metavar: str
    parse: Callable[[str], Any]
    defaults: Mapping[str, Any]
    help: str
    instead: bool = False

    @property
    def name(self) -> str:
        """Its attribute among the parsed options."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def methods(self) -> tuple[str, ...]:
        """Where it applies."""
        return tuple(self.defaults)

    def add(self, parser: argparse._ActionsContainer) -> None:
        """Add it, so that one that was not given leaves no trace."""
        parser.add_argument(
            self.flag,
            metavar=self.metavar,
            type=self.parse,
            default=argparse.SUPPRESS,
            help=self.help + self.shown_default(),
        )

    def shown_default(self) -> str:
        """Return what the help says of its default: one for all methods, or one for each."""
        by_value: dict[str, list[str]] = {}
        for method, default in self.defaults.items():
            if default is not None:
                by_value.setdefault(_written(default), []).append(method)
        if len(by_value) < 2:
            return "".join(f" (default: {value})" for value in by_value)
        each = (f"{value} for {' and '.join(methods)}" for value, methods in by_value.items())
        return f" (default: {', '.join(each)})"


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of integers in a range."""
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


def number(bounds: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a parser of finite numbers that are allowed."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and allowed(value)):
            raise argparse.ArgumentTypeError(f"must be a number {bounds}, got {text!r}")
        return value

    return parse


def numbers(bounds: str, allowed: Callable[[float], bool]) -> Callable[[str], tuple[float, ...]]:
    """Return a parser of one or more allowed numbers with commas between."""
    parse_one = number(bounds, allowed)
    return lambda text: tuple(parse_one(part) for part in text.split(","))


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a parser of one of these words."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"must be {' or '.join(allowed)}, got {text!r}")
        return text

    return parse


def words(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of one or more of these words, each once, with commas between."""
    parse_one = choice(*allowed)

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(map(parse_one, text.split(",")))
        if len(set(found)) < len(found):
            raise argparse.ArgumentTypeError(f"must be different words, got {text!r}")
        return found

    return parse


def _written(default: Any) -> str:
    """Return a default as one would type it."""
    if isinstance(default, tuple):
        return ",".join(map(_written, default))
    return default if isinstance(default, str) else f"{default:g}"


_positive = number("> 0", lambda value: value > 0)

OPTIONS = (
    Option(
        "--segments",
        "N",
        integer(2),
        {SMOOTH_HESS: demo.DEFAULT_SEGMENTS},
        "about how many superpixels",
    ),
    Option(
        "--grid",
        "N",
        integer(1, 224),
        {SMOOTH_HESS: demo.DEFAULT_GRID, **dict.fromkeys(FROM_VALUES, demo.DEFAULT_LEG_GRID)},
        "rows and columns of the grid",
    ),
    Option(
        "--sigma",
        "S",
        _positive,
        {SMOOTH_HESS: demo.DEFAULT_SIGMA, **dict.fromkeys(FROM_VALUES, demo.DEFAULT_LEG_SIGMA)},
        "standard deviation of the noise, in units of 128 grey levels; that of leg and leg-tv is "
        "twice this inside the grid",
    ),
    Option(
        "--n-samples",
        "N",
        integer(2),
        {
            SMOOTH_HESS: demo.DEFAULT_SAMPLES,
            **dict.fromkeys(FROM_VALUES, demo.DEFAULT_LEG_SAMPLES),
        },
        "gradients for the superpixels, and again for the grid; for leg and leg-tv, noisy copies "
        "of the picture",
    ),
    Option(
        "--channels",
        "CHANNELS",
        choice("shared", "separate"),
        dict.fromkeys(FROM_VALUES, "shared"),
        "shared shifts the colours of a cell together, separate has a grid for each",
    ),
    Option(
        "--K-L",
        "K,...",
        numbers("in (0, 1]", lambda value: 0 < value <= 1),
        {LEG_TV: demo.DEFAULT_K_L},
        "bounds, as shares of the one that leaves a constant, in (0, 1]; a map for each",
    ),
    Option(
        "--sparsity",
        "LOW",
        number("in [0, 1)", lambda value: 0 <= value < 1),
        dict.fromkeys(SPARSE, demo.DEFAULT_SPARSITY),
        "the least share of zero pixels; lambda1 is the smallest that keeps it",
        instead=True,
    ),
    Option(
        "--pixels",
        "K",
        integer(1, 224**2),
        dict.fromkeys(SPARSE),
        "at most so many pixels that are not zero",
        instead=True,
    ),
    Option(
        "--lambda1",
        "L",
        number(">= 0", lambda value: value >= 0),
        dict.fromkeys(SPARSE),
        "weight of the sum of sizes",
        instead=True,
    ),
    Option(
        "--smooth-samples",
        "N",
        integer(1),
        dict.fromkeys(SMOOTHED, demo.DEFAULT_SMOOTH_SAMPLES),
        "noisy copies of the picture",
    ),
    Option(
        "--smooth-sigma",
        "S",
        _positive,
        dict.fromkeys(SMOOTHED, demo.DEFAULT_SMOOTH_SIGMA),
        "standard deviation of their noise, in units of 128 grey levels; the paper's .15 is a "
        "share of the range, which is 2 such units",
    ),
)


def add_options(parser: argparse.ArgumentParser, methods: Iterable[str]) -> None:
    """Add the options of these methods in a group for each set of methods that share some."""
    wanted = set(methods)
    found = [option for option in OPTIONS if wanted & set(option.methods)]
    for shared in dict.fromkeys(option.methods for option in found):
        group = parser.add_argument_group(f"options of {', '.join(shared)}")
        alike = [option for option in found if option.methods == shared]
        # Python 3.11 cannot print the help of an empty group.
        instead = (
            group.add_mutually_exclusive_group() if any(each.instead for each in alike) else group
        )
        for option in alike:
            option.add(instead if option.instead else group)


def misplaced(options: argparse.Namespace, method: str) -> str | None:
    """Return what is wrong if an option of another method was given, else None."""
    for option in OPTIONS:
        if hasattr(options, option.name) and method not in option.methods:
            return (
                f"argument {option.flag}: goes with --method {' or '.join(option.methods)}, "
                f"not with {method}"
            )
    return None


def settled(options: argparse.Namespace, method: str) -> argparse.Namespace:
    """Return the options with the method's defaults in place of what was not given."""
    defaults = {
        option.name: option.defaults[method] for option in OPTIONS if method in option.methods
    }
    return argparse.Namespace(**{**defaults, **vars(options)})
