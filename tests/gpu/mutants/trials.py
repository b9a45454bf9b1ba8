"""Trials: each in a process of its own, forked, so that a crash or an endless loop ends only it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

SURVIVED = "survived"
STILLBORN = "stillborn"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        verdict: "survived", "stillborn" (not a program: it does not compile or cannot be traced),
            or what caught it: "value", "bounds", "race", "hang", "crash", ...
        case: The case that failed.
        message: The first line of its error.
        seconds: Of each case that passed.
    """

    verdict: str
    case: str = ""
    message: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def caught(self) -> bool:
        return self.verdict not in (SURVIVED, STILLBORN)


# How a kernel ends a process.
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}

Trial = Callable[[], Outcome]


def run_cases(
    cases: Mapping[str, Callable[[], None]],
    verdict_of: Callable[[Exception], str],
    seconds: float,
) -> Outcome:
    """Run cases up to the first that fails; a case that takes more `seconds` ends the process."""
    passed: dict[str, float] = {}
    for name, case in cases.items():
        begin = time.process_time()
        # Time of the processor, so that other work on the machine makes no case too slow. No
        # handler: an endless loop in compiled code would never come back to call one.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            case()
        except Exception as error:
            return Outcome(verdict_of(error), name, _first_line(error), passed)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        passed[name] = time.process_time() - begin
    return Outcome(SURVIVED, seconds=passed)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def outcomes(trials: Sequence[Trial], processes: int) -> Iterator[tuple[int, Outcome]]:
    """Run trials, `processes` at a time, and yield (index, outcome) as they end."""
    context = multiprocessing.get_context("fork")
    running: dict[Connection, tuple[int, multiprocessing.Process]] = {}
    waiting = iter(enumerate(trials))
    while True:
        while len(running) < processes and (following := next(waiting, None)):
            index, trial = following
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(trial, sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = index, process
        if not running:
            return
        for receiver in wait(running):
            index, process = running.pop(receiver)
            yield index, _received(receiver, process)


def _run(trial: Trial, sender: Connection) -> None:
    # What a broken kernel prints on its way is no news, nor where it crashed.
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sender.send(trial())


def _received(receiver: Connection, process: multiprocessing.Process) -> Outcome:
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = None
    process.join()
    receiver.close()
    if outcome is not None:
        return outcome
    if process.exitcode == -signal.SIGPROF:
        return Outcome("hang")
    if -process.exitcode in _CRASHES:
        return Outcome("crash", message=f"signal {-process.exitcode}")
    # Not the mutant's doing: the trial itself failed, or was killed for want of memory.
    raise RuntimeError(f"a trial ended with exit status {process.exitcode} and no outcome")
