"""Theorems 2 and 4 of the CASO paper and its appendix F.1: A = diag(p) - p p^T and W A W^T."""

from __future__ import annotations

import math

import pytest
import torch

from tests.references.rank_one import (
    confident_probabilities,
    gaussian_gram,
    rank_one_error,
    softmax_covariance,
)

CLASSES = (10, 20, 50, 100, 200, 500, 1000)
CONFIDENCE = 0.9999


def probabilities(sharpness: float) -> torch.Tensor:
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (sharpness * logits).softmax(1)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 10.0, 300.0])
def test_theorem_2_the_covariance_of_the_classes_is_positive_semidefinite(sharpness):
    p = probabilities(sharpness)
    A = softmax_covariance(p)
    # Eigenvalues of LAPACK are within rounding of the largest, which is at most 1/2.
    assert (torch.linalg.eigvalsh(A) >= -1e-15).all()
    # Gershgorin's circles, the paper's proof: no row has more off its diagonal than on it.
    diagonal = A.diagonal(dim1=1, dim2=2)
    assert (2 * diagonal - A.abs().sum(2) >= -1e-15).all()


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 10.0, 300.0])
def test_the_covariance_has_a_root_without_a_decomposition(sharpness):
    """S S^T = A for S = diag(sqrt p) - p sqrt(p)^T: appendix C needs no Cholesky."""
    p = probabilities(sharpness)
    S = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    torch.testing.assert_close(S @ S.mT, softmax_covariance(p), rtol=0, atol=1e-15)


@pytest.mark.parametrize("c", [2, 3, 10, 100])
@pytest.mark.parametrize("doubt", [0.5, 1e-2, 1e-4])
def test_the_spectrum_of_theorem_4(c, doubt):
    """A.4 has c eps, eps (c - 2 times) and 0 where eps^2 is left out; exactly, c eps p[0] is first.

    The vectors that sum to 0 over the unlikely classes keep eps, A 1 = 0, and the trace leaves the
    rest to [1 - c, 1, ..., 1].
    """
    eps = doubt / (c - 1)
    p = confident_probabilities(c, eps)
    A = softmax_covariance(p)
    exact = torch.tensor([0.0] + [eps] * (c - 2) + [c * eps * p[0]], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(A), exact, rtol=0, atol=1e-12)
    top = torch.ones(c, dtype=torch.float64)
    top[0] = 1 - c
    torch.testing.assert_close(A @ top, exact[-1] * top, rtol=0, atol=1e-12)
    assert abs(exact[-1] - c * eps) <= c * doubt * eps * (1 + 1e-9)


def test_the_norm_is_that_of_the_dense_hessians():
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    eps = torch.tensor([0.1, 1e-3], dtype=torch.float64)
    for e, error in zip(eps, rank_one_error(W.T @ W, eps), strict=True):
        p = confident_probabilities(6, e.item())
        H = W @ softmax_covariance(p) @ W.T
        g = W @ (p - torch.eye(6, dtype=torch.float64)[0])
        dense = (H - torch.outer(g, g) / (e * 5)).norm() / H.norm()
        # 1 - p loses 13 bits of its 53 at eps = 1e-3, which only the dense one forms.
        torch.testing.assert_close(error, dense, rtol=1e-10, atol=0)


def test_the_hessian_becomes_rank_one_with_the_number_of_classes():
    """Figure 1 of appendix F.1: p[0] = .9999. With d = 3072 the limit is 1.15 sqrt(c - 2) / c."""
    errors = []
    for seed in range(3):
        gram = gaussian_gram(3072, max(CLASSES), seed)
        for c in CLASSES:
            eps = torch.tensor([(1 - CONFIDENCE) / (c - 1)], dtype=torch.float64)
            errors.append(rank_one_error(gram[:c, :c], eps))
            assert errors[-1] < 1.3 * math.sqrt(c - 2) / c
    median = torch.cat(errors).view(3, -1).median(0).values
    assert (median.diff() < 0).all()
    # Far from the bound and from 0: the truth is .0364 in expectation.
    assert 0.035 < median[-1] < 0.038


def test_the_hessian_becomes_rank_one_with_confidence():
    """Figure 2 of appendix F.1: c = 100, eps from 5e-3 to 1e-6."""
    eps = torch.logspace(math.log10(5e-3), -6, 25, dtype=torch.float64)
    errors = torch.stack([rank_one_error(gaussian_gram(784, 100, s), eps) for s in range(5)])
    median = errors.median(0).values
    # Once the doubt is a hundredth of the limit it no longer shows in the third digit.
    assert (median.diff() < 0)[eps[1:] > 1e-5].all()
    assert median[0] > 0.9
    assert median[-1] < 1.1 * math.sqrt(98 * (1 + 98 / 784)) / 100
