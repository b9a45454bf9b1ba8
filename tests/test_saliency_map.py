"""Saliency maps against numpy's percentile, and where the cap is special."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hessx

X = torch.randn(4, 3, 13, 11, generator=torch.Generator().manual_seed(0))


def by_numpy(image: np.ndarray, percentile: float) -> np.ndarray:
    sizes = np.abs(image.astype(np.float64)).sum(0)
    return np.clip(sizes / np.percentile(sizes, percentile), 0, 1)


@pytest.mark.parametrize("percentile", [99.0, 50, 100, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_as_numpy_computes_it(dtype, percentile):
    # Sizes that differ by powers of ten: a cap shared by the batch would show.
    x = (X * torch.tensor([1, 10, 1e-3, 100])[:, None, None, None]).to(dtype)
    found = hessx.saliency_map(x, percentile=percentile)
    assert found.dtype == dtype
    expected = np.stack([by_numpy(image, percentile) for image in x.double().numpy()])
    # The same sums in another order, then one rounding to dtype.
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=4 * eps, atol=0)


def test_the_default_is_the_99th_percentile():
    found = hessx.saliency_map(X)
    assert torch.equal(found, hessx.saliency_map(X, percentile=99))
    # 143 pixels: the 99th percentile lies between the second and third largest.
    assert (found == 1).flatten(1).sum(1).tolist() == [2] * 4


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_shapes_without_channels(shape):
    x = torch.randn(2, *shape)
    found = hessx.saliency_map(x, percentile=100)
    torch.testing.assert_close(
        found, x.abs() / x.abs().flatten(1).amax(1).view(-1, *[1] * len(shape))
    )


def test_channels_of_volumes():
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(hessx.saliency_map(x).flatten(2), hessx.saliency_map(x.flatten(3)))


def test_maps_with_few_numbers():
    x = torch.zeros(3, 1, 20, 20)
    x[1] = -3
    x[2, 0, 4, :2] = torch.tensor([1.0, -4.0])
    found = hessx.saliency_map(x)
    assert torch.equal(found[0], torch.zeros(20, 20))
    assert torch.equal(found[1], torch.ones(20, 20))
    # 2 of 400 pixels: the 99th percentile is 0.
    assert found[2].count_nonzero() == 2
    assert found[2, 4, :2].tolist() == [0.25, 1]


def test_large_and_small_numbers():
    for dtype, scale in [(torch.float16, 3e4), (torch.float32, 2e38), (torch.float64, 1e-300)]:
        x = (X.double() / X.abs().amax() * scale).to(dtype)
        torch.testing.assert_close(
            hessx.saliency_map(x).float(), hessx.saliency_map(X), rtol=2e-3, atol=1e-7
        )


def test_the_argument_is_neither_changed_nor_tracked():
    x = X.clone().requires_grad_()
    found = hessx.saliency_map(x)
    assert not found.requires_grad
    assert torch.equal(x, X)
    strided = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(hessx.saliency_map(strided), found)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hessx.saliency_map([1.0]), TypeError, "attributions must be a tensor, got list"),
        (lambda: hessx.saliency_map(torch.ones(1, 3).int()), TypeError, "floating point"),
        (lambda: hessx.saliency_map(torch.ones(3)), ValueError, r"\(B, \*shape\).*got \(3,\)"),
        (lambda: hessx.saliency_map(torch.ones(0, 3)), ValueError, "not empty"),
        (lambda: hessx.saliency_map(X.where(X < 2, torch.nan)), ValueError, "finite, got nan"),
        (lambda: hessx.saliency_map(X.where(X < 2, torch.inf)), ValueError, "finite, got inf"),
        (lambda: hessx.saliency_map(X, percentile=0), ValueError, r"\(0, 100\], got 0"),
        (lambda: hessx.saliency_map(X, percentile=100.1), ValueError, "got 100.1"),
        (
            lambda: hessx.saliency_map(torch.ones(1, 1).half().expand(1, 2**24 + 1)),
            ValueError,
            "at most 16777216 pixels an image, got 16777217",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
