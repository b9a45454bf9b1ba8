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

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.contributions import Contributions
from hessx.moments import HEAD, Moments, Scatter

ESTIMATORS = ("gls", "centered", "stein")

# Eigenvalues of the Gram matrix below this many rounding errors of the largest are rounding.
_SPECTRUM_FLOOR = 10
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
    views = _views(moments, estimator, rows)
    if estimator == "gls":
        parts = [_generalised(view, sigma, covariance_noise) for view in views]
    else:
        parts = [_averaged(view, sigma) for view in views]
    return parts[0] if len(parts) == 1 else Estimate.joined(parts)


def _views(
    moments: Moments, estimator: str, rows: Tensor | None
) -> Iterator[_SampleView | _ScatterView]:
    """Yield the rows: all at once on a GPU; one by one on a CPU, where a row fits in its cache."""
    if moments.keeps_samples:
        z, gradients = moments.samples()
        if rows is not None:
            gradients = gradients[rows]
        for g in gradients.split(1) if gradients.is_cpu else [gradients]:
            yield _SampleView.of(z, g, estimator)
        return
    scatter = moments.scatter()
    if rows is not None:
        scatter = scatter.rows(rows)
    for part in scatter.split() if scatter.gg.is_cpu else [scatter]:
        yield _ScatterView(part, estimator)


@dataclass(frozen=True)
class _Products:
    """Sums over samples of products of draws ``u`` and gradients ``w`` in a basis, float64.

    ``uw = sum u_k w_l``, ``square = sum u_k^2 w_l^2``, ``cross = sum u_k w_k u_l w_l`` and
    ``w2 = sum w_l^2``, all ``(B, r, r)`` or ``(B, r)``.
    """

    uw: Tensor
    square: Tensor
    cross: Tensor
    w2: Tensor


class _SampleView:
    """Draws and gradients themselves, in a basis of their span."""

    def __init__(self, n: int, centred: bool, basis: Tensor, u: Tensor, w: Tensor):
        self.n, self.dof = n, n - 1 if centred else n
        self.basis, self._u, self._w = basis, u, w
        self.mean_u = u.mean(1)
        if centred:
            self._u = u - self.mean_u[:, None]

    @classmethod
    def of(cls, z: Tensor, g: Tensor, estimator: str) -> _SampleView:
        n, m = z.shape
        centred = estimator != "stein"
        if centred:
            g = g - g.mean(1, keepdim=True)
        if estimator == "gls" and n < m:
            return cls._in_gram_eigenbasis(z, g)
        if estimator == "gls":
            _, basis = torch.linalg.eigh(g.mT @ g)
            basis = basis.flip(-1)
        elif 2 * n < m:
            basis = torch.linalg.qr(torch.cat([z.expand_as(g), g], 1).mT)[0]
        else:
            basis = torch.eye(m, dtype=g.dtype, device=g.device).expand(len(g), m, m)
        return cls(n, centred, basis, z @ basis, g @ basis)

    @classmethod
    def _in_gram_eigenbasis(cls, z: Tensor, g: Tensor) -> _SampleView:
        """Use ``G V = Q s`` and ``Z V = (Z G^T) Q / s``: the n x n Gram matrix alone, n < m."""
        values, q = torch.linalg.eigh(g @ g.mT)
        values, q = values.flip(-1).clamp(min=0), q.flip(-1)
        floor = _SPECTRUM_FLOOR * torch.finfo(g.dtype).eps * values[:, :1]
        kept = values > floor
        s = values.sqrt() * kept
        q_over_s = q * torch.where(kept, 1 / s, 0)[:, None, :]
        u = _leave_one_out(z @ g.mT, q, values + floor) @ q_over_s
        return cls(len(z), True, g.mT @ q_over_s, u, q * s[:, None, :])

    def products(self, linear: Tensor | None = None) -> _Products:
        """Return the products, of the residual gradients ``w - u linear`` when given."""
        w = self._w if linear is None else self._w - self._u @ linear.to(self._u)
        return _Products(*ops.core_moments(self._u, w))

    def kurtosis(self, p: Tensor, linear: Tensor | None = None) -> float:
        """Return 1: the fourth moments in :meth:`products` are the sampled ones."""
        return 1.0

    def samples(self, linear: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return draws and (residual) gradients in the basis, ``(B, n, r)``, of up to a head."""
        u, w = self._u[:, :HEAD], self._w[:, :HEAD]
        return u, w if linear is None else w - u @ linear.to(u)


def _leave_one_out(zg: Tensor, q: Tensor, values: Tensor) -> Tensor:
    """Take each draw's product with its own gradient's private direction out of ``Z G^T``.

    The basis is the span of the gradients themselves, so sample ``i`` alone decides the part of it
    that is its gradient's residual from the affine span of the others. Draw and gradient are
    dependent: kept, these ``n`` terms put the trace of the whole Hessian into a span of ``n``
    directions (with a flat spectrum and ``n << m`` an error of many times ``|H|``). With
    ``N = (G G^T)^+`` on centred gradients that residual is ``sum_j N_ij g_j / N_ii``.

    Args:
        zg: ``(B, n, n)``, ``z_i . g_j``.
        q: ``(B, n, n)``, eigenvectors of the centred Gram matrix.
        values: ``(B, n)``, its eigenvalues, kept off 0 where there are any.
    """
    # The constant vector is in the null space: an intercept, not a direction of the gradients.
    q = q - q.mean(1, keepdim=True)
    inverse = (q * torch.where(values > 0, 1 / values, 0)[:, None, :]) @ q.mT
    own = inverse.diagonal(dim1=1, dim2=2)
    private = torch.where(own > 0, (zg * inverse).sum(2) / own, 0)
    return zg - torch.diag_embed(private)


class _ScatterView:
    """Second moments in a basis, for more samples than are kept.

    Fourth moments are those of a Gaussian with these second moments (Isserlis), and
    :meth:`kurtosis` measures on the head of the samples how far the variance from them is off.
    """

    def __init__(self, s: Scatter, estimator: str):
        centred = estimator != "stein"
        self.n, self.dof = s.n, s.n - 1 if centred else s.n
        if estimator == "gls":
            v = torch.linalg.eigh(s.gg)[1].flip(-1)
        else:
            v = torch.eye(len(s.mean_z), dtype=s.gg.dtype, device=s.gg.device).expand_as(s.gg)
        self.basis, self.mean_u = v, s.mean_z @ v
        self._second = _Second(v.mT @ s.zz @ v, v.mT @ s.zg @ v, v.mT @ s.gg @ v)
        self._head_u, self._head_w = s.head_z.double() @ v, s.head_g.double() @ v
        mean_w = (s.mean_g[:, None] @ v).squeeze(1)
        if centred:
            self._head_u = self._head_u - self.mean_u[:, None]
            self._head_w = self._head_w - mean_w[:, None]
        else:
            self._second = self._second.with_means(self.mean_u, mean_w, s.n)

    def products(self, linear: Tensor | None = None) -> _Products:
        """Return the products, of the residual gradients ``w - u linear`` when given."""
        return self._second.residual(linear).products(self.n)

    def kurtosis(self, p: Tensor, linear: Tensor | None = None) -> Tensor:
        """Return ``(B, 1, 1)``: sampled over Gaussian energy of the noise, for weights p."""
        u, w = self.samples(linear)
        count = u.shape[1]
        sampled = _Products(*ops.core_moments(u, w))
        gaussian = _Second(u.mT @ u, sampled.uw, w.mT @ w).products(count)
        energies = []
        for products in (sampled, gaussian):
            half = p * products.uw / count
            second = _second_moment(products, p) / count
            energies.append((second - (half + half.mT).square()).clamp(min=0).sum((1, 2)))
        ratio = torch.where(energies[1] > 0, energies[0] / energies[1], 1)
        return ratio[:, None, None]

    def samples(self, linear: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return draws and (residual) gradients in the basis, ``(B, n_head, r)``, of the head."""
        u, w = self._head_u, self._head_w
        return u, w if linear is None else w - u @ linear


@dataclass(frozen=True)
class _Second:
    """Second moments (sums over samples) of draws and gradients in a basis."""

    uu: Tensor
    uw: Tensor
    ww: Tensor

    def with_means(self, mean_u: Tensor, mean_w: Tensor, n: int) -> _Second:
        """Return the moments about 0 from those about the means."""
        return _Second(
            self.uu + n * mean_u[:, :, None] * mean_u[:, None, :],
            self.uw + n * mean_u[:, :, None] * mean_w[:, None, :],
            self.ww + n * mean_w[:, :, None] * mean_w[:, None, :],
        )

    def residual(self, linear: Tensor | None) -> _Second:
        """Return the moments with ``w - u linear`` in place of ``w``."""
        if linear is None:
            return self
        explained = self.uw.mT @ linear
        ww = self.ww - explained - explained.mT + linear.mT @ self.uu @ linear
        return _Second(self.uu, self.uw - self.uu @ linear, ww)

    def products(self, n: int) -> _Products:
        """Return the products of ``n`` samples, the fourth moments by Isserlis' formula."""
        u2 = self.uu.diagonal(dim1=1, dim2=2)
        w2 = self.ww.diagonal(dim1=1, dim2=2)
        own = self.uw.diagonal(dim1=1, dim2=2)
        square = u2[:, :, None] * w2[:, None, :] + 2 * self.uw.square()
        cross = own[:, :, None] * own[:, None, :] + self.uu * self.ww + self.uw * self.uw.mT
        return _Products(self.uw, square / n, cross / n, w2)


def _averaged(view: _SampleView | _ScatterView, sigma: float) -> Estimate:
    """``p = 1/2``: the average of the one-sided estimate and its transpose."""
    products = view.products()
    p = torch.full_like(products.uw, 0.5)
    core, variance = _combine(products, p, view, sigma)
    contributions = Contributions.of(*view.samples(), p / sigma, view.n)
    shift = view.basis.new_zeros(view.basis.shape[:2])
    return Estimate(view.basis, core, variance * view.kurtosis(p), contributions, shift)


def _generalised(
    view: _SampleView | _ScatterView, sigma: float, covariance_noise: float
) -> Estimate:
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


def _combine(
    products: _Products, p: Tensor, view: _SampleView | _ScatterView, sigma: float
) -> tuple[Tensor, Tensor]:
    """Return ``h`` and the variance of each of its entries for weights ``p``."""
    half = p * products.uw / (view.dof * sigma)
    h = half + half.mT
    second = _second_moment(products, p) / (view.n * sigma**2)
    return h, (second - h.square()).clamp(min=0) / max(view.n - 1, 1)


def _second_moment(products: _Products, p: Tensor) -> Tensor:
    """Sum over samples of ``(p_kl u_k w_l + p_lk u_l w_k)^2``."""
    q = p.square() * products.square
    return q + q.mT + 2 * p * (1 - p) * products.cross


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
