"""Explanations of single predictions."""

from hessx.explain.caso import cafo, caso, caso_path
from hessx.explain.input_hessian import InputHessian, input_hessian
from hessx.explain.smooth_hess import SmoothHess, sigma_for_radius, smooth_hess
from hessx.explain.sparse_saliency import SparsePath, SparseSaliency

__all__ = [
    "InputHessian",
    "SmoothHess",
    "SparsePath",
    "SparseSaliency",
    "cafo",
    "caso",
    "caso_path",
    "input_hessian",
    "sigma_for_radius",
    "smooth_hess",
]
