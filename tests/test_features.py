"""Features: lift and pull are S and its exact transpose, for every kind."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

import hessx
from hessx.features import FeatureMap

SHAPE = (3, 10, 7)
LABELS = torch.arange(70).reshape(10, 7) % 6
SPECS = {
    "identity": hessx.Identity(),
    "grid": hessx.Grid((4, 3)),
    "grid-separate": hessx.Grid((4, 3), channels="separate"),
    "grid-bilinear": hessx.Grid((4, 3), mode="bilinear"),
    "grid-full": hessx.Grid((10, 7)),
    "segments": hessx.Segments(LABELS),
    "segments-of-numbers": hessx.Segments(torch.arange(210).reshape(SHAPE) % 11),
    "basis": hessx.Basis(torch.randn(210, 5, generator=torch.Generator().manual_seed(0))),
}


def dense(features: FeatureMap) -> torch.Tensor:
    """Return S, column by column."""
    eye = torch.eye(features.n_features, dtype=torch.float64)
    return torch.stack([features.lift(t).flatten() for t in eye], 1)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
class TestEveryKind:
    def test_pull_is_the_transpose_of_lift(self, spec):
        features = spec.bind(SHAPE)
        g = torch.randn(2, 4, *SHAPE, dtype=torch.float64)
        expected = g.flatten(2) @ dense(features)
        torch.testing.assert_close(features.pull(g), expected)

    def test_lift_of_a_batch_is_the_lift_of_each(self, spec):
        features = spec.bind(SHAPE)
        t = torch.randn(2, 4, features.n_features)
        lifted = features.lift(t)
        assert lifted.shape == (2, 4, *SHAPE)
        torch.testing.assert_close(lifted[1, 2], features.lift(t[1, 2]))

    def test_gram(self, spec):
        features = spec.bind(SHAPE)
        gram = features.gram()
        full = torch.diag(gram) if gram.dim() == 1 else gram
        torch.testing.assert_close(full, dense(features).mT @ dense(features))

    def test_lift_minimal_is_a_right_inverse_of_pull(self, spec):
        features = spec.bind(SHAPE)
        w = torch.randn(3, features.n_features, dtype=torch.float64)
        torch.testing.assert_close(features.pull(features.lift_minimal(w)), w)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_grid_upsamples_as_torch_does(mode):
    features = hessx.Grid((4, 3), channels="separate", mode=mode).bind((2, 12, 9))
    t = torch.randn(5, 2, 4, 3, dtype=torch.float64)
    expected = interpolate(t, size=(12, 9), mode=mode)
    torch.testing.assert_close(features.lift(t.flatten(1)), expected)


def test_grid_of_a_picture_without_channels():
    features = hessx.Grid((2, 2)).bind((4, 4))
    expected = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    torch.testing.assert_close(features.lift(torch.tensor([1.0, 2, 3, 4])), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hessx.Grid((0, 2)), "size must be two positive integers"),
        (lambda: hessx.Grid((2, 2), channels="all"), "channels must be"),
        (lambda: hessx.Grid((2, 2), mode="cubic"), "mode must be"),
        (lambda: hessx.Grid((20, 2)).bind(SHAPE), "finer than the picture"),
        (lambda: hessx.Grid((2, 2)).bind((10,)), "needs inputs"),
        (lambda: hessx.Segments(torch.tensor([0, 2])), "every number from 0 to k-1"),
        (lambda: hessx.Segments(torch.zeros(0, dtype=torch.long)), "must not be empty"),
        (lambda: hessx.Segments(LABELS).bind((3, 9, 7)), "fit neither"),
        (lambda: hessx.Basis(torch.zeros(3)), r"matrix must be \(d, k\)"),
        (lambda: hessx.Basis(torch.full((3, 1), torch.nan)), "finite"),
        (lambda: hessx.Basis(torch.zeros(3, 1)).bind((4,)), "3 rows"),
    ],
)
def test_bad_features_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="labels must be integers"):
        hessx.Segments(torch.zeros(3))
