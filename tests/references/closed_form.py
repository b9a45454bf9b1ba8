"""SmoothHess and SmoothGrad of a network with one hidden ReLU layer, in closed form.

For ``f(x) = sum_j a_j relu(w_j^T x + b_j)`` and ``delta ~ N(0, Sigma)`` each pre-activation is
normal with mean ``m_j = w_j^T x0 + b_j`` and deviation ``s_j = sqrt(w_j^T Sigma w_j)``, so

    grad = sum_j a_j Phi(m_j / s_j) w_j,    H = sum_j a_j phi(m_j / s_j) / s_j w_j w_j^T.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def smooth_taylor(
    net: nn.Sequential, target: int, x0: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``(gradient (d,), H (d, d))`` in float64 at ``x0 (d,)``.

    Args:
        net: ``Linear, ReLU, Linear``.
        target: Which output.
        x0: ``(d,)``.
        sigma: The covariance Sigma ``(d, d)``.
    """
    first, _, last = net
    w, b = first.weight.double().detach(), first.bias.double().detach()
    a = last.weight[target].double().detach()
    mean = w @ x0.double() + b
    deviation = ((w @ sigma.double()) * w).sum(1).sqrt()
    ratio = mean / deviation
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    gradient = (a * torch.special.ndtr(ratio)) @ w
    return gradient, w.T @ ((a * density / deviation)[:, None] * w)
