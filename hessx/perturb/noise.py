"""Perturbations by normal noise: around the input, or around a baseline that replaces it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hessx import ops
from hessx.perturb.perturbation import (
    BoundPerturbation,
    Perturbation,
    baseline_tensor,
    new_seed,
)
from hessx.run import accumulation_dtype, check_positive, checked_range

_AROUND_INPUT, _AROUND_BASELINE = 200, 201


@dataclass(frozen=True)
class Gaussian(Perturbation):
    """Normal noise around the input: ``I = sigma eps``, ``eps ~ N(0, 1)`` for each number.

    The model is asked at ``x - sigma eps``: the neighbourhood of x. What replaces x by a noisy
    baseline is :class:`NoisyBaseline`. As ``sigma`` falls, the optimal explanation becomes the
    gradient.

    Args:
        sigma: Standard deviation in the units of the inputs, > 0.

    Raises:
        TypeError: If ``sigma`` is not a number.
        ValueError: If it is not > 0 and finite.

    Source:
        On the (In)fidelity and Sensitivity of Explanations, Proposition 2.3; Captum's example.

    Example:
        >>> import torch, hessx
        >>> x = torch.zeros(2, 3)
        >>> perturbations, perturbed = hessx.perturb.Gaussian(0.1)(x)
        >>> torch.equal(perturbed, x - perturbations)
        True
    """

    sigma: float

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def bind(self, inputs: Tensor, baselines: Any, seed: int) -> BoundPerturbation:
        """See :meth:`Perturbation.bind`; ``baselines`` only has to fit."""
        baseline_tensor(baselines, inputs)
        return _NoiseAroundInput(inputs, self.sigma, seed)


@dataclass(frozen=True)
class NoisyBaseline(Perturbation):
    """A noisy baseline in place of the input: ``I = x - clip(baseline + sigma eps)``.

    The model is asked at ``clip(baseline + sigma eps)``, far from x; :class:`Gaussian` stays around
    x. Two laws have this name:

    * the authors' code clips what the model sees to the range of its inputs, ``clip=(0.0, 1.0)``:
      with baseline 0 half of all numbers are exactly 0;
    * the paper's text has no clipping, ``clip=None``: ``I = x - baseline - sigma eps``.

    Args:
        sigma: Standard deviation in the units of the inputs, > 0.
        clip: ``(low, high)``, or None.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If ``sigma`` is not > 0 and finite, or ``clip`` is no range.

    Source:
        On the (In)fidelity and Sensitivity of Explanations, appendix B.1 ("NB").

    Example:
        >>> import torch, hessx
        >>> x = torch.full((4, 1000), 0.7)
        >>> perturbations, perturbed = hessx.perturb.NoisyBaseline(0.2)(x)
        >>> perturbed.min().item(), round((perturbed == 0).double().mean().item(), 1)
        (0.0, 0.5)
        >>> torch.allclose(perturbations, x - perturbed)
        True
    """

    sigma: float = 0.2
    clip: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        object.__setattr__(self, "clip", checked_range("clip", self.clip))

    def bind(self, inputs: Tensor, baselines: Any, seed: int) -> BoundPerturbation:
        """See :meth:`Perturbation.bind`.

        Raises:
            ValueError: Also if the baselines of several inputs differ where there is clipping: no
                draw would then be shared by all of them.
        """
        baseline = baseline_tensor(baselines, inputs)
        if self.clip is None:
            return _NoiseAroundBaseline(inputs, baseline, self.sigma, seed)
        if baseline.dim():
            if not (baseline == baseline[:1]).all():
                raise ValueError(
                    "baselines must be the same for all inputs where a NoisyBaseline clips, since "
                    "inputs share their draws: give the inputs one by one, or clip=None"
                )
            baseline = baseline[0]
        return _ClippedNoise(inputs, baseline, self.sigma, self.clip, seed)

    def __call__(self, inputs: Tensor, baselines: Any = None) -> tuple[Tensor, Tensor]:
        """See :meth:`Perturbation.__call__`; every input may have a baseline of its own."""
        law = _NoiseAroundBaseline(
            inputs, baseline_tensor(baselines, inputs), self.sigma, new_seed()
        )
        rows = torch.arange(len(inputs), device=inputs.device)
        noisy = law.perturbed(law.draw(0, len(inputs))[None], rows)[0]
        if self.clip is not None:
            noisy = noisy.clamp(*self.clip)
        return inputs - noisy, noisy


class _Noise(BoundPerturbation):
    """Every input number is a coordinate.

    Args:
        inputs: As for `BoundPerturbation`.
        sigma: Standard deviation.
        seed: Key of the draws.
        stream: Of the draws.
    """

    def __init__(self, inputs: Tensor, sigma: float, seed: int, stream: int):
        super().__init__(inputs)
        self.n_coordinates = inputs[0].numel()
        self._sigma = sigma
        self._seed = seed
        self._stream = stream

    @property
    def coordinate_shape(self) -> torch.Size:
        return self.inputs.shape[1:]

    def draw(self, first: int, count: int) -> Tensor:
        return self._sigma * ops.normal(
            count,
            self.n_coordinates,
            seed=self._seed,
            first_sample=first,
            stream=self._stream,
            dtype=accumulation_dtype(self.inputs),
            device=self.inputs.device,
        )

    def perturbations(self, u: Tensor, rows: Tensor) -> Tensor:
        shift = self.shift(rows)
        moved = u.expand(-1, len(rows), -1) if shift is None else shift + u
        return self._picture(moved)

    def project(self, attributions: Tensor, rows: Tensor) -> Tensor:
        return attributions.flatten(attributions.dim() - self.inputs.dim() + 1)

    def lift(self, w: Tensor, rows: Tensor) -> Tensor:
        return self._picture(w)

    def _picture(self, u: Tensor) -> Tensor:
        return u.unflatten(-1, self.inputs.shape[1:])


class _NoiseAroundInput(_Noise):
    def __init__(self, inputs: Tensor, sigma: float, seed: int):
        super().__init__(inputs, sigma, seed, _AROUND_INPUT)

    def perturbed(self, u: Tensor, rows: Tensor) -> Tensor:
        return (self.inputs[rows] - self._picture(u)).to(self.inputs.dtype)


class _NoiseAroundBaseline(_Noise):
    """``u = -sigma eps``, and ``x - baseline`` is the input's own."""

    def __init__(self, inputs: Tensor, baseline: Tensor, sigma: float, seed: int):
        super().__init__(inputs, -sigma, seed, _AROUND_BASELINE)
        self._baseline = baseline.expand(inputs.shape)

    def shift(self, rows: Tensor) -> Tensor:
        dtype = accumulation_dtype(self.inputs)
        return (self.inputs[rows].to(dtype) - self._baseline[rows].to(dtype)).flatten(1)

    def perturbed(self, u: Tensor, rows: Tensor) -> Tensor:
        return (self._baseline[rows] - self._picture(u)).to(self.inputs.dtype)


class _ClippedNoise(_Noise):
    """``u = -clip(baseline + sigma eps)`` exactly as the model sees it; x is the input's own."""

    def __init__(
        self,
        inputs: Tensor,
        baseline: Tensor,
        sigma: float,
        clip: tuple[float, float],
        seed: int,
    ):
        super().__init__(inputs, sigma, seed, _AROUND_BASELINE)
        self._baseline = baseline.expand(inputs.shape[1:]).flatten()
        self._clip = clip

    def draw(self, first: int, count: int) -> Tensor:
        noisy = self._baseline + super().draw(first, count)
        # What the model sees, in its type: a draw is that and nothing else.
        return -noisy.clamp_(*self._clip).to(self.inputs.dtype).to(noisy.dtype)

    def shift(self, rows: Tensor) -> Tensor:
        return self.inputs[rows].to(accumulation_dtype(self.inputs)).flatten(1)

    def perturbed(self, u: Tensor, rows: Tensor) -> Tensor:
        return -self._picture(u).expand(-1, len(rows), *self.inputs.shape[1:]).to(self.inputs.dtype)
