"""Global explanations of nets that see photographs, which optimal ones are compared with.

Each explains the logit of a class for one picture ``(1, 3, H, W)``, sees 0 where something is
removed, and returns ``(1, 3, H, W)``: Captum's methods, the local ones times the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.explanations import (
    gradient,
    guided_backprop,
    integrated_gradients,
    multiplied,
    quiet,
    smooth_grad,
)

IG_STEPS = 20
SMOOTHGRAD_SAMPLES = 20
# A share of the picture's side.
_WINDOW = 1 / 8


@dataclass(frozen=True, eq=False)
class Asked:
    """A net with what explanations of pictures need to know of it.

    Attributes:
        net: From ``(N, 3, H, W)`` to logits.
        layer: Its last convolutions, for Grad-CAM.
        range: From black to white, in units of an input.
    """

    net: nn.Module
    layer: nn.Module
    range: float


def grad_cam(asked: Asked, x: Tensor, target: Tensor) -> Tensor:
    """Return Grad-CAM (Selvaraju et al., 2017), interpolated to the picture."""
    from captum.attr import LayerAttribution, LayerGradCam

    found = LayerGradCam(asked.net, asked.layer).attribute(x, target, relu_attributions=True)
    wide = LayerAttribution.interpolate(found.detach(), x.shape[-2:], "bilinear")
    return wide.expand_as(x)


def occlusion(asked: Asked, x: Tensor, target: Tensor) -> Tensor:
    """Return what half-overlapping squares take off the logit (Zeiler and Fergus, 2014)."""
    from captum.attr import Occlusion

    side = round(_WINDOW * x.shape[-1])
    with torch.no_grad():
        found = Occlusion(asked.net).attribute(
            x,
            (3, side, side),
            (3, side // 2, side // 2),
            baselines=0,
            target=target,
            perturbations_per_eval=16,
        )
    return found.detach()


def picture_explanations(
    asked: Asked, *, guided: bool
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return explanations by name, guided back-propagation if every activation is ``nn.ReLU``."""
    net, sigma = asked.net, 0.15 * asked.range
    found = {
        "Grad": multiplied(gradient(net)),
        "IG": multiplied(integrated_gradients(net, IG_STEPS)),
        "SmoothGrad": multiplied(smooth_grad(net, SMOOTHGRAD_SAMPLES, sigma)),
        "Grad-CAM": lambda x, target: grad_cam(asked, x, target),
        "Occlusion": lambda x, target: occlusion(asked, x, target),
    }
    if guided:
        found["GBP"] = multiplied(guided_backprop(net))

    def silent(explain: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def explained(x: Tensor, target: Tensor) -> Tensor:
            with quiet():
                return explain(x, target)

        return explained

    return {name: silent(explain) for name, explain in found.items()}
