"""Scores of explanations."""

from hessx.score.deletion import DeletionCurve, deletion_curve
from hessx.score.infidelity import infidelity
from hessx.score.perturb_call import infidelity_perturb_func_decorator
from hessx.score.randomization import Cascade, cascading_randomization
from hessx.score.robust import robust_infidelity
from hessx.score.sensitivity import sensitivity_max
from hessx.score.taylor import perturbation_mse

__all__ = [
    "Cascade",
    "DeletionCurve",
    "cascading_randomization",
    "deletion_curve",
    "infidelity",
    "infidelity_perturb_func_decorator",
    "perturbation_mse",
    "robust_infidelity",
    "sensitivity_max",
]
