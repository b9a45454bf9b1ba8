"""Ask a model for values, gradients and Hessian-vector products, and leave it as found."""

from hessx.query.black_box import BlackBoxQuery
from hessx.query.explanation import ExplanationQuery
from hessx.query.linearization import Linearization
from hessx.query.loss import LossQuery
from hessx.query.target import Contrast, Targets, target_index
from hessx.query.values import GradientQuery, ValueQuery

__all__ = [
    "BlackBoxQuery",
    "Contrast",
    "ExplanationQuery",
    "GradientQuery",
    "Linearization",
    "LossQuery",
    "Targets",
    "ValueQuery",
    "target_index",
]
