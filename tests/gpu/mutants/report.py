"""What became of the mutants: counts by kernel and mistake, and what is not as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.gpu.mutants.mutant import Mutant
from tests.gpu.mutants.survivors import EQUIVALENT, Key
from tests.gpu.mutants.trials import STILLBORN, SURVIVED, Outcome

REQUIRED_SHARE = 0.95


@dataclass(frozen=True)
class Result:
    """A mutant, how its trial ended, and why it survived if that is known."""

    mutant: Mutant
    outcome: Outcome
    reason: str = ""

    @property
    def verdict(self) -> str:
        """The outcome's, or "equivalent" for a survivor that does what the original does."""
        survived = self.outcome.verdict == SURVIVED
        return (
            "equivalent"
            if survived and self.reason.startswith(EQUIVALENT)
            else (self.outcome.verdict)
        )


class Counts:
    """Numbers of mutants by what became of them."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._verdicts = Counter(result.verdict for result in results)
        self.stillborn = self._verdicts.pop(STILLBORN, 0)
        self.mutants = self._verdicts.total()
        self.equivalent = self._verdicts.pop("equivalent", 0)
        self.survived = self._verdicts.pop(SURVIVED, 0)
        self.caught = self._verdicts.total()

    @property
    def share(self) -> float:
        """Share caught of those that change behaviour; 1 where there are none."""
        changing = self.caught + self.survived
        return self.caught / changing if changing else 1.0

    def row(self) -> str:
        """The counts in columns."""
        by = ", ".join(f"{verdict} {n}" for verdict, n in self._verdicts.most_common())
        return (
            f"{self.mutants:7d} {self.equivalent:10d} {self.caught:6d} {self.survived:8d} "
            f"{self.share:7.1%}  {by}"
        )


def table(results: Sequence[Result]) -> Iterator[str]:
    """Lines: a block a kernel, a line a kind of mistake, and the totals."""
    width = 14
    heading = f"{'':{width}} mutants equivalent caught survived   share  caught by"
    kernels = dict.fromkeys(result.mutant.kernel for result in results)
    for kernel in kernels:
        here = [result for result in results if result.mutant.kernel == kernel]
        yield from ("", kernel, heading)
        yield from _by_operator(here, width)
        yield f"{'all':{width}} {Counts(here).row()}"
    yield from ("", "all kernels", heading)
    yield from _by_operator(results, width)
    total = Counts(results)
    yield f"{'all':{width}} {total.row()}"
    yield f"not counted: {total.stillborn} that are no programs (errors of types or shapes)"


def _by_operator(results: Sequence[Result], width: int) -> Iterator[str]:
    for operator in dict.fromkeys(result.mutant.operator for result in results):
        counts = Counts(result for result in results if result.mutant.operator == operator)
        if counts.mutants:
            yield f"{operator:{width}} {counts.row()}"


def complaints(
    results: Sequence[Result], reasons: Mapping[Key, str], kernels: Collection[str]
) -> Iterator[str]:
    """What makes a run fail.

    Args:
        results: Of the run.
        reasons: The list of survivors.
        kernels: Those of which every mutant was run.
    """
    outcomes = {result.mutant.key: result.outcome for result in results}
    for key, outcome in outcomes.items():
        if outcome.verdict == SURVIVED and key not in reasons:
            yield f"survived, with no reason in the list: {_text(key)}"
    for key in reasons:
        if key[0] not in kernels:
            continue
        if key not in outcomes:
            yield f"in the list of survivors, but there is no such mutant: {_text(key)}"
        elif outcomes[key].verdict != SURVIVED:
            yield f"in the list of survivors, but {_ending(outcomes[key])}: {_text(key)}"
    share = Counts(results).share
    if share < REQUIRED_SHARE:
        yield f"only {share:.1%} of the mutants that change behaviour were caught"


def _ending(outcome: Outcome) -> str:
    if outcome.caught:
        return f"caught ({outcome.verdict}) by {outcome.case}"
    return f"no program ({outcome.message})"


def _text(key: Key) -> str:
    kernel, operator, site = key
    return f"{kernel}, {operator}: {site}"
