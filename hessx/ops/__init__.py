"""Ops: the arithmetic that is worth a kernel, one call for every device and backend."""

from hessx.ops import table
from hessx.ops.boxes import box_sums, box_sums_adjoint
from hessx.ops.edges import edge_divergence, edge_prox, edge_update
from hessx.ops.eigh import eigh
from hessx.ops.flow import tv_flow
from hessx.ops.grid import (
    grid_curl,
    grid_curl_adjoint,
    grid_difference,
    grid_difference_adjoint,
    grid_laplacian,
    grid_spectral,
)
from hessx.ops.grid_noise import grid_normal
from hessx.ops.infidelity import perturbation_dots, perturbation_gradient
from hessx.ops.moments import core_moments, cross_moments, normal_moments
from hessx.ops.noise import normal, uniform
from hessx.ops.prox import gram, prox_pass
from hessx.ops.shrink import fista_step, soft_threshold
from hessx.ops.softmax import softmax_product
from hessx.ops.trust_region import trust_region

__all__ = [
    "box_sums",
    "box_sums_adjoint",
    "core_moments",
    "cross_moments",
    "edge_divergence",
    "edge_prox",
    "edge_update",
    "eigh",
    "fista_step",
    "gram",
    "grid_curl",
    "grid_curl_adjoint",
    "grid_difference",
    "grid_difference_adjoint",
    "grid_laplacian",
    "grid_normal",
    "grid_spectral",
    "normal",
    "normal_moments",
    "perturbation_dots",
    "perturbation_gradient",
    "prox_pass",
    "soft_threshold",
    "softmax_product",
    "table",
    "trust_region",
    "tv_flow",
    "uniform",
]
