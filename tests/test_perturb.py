"""Draws: fixed by their number, of the law they claim."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx import covariance
from hessx.perturb import SAMPLINGS, FeatureNoise, InputNoise, NormalDraws

CPU = torch.device("cpu")


def draws(dim: int, sampling: str = "iid", dtype: torch.dtype = torch.float64) -> NormalDraws:
    return NormalDraws(dim, 3, sampling, dtype, CPU)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_draw_depends_on_its_number_alone(sampling):
    whole = draws(7, sampling).draw(0, 40)
    pieces = draws(7, sampling)
    joined = torch.cat([pieces.draw(a, b - a) for a, b in [(0, 3), (3, 4), (4, 19), (19, 40)]])
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(draws(7, sampling).draw(33, 5), whole[33:38], rtol=0, atol=1e-12)


def test_frames_are_orthogonal_and_chi_distributed():
    z = draws(6, "frames").draw(0, 6 * 2000).reshape(2000, 6, 6)
    gram = z @ z.mT
    off = gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-10
    # |z|^2 is chi-square with 6 degrees of freedom: mean 6, variance 12; 12,000 draws.
    squares = gram.diagonal(dim1=1, dim2=2)
    assert abs(squares.mean() - 6) < 4 * (12 / 12_000) ** 0.5
    # Haar: no direction preferred. Each coordinate is standard normal.
    flat = z.reshape(-1, 6)
    assert flat.mean(0).abs().max() < 4 / 12_000**0.5
    assert (flat.square().mean(0) - 1).abs().max() < 4 * (2 / 12_000) ** 0.5


@pytest.mark.parametrize("sampling", ["iid", "frames"])
@pytest.mark.parametrize("count", [4, 9, 20])
def test_noise_of_the_sample_covariance(sampling, count):
    """The variance of off-diagonal entries of Z^T Z / n, n times: 1 for independent draws."""
    dim, repeats = 10, 4000
    entries = []
    for seed in range(repeats // 45):
        z = NormalDraws(dim, seed, sampling, torch.float64, CPU).draw(0, count)
        covariance = z.mT @ z / count
        entries.append(covariance[tuple(torch.triu_indices(dim, dim, 1))])
    share = torch.cat(entries).square().mean() * count
    expected = NormalDraws(dim, 0, sampling, torch.float64, CPU).covariance_noise(count)
    # Lengths of whole frames vary by 2 / dim, which is left out; 4000 entries.
    assert share == pytest.approx(expected, abs=0.2)


def test_no_draws():
    for sampling in SAMPLINGS:
        assert draws(5, sampling).draw(4, 0).shape == (0, 5)


def test_feature_noise_has_its_covariance():
    features = hessx.Segments(torch.tensor([0, 0, 1, 2])).bind((4,))
    factor = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0, 0, 2]])
    root = covariance.Factor(factor).root(3)
    noise = FeatureNoise(features, root, 0.1, draws(root.rank))
    n = 100_000
    _, displacement = noise.draw(0, n)
    s = torch.eye(4, dtype=torch.float64)[:, :3].clone()
    s[:] = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    expected = 0.01 * s @ factor.double() @ factor.double().mT @ s.mT
    # Entries of a sample covariance have relative deviation below sqrt(2/n).
    found = displacement.mT @ displacement / n
    assert (found - expected).abs().max() < 4 * (2 / n) ** 0.5 * expected.abs().max()


def test_input_noise_whitens_group_sums():
    matrix = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = hessx.Basis(matrix).bind((6,))
    root = covariance.Factor(torch.linalg.cholesky(matrix.mT @ matrix)).root(3)
    noise = InputNoise(features, root, 0.2, draws(6))
    z, displacement = noise.draw(0, 50_000)
    assert (z.mT @ z / len(z) - torch.eye(3)).abs().max() < 4 * (2 / len(z)) ** 0.5
    # S^T delta = sigma R z exactly.
    torch.testing.assert_close(features.pull(displacement), 0.2 * noise.expand(z))
    torch.testing.assert_close(noise.coordinates(7, 3), z[7:10])
