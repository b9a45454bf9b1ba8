"""Options of the command line: what each takes, its default, the methods that it belongs to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hessx import demo

SMOOTH_HESS = "smooth-hess"
SMOOTHED = ("smooth-caso", "smooth-cafo")
SPARSE = ("caso", "cafo", *SMOOTHED)
METHODS = {
    SMOOTH_HESS: "pairwise interactions, the Hessian of the smoothed logit",
    "caso": "the pixels whose sparse shift raises the loss most, to second order",
    "cafo": "the same to first order",
    "smooth-caso": "caso, averaged over noise",
    "smooth-cafo": "cafo, averaged over noise",
}


@dataclass(frozen=True)
class Option:
    """An option that only some methods have.

    Attributes:
        flag: As it is written.
        metavar: What stands for its value in the help.
        parse: From text to value.
        default: Its value when it is not given.
        help: One line, without the default.
        methods: Where it applies.
        instead: Whether it goes into the group of which one excludes the others.
    """

    flag: str
    metavar: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    methods: tuple[str, ...]
    instead: bool = False

    @property
    def name(self) -> str:
        """Its attribute among the parsed options."""
        return self.flag.removeprefix("--").replace("-", "_")

    def add(self, parser: argparse._ActionsContainer) -> None:
        """Add it, so that one that was not given leaves no trace."""
        default = "" if self.default is None else f" (default: {self.default:g})"
        parser.add_argument(
            self.flag,
            metavar=self.metavar,
            type=self.parse,
            default=argparse.SUPPRESS,
            help=self.help + default,
        )


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


_positive = number("> 0", lambda value: value > 0)

OPTIONS = (
    Option(
        "--segments",
        "N",
        integer(2),
        demo.DEFAULT_SEGMENTS,
        "about how many superpixels",
        (SMOOTH_HESS,),
    ),
    Option(
        "--grid",
        "N",
        integer(1, 224),
        demo.DEFAULT_GRID,
        "rows and columns of the grid",
        (SMOOTH_HESS,),
    ),
    Option(
        "--sigma",
        "S",
        _positive,
        demo.DEFAULT_SIGMA,
        "standard deviation of the noise, in units of 128 grey levels",
        (SMOOTH_HESS,),
    ),
    Option(
        "--n-samples",
        "N",
        integer(2),
        demo.DEFAULT_SAMPLES,
        "gradients for the superpixels, and again for the grid",
        (SMOOTH_HESS,),
    ),
    Option(
        "--sparsity",
        "LOW",
        number("in [0, 1)", lambda value: 0 <= value < 1),
        demo.DEFAULT_SPARSITY,
        "the least share of zero pixels; lambda1 is the smallest that keeps it",
        SPARSE,
        instead=True,
    ),
    Option(
        "--pixels",
        "K",
        integer(1, 224**2),
        None,
        "at most so many pixels that are not zero",
        SPARSE,
        instead=True,
    ),
    Option(
        "--lambda1",
        "L",
        number(">= 0", lambda value: value >= 0),
        None,
        "weight of the sum of sizes",
        SPARSE,
        instead=True,
    ),
    Option(
        "--smooth-samples",
        "N",
        integer(1),
        demo.DEFAULT_SMOOTH_SAMPLES,
        "noisy copies of the picture",
        SMOOTHED,
    ),
    Option(
        "--smooth-sigma",
        "S",
        _positive,
        demo.DEFAULT_SMOOTH_SIGMA,
        "standard deviation of their noise, in units of 128 grey levels; the paper's .15 is a "
        "share of the range, which is 2 such units",
        SMOOTHED,
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


def settle(options: argparse.Namespace, method: str) -> str | None:
    """Give the method's options that were not given their defaults.

    Returns:
        What is wrong if an option of another method was given, else None.
    """
    for option in OPTIONS:
        if method in option.methods:
            if not hasattr(options, option.name):
                setattr(options, option.name, option.default)
        elif hasattr(options, option.name):
            return (
                f"argument {option.flag}: goes with --method {' or '.join(option.methods)}, "
                f"not with {method}"
            )
    return None
