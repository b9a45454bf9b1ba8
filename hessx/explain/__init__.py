"""What users call: one module for each explanation."""

from hessx.explain.caso import cafo, caso, caso_path
from hessx.explain.input_hessian import InputHessian, input_hessian
from hessx.explain.leg import Leg, leg
from hessx.explain.leg_tv import LegTV, leg_tv, leg_tv_from
from hessx.explain.optimal import Optimal, optimal_explanation
from hessx.explain.saliency_map import saliency_map
from hessx.explain.smooth import smooth_explanation
from hessx.explain.smooth_hess import SmoothHess, sigma_for_radius, smooth_hess
from hessx.explain.sparse_saliency import SparsePath, SparseSaliency

__all__ = [
    "InputHessian",
    "Leg",
    "LegTV",
    "Optimal",
    "SmoothHess",
    "SparsePath",
    "SparseSaliency",
    "cafo",
    "caso",
    "caso_path",
    "input_hessian",
    "leg",
    "leg_tv",
    "leg_tv_from",
    "optimal_explanation",
    "saliency_map",
    "sigma_for_radius",
    "smooth_explanation",
    "smooth_hess",
]
