"""The linear program of LEG-TV: its solvers, and what certifies them."""

from hessx.solve.tv.general import GeneralTVSolution, largest_bound, solve_tv_general
from hessx.solve.tv.program import SOLVERS, solve_tv
from hessx.solve.tv.solution import TVSolution
from hessx.solve.tv.theory import theory_bound

__all__ = [
    "SOLVERS",
    "GeneralTVSolution",
    "TVSolution",
    "largest_bound",
    "solve_tv",
    "solve_tv_general",
    "theory_bound",
]
