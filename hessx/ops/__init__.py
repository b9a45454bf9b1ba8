"""Ops: the arithmetic that is worth a kernel, one call for every device and backend."""

from hessx.ops import table
from hessx.ops.moments import core_moments, cross_moments
from hessx.ops.noise import normal, uniform

__all__ = ["core_moments", "cross_moments", "normal", "table", "uniform"]
