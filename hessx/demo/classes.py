"""The classes that the demo shows, and the one that it explains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.demo.classifier import Classifier

_TOP_CLASSES = 5


@dataclass(frozen=True)
class ClassScore:
    """One class's answer for the photograph."""

    index: int
    name: str
    probability: float
    logit: float


def score_classes(
    classifier: Classifier, inputs: Tensor, target: int | None
) -> tuple[tuple[ClassScore, ...], ClassScore]:
    """Return the most probable classes, best first, and the class to explain.

    Args:
        classifier: The network.
        inputs: ``(1, 3, H, W)``.
        target: The class to explain, by default the most probable one.

    Raises:
        ValueError: If the target is no class.
    """
    with torch.no_grad():
        logits = classifier.model(inputs)[0]
    if target is not None and not 0 <= target < len(logits):
        raise ValueError(f"target must be a class from 0 to {len(logits) - 1}, got {target}")
    best = logits.topk(min(_TOP_CLASSES, len(logits))).indices.tolist()
    probabilities = logits.softmax(0)

    def score(index: int) -> ClassScore:
        return ClassScore(
            index,
            classifier.class_names[index].partition(",")[0],
            float(probabilities[index]),
            float(logits[index]),
        )

    classes = tuple(score(index) for index in best)
    return classes, classes[0] if target is None else score(target)
