"""What users call: one module for each explanation."""

from hessx.explain.smooth_hess import SmoothHess, sigma_for_radius, smooth_hess

__all__ = ["SmoothHess", "sigma_for_radius", "smooth_hess"]
