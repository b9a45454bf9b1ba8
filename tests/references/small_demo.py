"""A picture and a network that the demo explains in no time, with names that HTML must escape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hessx import demo


def small_photograph(folder: Path, side: int) -> demo.Photograph:
    """Return squares on a colour gradient, cropped to ``side`` pixels."""
    path = folder / "a<i>.png"
    rows, columns = np.mgrid[:60, :60]
    rgb = np.stack([columns * 4, rows * 4, (columns // 15 + rows // 15) % 2 * 200], -1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)
    return demo.load_photograph(path, crop=side)


def small_classifier(side: int, stride: int = 2) -> demo.Classifier:
    """Return one convolution and a linear layer, of four classes."""
    torch.manual_seed(0)
    reached = (side - 5) // stride + 1
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=stride),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * reached * reached, 4),
    )
    names = ["<b>", "tabby, tabby cat", "crane", "owl"]
    return demo.Classifier("tiny & fake", model.eval(), names)
