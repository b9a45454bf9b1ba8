"""What users call: one module for each explanation."""

from hessx.explain.saliency_map import saliency_map
from hessx.explain.smooth_hess import SmoothHess, sigma_for_radius, smooth_hess

__all__ = ["SmoothHess", "saliency_map", "sigma_for_radius", "smooth_hess"]
