"""hessx: explain trained networks with curvature and with statistics, on compiled kernels."""

from hessx import covariance, ops, perturb
from hessx.backends import backend
from hessx.explain import (
    InputHessian,
    Leg,
    LegTV,
    Optimal,
    SmoothHess,
    SparsePath,
    SparseSaliency,
    cafo,
    caso,
    caso_path,
    input_hessian,
    leg,
    leg_tv,
    leg_tv_from,
    optimal_explanation,
    saliency_map,
    sigma_for_radius,
    smooth_explanation,
    smooth_hess,
)
from hessx.features import Basis, Grid, Identity, Segments
from hessx.info import info
from hessx.query import Contrast, Targets
from hessx.score import (
    Cascade,
    DeletionCurve,
    cascading_randomization,
    deletion_curve,
    infidelity,
    infidelity_perturb_func_decorator,
    perturbation_mse,
    robust_infidelity,
    sensitivity_max,
)
from hessx.warmup import warmup

__version__ = "0.1.0"

__all__ = [
    "Basis",
    "Cascade",
    "Contrast",
    "DeletionCurve",
    "Grid",
    "Identity",
    "InputHessian",
    "Leg",
    "LegTV",
    "Optimal",
    "Segments",
    "SmoothHess",
    "SparsePath",
    "SparseSaliency",
    "Targets",
    "backend",
    "cafo",
    "cascading_randomization",
    "caso",
    "caso_path",
    "covariance",
    "deletion_curve",
    "infidelity",
    "infidelity_perturb_func_decorator",
    "info",
    "input_hessian",
    "leg",
    "leg_tv",
    "leg_tv_from",
    "ops",
    "optimal_explanation",
    "perturb",
    "perturbation_mse",
    "robust_infidelity",
    "saliency_map",
    "sensitivity_max",
    "sigma_for_radius",
    "smooth_explanation",
    "smooth_hess",
    "warmup",
]
