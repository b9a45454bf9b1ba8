"""Running mutants of both languages, with the list of survivors beside them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from tests.gpu.mutants import cuda_trials, triton_trials
from tests.gpu.mutants.mutant import Mutant
from tests.gpu.mutants.report import Result
from tests.gpu.mutants.survivors import Key
from tests.gpu.mutants.trials import SURVIVED, Outcome, outcomes

SUITES: tuple[ModuleType, ...] = (triton_trials, cuda_trials)
Say = Callable[[str], None]
# By suite and file.
FoundMutants = dict[tuple[ModuleType, str], list[Mutant]]


def all_mutants(pattern: str = "") -> FoundMutants:
    """Mutants of the kernels whose name contains `pattern`."""
    found: FoundMutants = {}
    for suite in SUITES:
        for path in suite.sources():
            if mutants := [mutant for mutant in suite.mutants(path) if pattern in mutant.kernel]:
                found[suite, path] = mutants
    return found


def sample(found: FoundMutants, size: int, reasons: Mapping[Key, str]) -> FoundMutants:
    """Choose mutants that must be caught, spread evenly over all."""
    changing = [
        (place, mutant)
        for place, mutants in found.items()
        for mutant in mutants
        if mutant.key not in reasons
    ]
    chosen: FoundMutants = {}
    for index in range(size):
        place, mutant = changing[(2 * index + 1) * len(changing) // (2 * size)]
        chosen.setdefault(place, []).append(mutant)
    return chosen


def run_sample(
    chosen: FoundMutants, reasons: Mapping[Key, str], processes: int, say: Say
) -> list[Result]:
    """Try mutants with the cases in the order in which their files have them.

    Raises:
        RuntimeError: If a case that caught a mutant fails on its file as it is.
    """
    results = []
    for (suite, path), mutants in chosen.items():
        suite.prepare()
        tried = try_mutants(suite, mutants, None, reasons, processes, say)
        cases = sorted({result.outcome.case for result in tried if result.outcome.caught})
        # What ended a process names no case: any of them may have.
        _clean(suite, path, None if "" in cases else cases)
        results += tried
    return results


def run(found: FoundMutants, reasons: Mapping[Key, str], processes: int, say: Say) -> list[Result]:
    """Try every file as it is, then its mutants, the cases that catch most in their time first.

    Raises:
        RuntimeError: If a check fails on a file as it is.
    """
    results = []
    for (suite, path), mutants in found.items():
        suite.prepare()
        seconds = _seconds_of_cases(suite, path, say)
        results += try_mutants(suite, mutants, seconds, reasons, processes, say)
    return results


def _seconds_of_cases(suite: ModuleType, path: str, say: Say) -> dict[str, float]:
    begin = time.monotonic()
    outcome = _clean(suite, path, None)
    # Slower cases are left to the tests: they would come too near to the time of a hang.
    quick = {
        name: seconds
        for name, seconds in outcome.seconds.items()
        if seconds <= suite.SECONDS_A_CASE / 10
    }
    say(
        f"{path} as it is: {len(outcome.seconds)} cases pass, {len(quick)} of them are taken "
        f"({time.monotonic() - begin:.0f} s)"
    )
    return quick


def _clean(suite: ModuleType, path: str, cases: Sequence[str] | None) -> Outcome:
    ((_, outcome),) = outcomes([suite.clean_trial(path, cases)], 1)
    if outcome.verdict != SURVIVED:
        raise RuntimeError(
            f"{path} as it is: {outcome.verdict} in {outcome.case}: {outcome.message}"
        )
    return outcome


def try_mutants(
    suite: ModuleType,
    mutants: Sequence[Mutant],
    seconds: Mapping[str, float] | None,
    reasons: Mapping[Key, str],
    processes: int,
    say: Say,
) -> list[Result]:
    """Try mutants of one file with the cases of which the time is given, or with all of them."""
    begin = time.monotonic()
    results: list[Result | None] = [None] * len(mutants)
    # All trials share this list, and take the order that it has when they begin.
    cases = None if seconds is None else sorted(seconds, key=seconds.__getitem__)
    caught: Counter[str] = Counter()
    trials = [suite.trial(mutant, cases) for mutant in mutants]
    for done, (index, outcome) in enumerate(outcomes(trials, processes), 1):
        mutant = mutants[index]
        results[index] = Result(mutant, outcome, reasons.get(mutant.key, ""))
        if outcome.case and cases:
            caught[outcome.case] += 1
            cases.sort(key=lambda name: seconds[name] / (1 + caught[name]))
        if outcome.verdict == SURVIVED and mutant.key not in reasons:
            say(f"survived: {mutant.path}:{mutant.line} {mutant.operator}: {mutant.site}")
        if done % 50 == 0 or done == len(mutants):
            say(f"{mutant.path}: {done}/{len(mutants)} ({time.monotonic() - begin:.0f} s)")
    return results
