"""Covariances: A A^T is Sigma, and whitening undoes A."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx import covariance

K = 5
FACTOR = torch.randn(K, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SINGULAR = torch.zeros(K, 2)
SINGULAR[0, 0], SINGULAR[2, 1], SINGULAR[3, 1] = 1.0, 1.0, 2.0
CASES = {
    "identity": (covariance.Identity(), torch.eye(K)),
    "diagonal": (
        covariance.Diagonal(torch.tensor([1.0, 0, 4, 0, 2])),
        torch.diag(torch.tensor([1.0, 0, 4, 0, 2])),
    ),
    "factor": (covariance.Factor(FACTOR), FACTOR @ FACTOR.mT),
    "singular": (covariance.Factor(SINGULAR), SINGULAR @ SINGULAR.mT),
}
SCALE = torch.tensor([1.0, 2, 0.5, 3, 1], dtype=torch.float64)


@pytest.mark.parametrize("scale", [None, SCALE], ids=["unscaled", "scaled"])
@pytest.mark.parametrize(("law", "sigma"), CASES.values(), ids=CASES.keys())
def test_root(law, sigma, scale):
    root = law.root(K, scale)
    eye = torch.eye(root.rank, dtype=torch.float64)
    a = root.apply(eye).mT
    d = torch.diag(SCALE if scale is not None else torch.ones(K, dtype=torch.float64))
    torch.testing.assert_close(a @ a.mT, d @ sigma.double() @ d)
    pseudo_inverse = torch.linalg.pinv(a)
    features = torch.eye(K, dtype=torch.float64)
    torch.testing.assert_close(root.apply_transpose(features), a)
    torch.testing.assert_close(root.whiten(features), pseudo_inverse.mT)
    torch.testing.assert_close(root.whiten_transpose(eye).mT, pseudo_inverse.mT)


@pytest.mark.parametrize("grid", [(1, 4, 5), (3, 2, 2), (1, 1, 6), (2, 5, 1), (1, 1, 1)])
def test_the_root_of_grid_tv(grid):
    channels, p1, p2 = grid
    k, p = channels * p1 * p2, p1 * p2
    root = covariance.GridTV().root(k, grid=grid)
    eye = torch.eye(k, dtype=torch.float64)
    differences = hessx.ops.grid_difference(torch.eye(p, dtype=torch.float64).view(p, p1, p2))
    one = differences @ differences.mT + 1 / p
    sigma = torch.block_diag(*[one] * channels)
    torch.testing.assert_close(root.apply(root.apply_transpose(eye)), sigma)
    torch.testing.assert_close(root.precision(eye), torch.linalg.inv(sigma))
    torch.testing.assert_close(root.whiten(root.apply(eye)), eye)
    torch.testing.assert_close(root.whiten_transpose(root.apply_transpose(eye)), eye)
    assert root.identified.all()


def test_precision_is_the_pseudo_inverse():
    for law, sigma in CASES.values():
        expected = torch.linalg.pinv(sigma.double(), hermitian=True)
        torch.testing.assert_close(law.root(K).precision(torch.eye(K).double()), expected)


def test_identified_features():
    assert covariance.Identity().root(2).identified.tolist() == [True, True]
    assert CASES["diagonal"][0].root(K).identified.tolist() == [True, False, True, False, True]
    # Features 2 and 3 move only together: neither is identified alone.
    assert CASES["singular"][0].root(K).identified.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: covariance.Diagonal(torch.zeros(3)), "not be all zero"),
        (lambda: covariance.Diagonal(torch.tensor([1.0, -1])), ">= 0 everywhere, got -1"),
        (lambda: covariance.Diagonal(torch.tensor([1.0, torch.inf])), "finite, got inf"),
        (lambda: covariance.Diagonal(torch.ones(2, 2)), r"must be \(k,\)"),
        (lambda: covariance.Factor(torch.zeros(2, 2)), "not all zero"),
        (lambda: covariance.Factor(torch.ones(2)), r"must be \(k, q\)"),
        (lambda: covariance.Factor(torch.ones(2, 2)).root(3), "2 rows for 3 features"),
        (lambda: covariance.Diagonal(torch.ones(2)).root(3), "2 entries for 3 features"),
        (lambda: covariance.GridTV().root(6), "needs features on a grid"),
        (lambda: covariance.GridTV().root(6, torch.ones(6), (1, 2, 3)), "one sigma for all"),
    ],
)
def test_bad_covariances_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
