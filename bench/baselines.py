"""The methods that LEG is compared with: section 5.2 of the LEG paper, and the gradient.

All of them explain the class of one picture, see it black where it is masked, and return
``(1, C, H, W)`` or ``(1, 1, H, W)``. Gradients are of the logit, as their papers have them; the
methods that only ask for values explain the probability, as LEG does, or its logarithm (C-Shapley).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import hessx
from bench.c_shapley import c_shapley as c_shapley_values

# SmoothGrad's paper: 50 samples, noise of 10 to 20 % of the range of a pixel.
SMOOTH_SAMPLES = 50
SMOOTH_SIGMA = 0.15
# LIME's own defaults for pictures.
LIME_KERNEL_WIDTH = 0.25
LIME_RIDGE = 1.0
QUICKSHIFT = dict(kernel_size=4, max_dist=200, ratio=0.2)


@dataclass(frozen=True, eq=False)
class Question:
    """What every method is asked: which parts of a picture speak for a class?

    Attributes:
        net: From ``(N, 3, H, W)`` to logits.
        x: The picture ``(1, 3, H, W)``.
        target: The class.
        black: What black is in ``x``.
        white: What white is in ``x``.
        layer: The last convolutions of ``net``, for Grad-CAM.
        grid: Rows and columns of the cells that the value-only methods mask.
        n_samples: Evaluations of the net by KernelSHAP and LIME.
        examples_per_batch: The most pictures in one call of the net.
        seed: Of what is drawn.
    """

    net: nn.Module
    x: Tensor
    target: int
    black: float
    white: float
    layer: nn.Module
    grid: tuple[int, int] = (28, 28)
    n_samples: int = 3000
    examples_per_batch: int = 32
    seed: int = 0

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of the class, ``(N,)``."""
        return self.net(x).softmax(1)[:, self.target]

    @torch.no_grad()
    def log_probability(self, x: Tensor) -> Tensor:
        """Return its logarithm, in batches."""
        parts = [self.net(part).log_softmax(1) for part in x.split(self.examples_per_batch)]
        return torch.cat(parts)[:, self.target]

    def cell_of_pixel(self) -> Tensor:
        """Return the number of the cell that holds each pixel, ``(1, 1, H, W)``."""
        cells = hessx.Grid(self.grid).bind(self.x.shape[-2:])
        numbers = torch.arange(cells.n_features, dtype=torch.float64)
        return cells.lift(numbers).long()[None, None]


def gradient(question: Question) -> Tensor:
    """Return the gradient of the logit (Simonyan et al., 2014)."""
    from captum.attr import Saliency

    x = question.x.clone().requires_grad_()
    return Saliency(question.net).attribute(x, question.target, abs=False).detach()


def smooth_grad(question: Question) -> Tensor:
    """Return SmoothGrad (Smilkov et al., 2017)."""
    from captum.attr import NoiseTunnel, Saliency

    sigma = SMOOTH_SIGMA * (question.white - question.black)
    with seeded(question.seed):
        found = NoiseTunnel(Saliency(question.net)).attribute(
            question.x.clone(),
            nt_type="smoothgrad",
            nt_samples=SMOOTH_SAMPLES,
            nt_samples_batch_size=min(SMOOTH_SAMPLES, question.examples_per_batch),
            stdevs=sigma,
            target=question.target,
            abs=False,
        )
    return found.detach()


def grad_cam(question: Question) -> Tensor:
    """Return Grad-CAM (Selvaraju et al., 2017), interpolated to the picture."""
    from captum.attr import LayerAttribution, LayerGradCam

    method = LayerGradCam(question.net, question.layer)
    found = method.attribute(question.x.clone(), question.target, relu_attributions=True)
    return LayerAttribution.interpolate(found.detach(), question.x.shape[-2:], "bilinear")


def kernel_shap(question: Question) -> Tensor:
    """Return KernelSHAP (Lundberg and Lee, 2017), whose features are the cells."""
    from captum.attr import KernelShap

    with seeded(question.seed):
        found = KernelShap(question.probability).attribute(
            question.x,
            baselines=question.black,
            feature_mask=question.cell_of_pixel(),
            n_samples=question.n_samples,
            perturbations_per_eval=question.examples_per_batch,
        )
    return found[:, :1].detach()


def lime(question: Question) -> Tensor:
    """Return LIME (Ribeiro et al., 2016) on superpixels, with its own defaults for pictures."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime
    from skimage.segmentation import quickshift

    rgb = (question.x[0] - question.black) / (question.white - question.black)
    superpixels = quickshift(rgb.permute(1, 2, 0).double().numpy(), **QUICKSHIFT)
    method = Lime(
        question.probability,
        interpretable_model=SkLearnRidge(alpha=LIME_RIDGE),
        similarity_func=_closeness,
    )
    with seeded(question.seed):
        found = method.attribute(
            question.x,
            baselines=question.black,
            feature_mask=torch.from_numpy(superpixels)[None, None],
            n_samples=question.n_samples,
            perturbations_per_eval=question.examples_per_batch,
        )
    return found[:, :1].detach()


def c_shapley(question: Question) -> Tensor:
    """Return C-Shapley (Chen et al., 2019) of the log-probability, the other cells black."""
    cell = question.cell_of_pixel()[0, 0]

    def value(kept: Tensor) -> Tensor:
        """Return the value of pictures of which only some cells are kept."""
        parts = []
        for some in kept.split(question.examples_per_batch):
            shown = some.flatten(1)[:, cell].unsqueeze(1)
            parts.append(question.log_probability(torch.where(shown, question.x, question.black)))
        return torch.cat(parts)

    return c_shapley_values(value, *question.grid).flatten()[cell][None, None]


BASELINES: dict[str, Callable[[Question], Tensor]] = {
    "gradient": gradient,
    "SmoothGrad": smooth_grad,
    "Grad-CAM": grad_cam,
    "KernelSHAP": kernel_shap,
    "LIME": lime,
    "C-Shapley": c_shapley,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let Captum draw by a seed inside; afterwards torch draws as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _closeness(original: Tensor, perturbed: Tensor, kept: Tensor, **_: object) -> float:
    """Weigh a sample by the cosine distance of its superpixels to all of them."""
    distance = 1 - kept.double().mean().sqrt()
    return (-(distance**2) / LIME_KERNEL_WIDTH**2).exp().sqrt().item()
