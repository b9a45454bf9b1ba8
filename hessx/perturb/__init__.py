"""Draw perturbations: counter-based, so that a draw depends on its number alone."""

from hessx.perturb.covariates import Covariates, GridTVCovariates, RootCovariates
from hessx.perturb.draws import SAMPLINGS, NormalDraws
from hessx.perturb.gaussian import FeatureNoise, InputNoise, Noise
from hessx.perturb.perturbation import BoundPerturbation, Perturbation

__all__ = [
    "SAMPLINGS",
    "BoundPerturbation",
    "Covariates",
    "FeatureNoise",
    "GridTVCovariates",
    "InputNoise",
    "Noise",
    "NormalDraws",
    "Perturbation",
    "RootCovariates",
]
