"""LEG and LEG-TV in the demo: the maps are the library's, and the page has their numbers."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import hessx
from hessx import demo, plot
from hessx.demo.leg_section import error_words, leg_section
from tests.references.pages import References, assert_whole_and_escaped, visible_text
from tests.references.small_demo import small_classifier, small_photograph

SIDE = 16
GRID = 4
LEVELS = (0.1, 0.5)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    return small_photograph(tmp_path_factory.mktemp("picture"), SIDE)


@pytest.fixture(scope="module")
def classifier():
    return small_classifier(SIDE)


def explained(classifier, photograph, **options):
    fast = dict(target=0, grid=GRID, n_samples=64, K_L=LEVELS)
    return demo.explain_cells(classifier, photograph, **{**fast, **options})


@pytest.fixture(scope="module")
def maps(classifier, photograph):
    return explained(classifier, photograph)


@pytest.fixture(scope="module")
def page(maps, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return demo.write_leg_page(maps, path).read_text(encoding="utf-8")


def shown_map(page, name):
    """Return the pixels of the map that the page shows under a name."""
    address = re.search(rf'aria-label="Map: {re.escape(name)}">.*?<image href="([^"]+)"', page)[1]
    return np.asarray(Image.open(BytesIO(b64decode(address.partition(",")[2]))))


def test_maps_are_those_of_the_library(maps, classifier, photograph):
    def black_box(x):
        p = classifier.model(x).softmax(1)[:, 0]
        return (p / (1 - p)).log()

    expected = hessx.leg_tv(
        black_box,
        classifier.inputs(photograph.pixels),
        features=hessx.Grid((GRID, GRID), mode="bilinear"),
        sigma=0.03,
        n_samples=64,
        K_L=list(LEVELS),
        clip=(-127 / 128, 1.0),
    )
    # Probabilities in float32 have an error of 1e-7, which is divided by a sigma of .03.
    torch.testing.assert_close(maps.leg.gamma, expected.empirical.gamma, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(maps.path.objective, expected.objective, rtol=1e-3, atol=0)
    assert maps.leg.n_evaluations == 65
    assert maps.target.index == 0


def test_options_choose_the_maps(classifier, photograph):
    alone = explained(classifier, photograph, method="leg")
    assert alone.path is None
    assert alone.K_L == ()
    separate = explained(classifier, photograph, channels="separate", sigma=0.1, seed=3)
    assert separate.leg.gamma.shape == (1, 3, GRID, GRID)
    assert separate.path.gamma.shape == (1, len(LEVELS), 3, GRID, GRID)
    assert separate.leg.sigma == 0.1
    text = visible_text(leg_section_page(separate))
    for color in ("red", "green", "blue"):
        assert f"{color.capitalize()} The picture LEG up to ±" in text
        assert f"L = 0.5, {color} " in text
    with pytest.raises(ValueError, match="method must be"):
        explained(classifier, photograph, method="caso")
    with pytest.raises(ValueError, match="target must be a class from 0 to 3, got 4"):
        explained(classifier, photograph, target=4)
    with pytest.raises(ValueError, match=r"K_L must be in \(0, 1\], got 2"):
        explained(classifier, photograph, K_L=(2.0,))


def leg_section_page(maps):
    return f"<main>{leg_section(maps)}</main>"


def test_page_is_whole_and_escaped(page):
    assert_whole_and_escaped(page)


def test_numbers_on_the_page_are_the_results(page, maps):
    text = visible_text(page)
    assert f"{maps.leg.clear_share:.0%} are more than two standard errors from 0" in text
    assert f"A standard error is {maps.leg.stderr.median():.2g} (the median)" in text
    assert f"It took 65 evaluations of the network, {maps.leg.model_seconds:.1f} s" in text
    assert f"2 values of L together in {maps.path.solver_seconds * 1000:.1f} ms" in text
    assert "σ = 0.03, which is 3.84 grey levels" in text
    variation = hessx.ops.grid_difference(maps.leg.gamma[0].double()).abs().sum()
    for index, share in enumerate(LEVELS):
        differences = hessx.ops.grid_difference(maps.path.gamma[0, index])
        row = (
            f"L = {share:g} {maps.path.L[0, index, 0].item():.3g} "
            f"{(maps.path.objective[0, index, 0] / variation).item():.1%} "
            f"{int((differences != 0).sum())} of 24 {maps.path.gap[0, index, 0].item():.1g} "
        )
        assert row in text


def test_pictures_are_the_maps(page, maps):
    found = {"LEG": maps.leg.gamma[0, 0]}
    found |= {
        f"LEG-TV at K_L = {share:g}": gamma[0]
        for share, gamma in zip(LEVELS, maps.path.gamma[0], strict=True)
    }
    assert page.count('aria-label="Map: ') == len(found)
    for name, gamma in found.items():
        cells = gamma.numpy().repeat(SIDE // GRID, 0).repeat(SIDE // GRID, 1)
        assert np.array_equal(shown_map(page, name), plot.diverging_colors(cells))


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.05, "little more than chance"), (0.11, "strongest cells"), (0.4, "much of the map")],
)
def test_standard_errors_in_words(share, words):
    assert words in error_words(share)


def test_a_constant_has_empty_maps(classifier, photograph):
    def constant(x):
        return torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(x), 4)

    flat = explained(demo.Classifier("constant", constant, classifier.class_names), photograph)
    assert flat.leg.clear_share == 0
    text = visible_text(leg_section_page(flat))
    assert text.count("up to ±0.0 ") == 1 + len(LEVELS)
    assert f"= {LEVELS[0]:g} 0 0.0% 0 of 24 0 " in text
    assert "0 of 0 0" in visible_text(leg_section_page(explained(classifier, photograph, grid=1)))


def test_demo_page_takes_the_section(maps, tmp_path, classifier, photograph):
    explanation = demo.explain_photograph(
        classifier, photograph, target=0, n_segments=4, grid=2, n_samples=8
    )
    written = demo.write_page(explanation, tmp_path / "page.html", leg=maps).read_text("utf-8")
    assert leg_section(maps) in written
    assert "SmoothHess, LEG, LEG-TV</span>" in written
    parser = References()
    parser.feed(written)
    assert len(parser.ids) == len(set(parser.ids))
    assert f"{explanation.seconds + maps.seconds:.1f} s in total" in written
