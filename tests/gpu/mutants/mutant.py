"""A mutant: a source with one planted mistake, named so that it is found again when lines move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Edit:
    """The characters from `start` to `end` of a source replaced by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Mistake:
    """What an operator did at one place: edits that belong together, in order, disjoint."""

    operator: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Mutant:
    """One mistake in one function of one file.

    Attributes:
        path: The file, relative to the root of the repository.
        function: The function that the mistake is in.
        operator: The kind of mistake.
        line: Line of the first edit, from 1.
        site: The lines at fault, "before => after", numbered where a function has them twice.
        edits: What changes.
    """

    path: str
    function: str
    operator: str
    line: int
    site: str
    edits: tuple[Edit, ...]

    @property
    def kernel(self) -> str:
        return f"{self.path}::{self.function}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What the list of survivors knows it by."""
        return self.kernel, self.operator, self.site


def apply(source: str, edits: Iterable[Edit]) -> str:
    """Carry out edits that do not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        source = source[: edit.start] + edit.text + source[edit.end :]
    return source


def named(path: str, source: str, mistakes: Iterable[tuple[str, Mistake]]) -> list[Mutant]:
    """Make mutants of the mistakes (function, mistake), first to last, each edit once a function.

    Two operators may do the same to a source: the first one counts.
    """
    mutants = []
    seen: set[tuple[str, str]] = set()
    numbers: Counter = Counter()
    for function, mistake in mistakes:
        mutated = apply(source, mistake.edits)
        if mutated == source or (function, mutated) in seen:
            continue
        seen.add((function, mutated))
        mutant = Mutant(
            path,
            function,
            mistake.operator,
            source.count("\n", 0, mistake.edits[0].start) + 1,
            _site(source, mistake.edits),
            mistake.edits,
        )
        numbers[mutant.key] += 1
        if numbers[mutant.key] > 1:
            mutant = replace(mutant, site=f"{mutant.site} ({numbers[mutant.key]})")
        mutants.append(mutant)
    return mutants


def _site(source: str, edits: tuple[Edit, ...]) -> str:
    begin = source.rfind("\n", 0, min(edit.start for edit in edits)) + 1
    end = source.find("\n", max(edit.end for edit in edits))
    end = len(source) if end < 0 else end
    shifted = (Edit(edit.start - begin, edit.end - begin, edit.text) for edit in edits)
    before = source[begin:end]
    return f"{_one_line(before)} => {_one_line(apply(before, shifted))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
