"""Ask a model for values, gradients and Hessian-vector products, and leave it as found."""

from hessx.query.linearization import Linearization
from hessx.query.loss import LossQuery
from hessx.query.target import target_index
from hessx.query.values import GradientQuery, ValueQuery

__all__ = ["GradientQuery", "Linearization", "LossQuery", "ValueQuery", "target_index"]
