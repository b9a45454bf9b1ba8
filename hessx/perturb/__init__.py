"""Draw perturbations: counter-based, so that a draw depends on its number alone."""

from hessx.perturb.covariates import Covariates, GridTVCovariates, RootCovariates
from hessx.perturb.draws import SAMPLINGS, NormalDraws
from hessx.perturb.gaussian import FeatureNoise, InputNoise, Noise
from hessx.perturb.noise import Gaussian, NoisyBaseline
from hessx.perturb.perturbation import BoundPerturbation, Perturbation
from hessx.perturb.squares import Square
from hessx.perturb.subsets import Shap, Subsets

__all__ = [
    "SAMPLINGS",
    "BoundPerturbation",
    "Covariates",
    "FeatureNoise",
    "Gaussian",
    "GridTVCovariates",
    "InputNoise",
    "Noise",
    "NoisyBaseline",
    "NormalDraws",
    "Perturbation",
    "RootCovariates",
    "Shap",
    "Square",
    "Subsets",
]
