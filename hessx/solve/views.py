"""Draws and gradients in a basis, and the sums of their products that the estimators need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hessx import ops
from hessx.moments import HEAD, Moments, Scatter

# Eigenvalues of the Gram matrix below this many rounding errors of the largest are rounding.
_SPECTRUM_FLOOR = 10


@dataclass(frozen=True)
class Products:
    """Sums over samples of products of draws ``u`` and gradients ``w`` in a basis, float64.

    ``uw = sum u_k w_l``, ``square = sum u_k^2 w_l^2``, ``cross = sum u_k w_k u_l w_l`` and
    ``w2 = sum w_l^2``, all ``(B, r, r)`` or ``(B, r)``.
    """

    uw: Tensor
    square: Tensor
    cross: Tensor
    w2: Tensor


class SampleView:
    """Draws and gradients themselves, in a basis of their span."""

    def __init__(self, n: int, centred: bool, basis: Tensor, u: Tensor, w: Tensor):
        self.n, self.dof = n, n - 1 if centred else n
        self.basis, self._u, self._w = basis, u, w
        self.mean_u = u.mean(1)
        if centred:
            self._u = u - self.mean_u[:, None]

    @classmethod
    def of(cls, z: Tensor, g: Tensor, estimator: str) -> SampleView:
        """Choose the basis: the gradients' eigenvectors for ``gls``, else whatever is smallest."""
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
    def _in_gram_eigenbasis(cls, z: Tensor, g: Tensor) -> SampleView:
        """Use ``G V = Q s`` and ``Z V = (Z G^T) Q / s``: the n x n Gram matrix alone, n < m."""
        values, q = torch.linalg.eigh(g @ g.mT)
        values, q = values.flip(-1).clamp(min=0), q.flip(-1)
        floor = _SPECTRUM_FLOOR * torch.finfo(g.dtype).eps * values[:, :1]
        kept = values > floor
        s = values.sqrt() * kept
        q_over_s = q * torch.where(kept, 1 / s, 0)[:, None, :]
        u = _leave_one_out(z @ g.mT, q, values + floor) @ q_over_s
        return cls(len(z), True, g.mT @ q_over_s, u, q * s[:, None, :])

    def products(self, linear: Tensor | None = None) -> Products:
        """Return the products, of the residual gradients ``w - u linear`` when given."""
        w = self._w if linear is None else self._w - self._u @ linear.to(self._u)
        return Products(*ops.core_moments(self._u, w))

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


class ScatterView:
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

    def products(self, linear: Tensor | None = None) -> Products:
        """Return the products, of the residual gradients ``w - u linear`` when given."""
        return self._second.residual(linear).products(self.n)

    def kurtosis(self, p: Tensor, linear: Tensor | None = None) -> Tensor:
        """Return ``(B, 1, 1)``: sampled over Gaussian energy of the noise, for weights p."""
        u, w = self.samples(linear)
        count = u.shape[1]
        sampled = Products(*ops.core_moments(u, w))
        gaussian = _Second(u.mT @ u, sampled.uw, w.mT @ w).products(count)
        energies = []
        for products in (sampled, gaussian):
            half = p * products.uw / count
            second = second_moment(products, p) / count
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

    def products(self, n: int) -> Products:
        """Return the products of ``n`` samples, the fourth moments by Isserlis' formula."""
        u2 = self.uu.diagonal(dim1=1, dim2=2)
        # Rounding makes a variance of nothing negative, and weights made of it unbounded.
        w2 = self.ww.diagonal(dim1=1, dim2=2).clamp(min=0)
        own = self.uw.diagonal(dim1=1, dim2=2)
        square = u2[:, :, None] * w2[:, None, :] + 2 * self.uw.square()
        cross = own[:, :, None] * own[:, None, :] + self.uu * self.ww + self.uw * self.uw.mT
        return Products(self.uw, square / n, cross / n, w2)


def second_moment(products: Products, p: Tensor) -> Tensor:
    """Sum over samples of ``(p_kl u_k w_l + p_lk u_l w_k)^2``."""
    q = p.square() * products.square
    return q + q.mT + 2 * p * (1 - p) * products.cross


View = SampleView | ScatterView


def views_of(moments: Moments, estimator: str, rows: Tensor | None) -> Iterator[View]:
    """Yield the rows: all at once on a GPU; one by one on a CPU, where a row fits in its cache."""
    if moments.keeps_samples:
        z, gradients = moments.samples()
        if rows is not None:
            gradients = gradients[rows]
        for g in gradients.split(1) if gradients.is_cpu else [gradients]:
            yield SampleView.of(z, g, estimator)
        return
    scatter = moments.scatter()
    if rows is not None:
        scatter = scatter.rows(rows)
    for part in scatter.split() if scatter.gg.is_cpu else [scatter]:
        yield ScatterView(part, estimator)
