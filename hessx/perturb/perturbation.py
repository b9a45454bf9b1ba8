"""What a perturbation is: numbers to draw, the inputs they make, and the form of an explanation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from hessx import ops

# Numbers of listed perturbations formed at once.
_NUMBERS_AT_ONCE = 2**22


class BoundPerturbation(ABC):
    """A law of perturbations ``I`` of given inputs, drawn by number and shared by all of them.

    A draw is a vector of coordinates ``u``, the same for every input. With an explanation ``a``
    written in these coordinates, ``w = project(a)``, the explanation's answer is
    ``I^T a = (shift + u)^T w``.

    Args:
        inputs: ``(B, *shape)``.

    Attributes:
        inputs: As given.
        n_coordinates: ``k``, the numbers of a draw.
        size: How many different perturbations there are, or None where they are not listed.
        binary: Whether the numbers of a draw are 0 and 1.
        completes: Whether removing everything has infinite weight, as in the Shapley kernel: an
            optimal explanation then adds up to ``f(x) - f(baseline)``.
    """

    n_coordinates: int
    size: int | None = None
    binary: bool = False
    completes: bool = False

    def __init__(self, inputs: Tensor):
        self.inputs = inputs

    @property
    def coordinate_shape(self) -> torch.Size:
        """Shape in which coordinates are shown, ``k`` numbers."""
        return torch.Size([self.n_coordinates])

    @abstractmethod
    def draw(self, first: int, count: int) -> Tensor:
        """Return the coordinates ``(count, k)`` of the numbered draws."""

    def enumerated(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return coordinates ``(count, k)`` and weights ``(count,)`` of listed perturbations.

        The weights of all of them add up to 1; float64.
        """
        raise NotImplementedError(f"{type(self).__name__} does not list its perturbations")

    @abstractmethod
    def perturbations(self, u: Tensor, rows: Tensor) -> Tensor:
        """Return what an explanation is multiplied by, ``(count, len(rows), *shape)``.

        Args:
            u: ``(count, len(rows), k)``, or ``(count, 1, k)`` for all rows.
            rows: Numbers of inputs.
        """

    @abstractmethod
    def perturbed(self, u: Tensor, rows: Tensor) -> Tensor:
        """Return ``x - I``, ``(count, len(rows), *shape)``, in the type of the inputs.

        Arguments as for :meth:`perturbations`.
        """

    @abstractmethod
    def project(self, attributions: Tensor, rows: Tensor) -> Tensor:
        """Return explanations in coordinates: ``(..., len(rows), *shape)`` to ``(..., k)``."""

    @abstractmethod
    def lift(self, w: Tensor, rows: Tensor) -> Tensor:
        """Return the smallest explanations that are ``w (..., len(rows), k)`` in coordinates."""

    def reachable(self, rows: Tensor) -> Tensor | None:
        """Return which coordinates an explanation can have, ``(len(rows), k)``, or None for all.

        The others are 0 in every ``project(a)``.
        """
        return None

    def shift(self, rows: Tensor) -> Tensor | None:
        """Return what each input adds to every draw, ``(len(rows), k)``, or None for nothing."""
        return None

    def all_dots(self, w: Tensor) -> Tensor:
        """Return ``u^T w`` for all listed perturbations: ``(N, k)`` to ``(N, size)``, float64."""
        assert self.size is not None
        step = max(1, _NUMBERS_AT_ONCE // self.n_coordinates)
        parts = []
        for first in range(0, self.size, step):
            u, _ = self.enumerated(first, min(step, self.size - first))
            parts.append(ops.perturbation_dots(u[None], w[None])[0])
        return torch.cat(parts).mT


class Perturbation(ABC):
    """A law of perturbations, before it meets inputs.

    It is a ``perturb_func`` of Captum as well: see :meth:`__call__`.
    """

    @abstractmethod
    def bind(self, inputs: Tensor, baselines: Any, seed: int) -> BoundPerturbation:
        """Return the law for these inputs.

        Args:
            inputs: ``(B, *shape)``.
            baselines: What removed numbers become: None (0), a number, or a tensor ``(B, *shape)``
                or ``(1, *shape)``.
            seed: Key of the draws.

        Raises:
            TypeError: If ``baselines`` is of a wrong type.
            ValueError: If the law does not apply to inputs of this shape, or ``baselines`` does not
                fit them.
        """

    def __call__(self, inputs: Tensor, baselines: Any = None) -> tuple[Tensor, Tensor]:
        """Return perturbations and perturbed inputs, ``(N, *shape)`` each: a draw an input.

        The draws follow torch's global generator.
        """
        bound = self.bind(inputs, baselines, new_seed())
        rows = torch.arange(len(inputs), device=inputs.device)
        u = bound.draw(0, len(inputs))[None]
        return bound.perturbations(u, rows)[0], bound.perturbed(u, rows)[0]


def new_seed() -> int:
    """Return a key of draws from torch's global generator."""
    return int(torch.randint(2**62, (), device="cpu"))


def baseline_tensor(baselines: Any, inputs: Tensor) -> Tensor:
    """Return baselines that broadcast with ``inputs``, checked.

    Raises:
        TypeError: If ``inputs`` is not a tensor, or ``baselines`` neither None, a number nor a
            tensor.
        ValueError: If inputs have no shape, the shape of ``baselines`` does not fit, or it is not
            finite.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs must be a single tensor, got {type(inputs).__name__}")
    if inputs.dim() < 2:
        raise ValueError(f"inputs must be (B, *shape), got {tuple(inputs.shape)}")
    if baselines is None:
        return inputs.new_zeros(())
    if isinstance(baselines, (int, float)) and not isinstance(baselines, bool):
        if not math.isfinite(baselines):
            raise ValueError(f"baselines must be finite, got {baselines}")
        return inputs.new_tensor(baselines)
    if not isinstance(baselines, Tensor):
        raise TypeError(f"baselines must be a number or a tensor, got {type(baselines).__name__}")
    shape = tuple(inputs.shape)
    if tuple(baselines.shape) not in (shape, (1, *shape[1:])):
        raise ValueError(
            f"baselines must be of shape {shape} or {(1, *shape[1:])}, got {tuple(baselines.shape)}"
        )
    if not baselines.isfinite().all():
        raise ValueError("baselines must be finite")
    return baselines.to(inputs)
