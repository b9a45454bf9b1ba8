"""The explanations that infidelity and sensitivity compare, each as a function of input and class.

Gradient, integrated gradients (IG), guided back-propagation (GBP) and SmoothGrad are Captum's; the
optimal ones and smoothing are hessx's. All of them explain the logit of ``target``, from inputs
``(B, *shape)`` and classes ``(B,)`` to attributions ``(B, *shape)``, so that
`hessx.sensitivity_max` can ask them about many inputs at once. The baseline is 0, as in the paper.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

import hessx
from bench.baselines import seeded
from hessx.perturb.perturbation import Perturbation

Explanation = Callable[[Tensor, Tensor], Tensor]

# Captum's own number.
IG_STEPS = 50
# The kernel of appendix B.1.
RADIUS = 0.2
N_SMOOTHING = 200
# SmoothGrad's paper: 10 to 20 % of the range of a pixel.
SMOOTHGRAD_SIGMA = 0.15
# Inputs that smoothing asks about at once.
BATCH = 200


def gradient(net: nn.Module) -> Explanation:
    """Explain by the gradient (Simonyan et al., 2014)."""
    from captum.attr import Saliency

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        with quiet():
            return Saliency(net).attribute(inputs, target, abs=False).detach()

    return explain


def integrated_gradients(net: nn.Module, n_steps: int = IG_STEPS) -> Explanation:
    """Explain by the mean gradient on the way from black (Sundararajan et al., 2017).

    Its local form, before it is multiplied by the input.
    """
    from captum.attr import IntegratedGradients

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        with quiet():
            method = IntegratedGradients(net, multiply_by_inputs=False)
            return method.attribute(inputs, target=target, n_steps=n_steps).detach().to(inputs)

    return explain


def guided_backprop(net: nn.Module) -> Explanation:
    """Explain by gradients of which every ReLU lets the positive through (Springenberg, 2015)."""
    from captum.attr import GuidedBackprop

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        with quiet():
            return GuidedBackprop(net).attribute(inputs, target).detach()

    return explain


def smooth_grad(
    net: nn.Module, n_samples: int, sigma: float = SMOOTHGRAD_SIGMA, seed: int = 0
) -> Explanation:
    """Explain by the mean gradient under Gaussian noise (Smilkov et al., 2017)."""
    from captum.attr import NoiseTunnel, Saliency

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        with quiet(), seeded(seed):
            found = NoiseTunnel(Saliency(net)).attribute(
                inputs,
                nt_type="smoothgrad",
                nt_samples=n_samples,
                stdevs=sigma,
                target=target,
                abs=False,
            )
        return found.detach()

    return explain


def optimal(net: nn.Module, law: Perturbation, n_samples: int | None, seed: int = 0) -> Explanation:
    """Explain by what is least unfaithful under a law of perturbations.

    In the multiplied form where the law is of that form.
    """

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        found = hessx.optimal_explanation(
            net, inputs, target, perturb_func=law, n_samples=n_samples, seed=seed
        )
        return found.attributions.to(inputs)

    return explain


def smoothed(
    explain: Explanation,
    radius: float = RADIUS,
    n_samples: int = N_SMOOTHING,
    batch: int = BATCH,
) -> Explanation:
    """Average an explanation over a cube around the input, with the same draws for every input."""

    def mean(inputs: Tensor, target: Tensor) -> Tensor:
        return hessx.smooth_explanation(
            explain,
            inputs,
            kernel="uniform",
            radius=radius,
            n_samples=n_samples,
            max_examples_per_batch=batch,
            target=target,
        )

    return mean


def multiplied(explain: Explanation) -> Explanation:
    """Return the global form of a local explanation: times the input, whose baseline is 0.

    A smoothed explanation is multiplied after smoothing: what removing a black pixel does is
    nothing, and this says so.
    """

    def product(inputs: Tensor, target: Tensor) -> Tensor:
        return inputs * explain(inputs, target)

    return product


def without_dummies(explain: Explanation) -> Explanation:
    """Leave out what Shapley values say of pixels that are 0 already.

    Removing them changes nothing, so that their Shapley values are 0: what a regression on drawn
    coalitions finds there is its noise.
    """

    def answer(inputs: Tensor, target: Tensor) -> Tensor:
        return explain(inputs, target) * (inputs != 0)

    return answer


class Remembered:
    """An explanation that answers the same question once.

    The local and the global form of an explanation are asked about the same inputs.
    """

    def __init__(self, explain: Explanation):
        self._explain = explain
        self._answers: dict[tuple[bytes, bytes], Tensor] = {}

    def __call__(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the attributions."""
        key = (inputs.numpy().tobytes(), target.numpy().tobytes())
        if key not in self._answers:
            self._answers[key] = self._explain(inputs, target)
        return self._answers[key]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Captum's warnings about the hooks and gradients that it sets itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
