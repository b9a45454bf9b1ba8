"""From moments of draws and gradients to a symmetric Hessian with the variance of its entries.

Coordinates: ``z ~ N(0, I_m)``, gradients ``g`` in ``z``, and the estimand is the symmetric matrix
``H = E[z g^T] / sigma`` (SmoothHess, Proposition 1). Every estimator here has the form

    h_kl = p_kl a_kl + p_lk a_lk,    a = U^T W / (n' sigma),    p_kl + p_lk = 1

in some orthonormal basis, ``U`` the draws and ``W`` the gradients in that basis. Since ``a`` and
``a^T`` have the same expectation ``H``, any such weights leave it unbiased; they only decide the
noise. ``p = 1/2`` averages the two. ``gls`` weights each by its precision: the noise of ``a_kl``
comes from the spread of gradient coordinate ``l``, of variance ``l_l``, so in the eigenbasis of the
gradient covariance ``p_kl = l_k / (l_k + l_l)``. It then subtracts a shrunk first estimate's linear
prediction from the gradients and estimates what is left (a control variate): the residual gradients
have less spread and the same expectation is added back. docs/numerics.md derives all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hessx.contributions import Contributions
from hessx.moments import Moments
from hessx.solve.views import Products, View, second_moment, views_of

ESTIMATORS = ("gls", "centered", "stein")

# Keeps p_kl defined where both variances vanish, without moving it elsewhere.
_WEIGHT_FLOOR = 1e-9
# Block edges of the shrinkage of the first estimate: narrow where eigenvalues are large.
_EDGES = (0, 1, 2, 3, 4, *(b * 2**j for j in range(20) for b in (6, 8)))


@dataclass(frozen=True)
class Estimate:
    """A symmetric estimate ``basis core basis^T`` in ``z``, batched over rows.

    Attributes:
        basis: ``(B, m, r)`` with orthonormal columns, or zero columns where the gradients have no
            extent.
        core: ``(B, r, r)`` symmetric.
        variance: ``(B, r, r)``, the variance of each entry of ``core``.
        contributions: What single samples contributed to ``core``.
        mean_shift: ``(B, m)``: added to the mean gradient, it removes the part of its error that
            the Hessian explains.
    """

    basis: Tensor
    core: Tensor
    variance: Tensor
    contributions: Contributions
    mean_shift: Tensor

    @classmethod
    def joined(cls, parts: list[Estimate]) -> Estimate:
        """Return the rows of several estimates as one."""
        return cls(
            torch.cat([part.basis for part in parts]),
            torch.cat([part.core for part in parts]),
            torch.cat([part.variance for part in parts]),
            Contributions.joined([part.contributions for part in parts]),
            torch.cat([part.mean_shift for part in parts]),
        )


def symmetrize(
    moments: Moments,
    sigma: float,
    estimator: str,
    covariance_noise: float = 1.0,
    rows: Tensor | None = None,
) -> Estimate:
    """Return the symmetric estimate of ``E[z g^T] / sigma``.

    Args:
        moments: At least two samples.
        sigma: The standard deviation of the perturbation in units of ``z``.
        estimator: ``"gls"`` (the default of the library), ``"centered"`` (the sample covariance,
            averaged with its transpose) or ``"stein"`` (Eq. (8) of the paper as printed: means not
            subtracted).
        covariance_noise: The variance of the draws' sample covariance as a share of that of
            independent draws.
        rows: ``(B,)`` bool, the rows to estimate; all unless given.
    """
    views = views_of(moments, estimator, rows)
    if estimator == "gls":
        parts = [_generalised(view, sigma, covariance_noise) for view in views]
    else:
        parts = [_averaged(view, sigma) for view in views]
    return parts[0] if len(parts) == 1 else Estimate.joined(parts)


def _averaged(view: View, sigma: float) -> Estimate:
    """``p = 1/2``: the average of the one-sided estimate and its transpose."""
    products = view.products()
    p = torch.full_like(products.uw, 0.5)
    core, variance = _combine(products, p, view, sigma)
    contributions = Contributions.of(*view.samples(), p / sigma, view.n)
    shift = view.basis.new_zeros(view.basis.shape[:2])
    return Estimate(view.basis, core, variance * view.kurtosis(p), contributions, shift)


def _generalised(view: View, sigma: float, covariance_noise: float) -> Estimate:
    """Precision weights, one control-variate pass, and the degrees of freedom that it takes."""
    pilot_products = view.products()
    pilot_weights = _precision_weights(pilot_products.w2)
    pilot, pilot_variance = _combine(pilot_products, pilot_weights, view, sigma)
    shrink = _block_shrinkage(pilot, pilot_variance)
    linear = sigma * shrink * pilot
    products = view.products(linear)
    weights = _precision_weights(products.w2)
    residual, variance = _combine(products, weights, view, sigma)
    fitted = (shrink * pilot_weights).sum(1)
    inflation = view.n / (view.n - 1 - fitted).clamp(min=view.n / 4)
    variance = variance * torch.lerp(inflation[:, :, None], inflation[:, None, :], weights)
    variance = variance * view.kurtosis(weights, linear)
    scale = weights * inflation.sqrt()[:, None, :] / sigma
    contributions = Contributions.of(*view.samples(linear), scale, view.n)
    shift = -(view.basis.double() @ (linear @ view.mean_u.double()[..., None])).squeeze(-1)
    core = linear / sigma + residual
    core = core + covariance_noise * _reuse_bias(core, weights, shrink, view.n)
    return Estimate(view.basis, core, variance, contributions, shift)


def _reuse_bias(core: Tensor, p: Tensor, shrink: Tensor, n: int) -> Tensor:
    """Return what the control variate loses because it is fitted to the samples it is applied to.

    The first estimate errs by ``(S - 1) H`` with ``S`` the sample covariance of the draws, and the
    residual gradients meet the same ``S - 1`` again: to first order in ``1/n`` the expectation of
    the product is the Wishart covariance ``E[(S - 1)_kj (S - 1)_ji] = (delta_kj delta_ji +
    delta_ki) / n``, worked through the weights.
    """
    used = shrink * p
    share = used.sum(1)[:, None, :] + used + shrink.diagonal(dim1=1, dim2=2)[:, None, :] / 2
    lost = p * share * core
    own = (used * core.diagonal(dim1=1, dim2=2)[:, None, :]).sum(2)
    return (lost + lost.mT + torch.diag_embed(own)) / n


def _combine(products: Products, p: Tensor, view: View, sigma: float) -> tuple[Tensor, Tensor]:
    """Return ``h`` and the variance of each of its entries for weights ``p``."""
    half = p * products.uw / (view.dof * sigma)
    h = half + half.mT
    second = second_moment(products, p) / (view.n * sigma**2)
    return h, (second - h.square()).clamp(min=0) / max(view.n - 1, 1)


def _precision_weights(w2: Tensor) -> Tensor:
    """``p_kl = l_k / (l_k + l_l)`` from the gradient variances ``l``, up to their scale."""
    spread = w2 + _WEIGHT_FLOOR * w2.amax(1, keepdim=True)
    total = spread[:, :, None] + spread[:, None, :]
    return torch.where(total > 0, spread[:, :, None] / total, 0.5)


def _block_shrinkage(h: Tensor, variance: Tensor) -> Tensor:
    """James-Stein factors ``max(0, 1 - sum variance / sum h^2)``, constant on blocks of entries."""
    size = h.shape[-1]
    edges = torch.tensor([*(e for e in _EDGES if e < size), size], device=h.device)
    noise, energy = _block_sums(variance, edges), _block_sums(h.square(), edges)
    factor = torch.where(energy > 0, 1 - noise / energy, 0).clamp(min=0)
    width = edges.diff()
    return factor.repeat_interleave(width, 1).repeat_interleave(width, 2)


def _block_sums(x: Tensor, edges: Tensor) -> Tensor:
    width = edges.diff()
    block = torch.arange(len(width), device=x.device).repeat_interleave(width)
    rows = x.new_zeros(len(x), len(width), x.shape[2]).index_add_(1, block, x)
    return x.new_zeros(len(x), len(width), len(width)).index_add_(2, block, rows)
