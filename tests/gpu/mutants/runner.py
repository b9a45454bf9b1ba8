"""Running mutants of both languages, with the list of survivors beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from tests.gpu.mutants import cuda_trials, triton_trials
from tests.gpu.mutants.mutant import Mutant
from tests.gpu.mutants.report import Result
from tests.gpu.mutants.survivors import Key
from tests.gpu.mutants.trials import SURVIVED, outcomes

SUITES: tuple[ModuleType, ...] = (triton_trials, cuda_trials)
# Slower cases are left to the tests: here, each survivor would wait for them.
LONGEST_CASE_SECONDS = 2.0

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
    """Try mutants with the cases in the order in which their files have them."""
    results = []
    for (suite, _), mutants in chosen.items():
        suite.prepare()
        results += try_mutants(suite, mutants, None, reasons, processes, say)
    return results


def run(found: FoundMutants, reasons: Mapping[Key, str], processes: int, say: Say) -> list[Result]:
    """Try every file as it is, then its mutants, the quick cases first.

    Raises:
        RuntimeError: If a check fails on a file as it is.
    """
    results = []
    for (suite, path), mutants in found.items():
        suite.prepare()
        cases = _cases(suite, path, say)
        results += try_mutants(suite, mutants, cases, reasons, processes, say)
    return results


def _cases(suite: ModuleType, path: str, say: Say) -> list[str]:
    begin = time.monotonic()
    ((_, outcome),) = outcomes([suite.clean_trial(path)], 1)
    if outcome.verdict != SURVIVED:
        raise RuntimeError(
            f"{path} as it is: {outcome.verdict} in {outcome.case}: {outcome.message}"
        )
    quick = {name for name, seconds in outcome.seconds.items() if seconds <= LONGEST_CASE_SECONDS}
    say(
        f"{path} as it is: {len(outcome.seconds)} cases pass, {len(quick)} of them are taken "
        f"({time.monotonic() - begin:.0f} s)"
    )
    return sorted(quick, key=outcome.seconds.__getitem__)


def try_mutants(
    suite: ModuleType,
    mutants: Sequence[Mutant],
    cases: Sequence[str] | None,
    reasons: Mapping[Key, str],
    processes: int,
    say: Say,
) -> list[Result]:
    """Try mutants of one file with the cases named, or with all of them."""
    begin = time.monotonic()
    results: list[Result | None] = [None] * len(mutants)
    trials = [suite.trial(mutant, cases) for mutant in mutants]
    for done, (index, outcome) in enumerate(outcomes(trials, processes), 1):
        mutant = mutants[index]
        results[index] = Result(mutant, outcome, reasons.get(mutant.key, ""))
        if outcome.verdict == SURVIVED and mutant.key not in reasons:
            say(f"survived: {mutant.path}:{mutant.line} {mutant.operator}: {mutant.site}")
        if done % 50 == 0 or done == len(mutants):
            say(f"{mutant.path}: {done}/{len(mutants)} ({time.monotonic() - begin:.0f} s)")
    return results
