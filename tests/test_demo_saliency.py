"""CASO and CAFO in the demo: the maps are the library's, and the page has their numbers."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import hessx
from hessx import demo, plot
from hessx.demo.numbers import signed
from hessx.demo.saliency import PATH_SHARES
from hessx.demo.saliency_section import saliency_section, second_order_note
from tests.references.pages import References, assert_whole_and_escaped, visible_text
from tests.references.small_demo import small_classifier, small_photograph

SIDE = 16


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    return small_photograph(tmp_path_factory.mktemp("picture"), SIDE)


@pytest.fixture(scope="module")
def classifier(photograph):
    result = small_classifier(SIDE)
    model = result.model
    # Large class gradients and an undecided answer: H weighs more than the default c1.
    with torch.no_grad():
        model[3].weight *= 100
        wanted = torch.tensor([0.9, 0.7, 0.2, 0.0])
        model[3].bias += wanted - model(result.inputs(photograph.pixels))[0]
    return result


@pytest.fixture(scope="module")
def maps(classifier, photograph):
    return demo.explain_pixels(classifier, photograph, target=0)


@pytest.fixture(scope="module")
def page(maps, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return demo.write_saliency_page(maps, path).read_text(encoding="utf-8")


def test_maps_are_those_of_the_library(maps, classifier, photograph):
    x = classifier.inputs(photograph.pixels)
    second = hessx.caso(classifier.model, x, 0)
    first = hessx.cafo(classifier.model, x, 0, lambda2=second.lambda2)
    assert torch.equal(maps.caso.delta, second.delta)
    assert torch.equal(maps.cafo.delta, first.delta)
    x.requires_grad_()
    loss = torch.nn.functional.cross_entropy(classifier.model(x), torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(maps.gradient, gradient)
    expected = gradient.abs().max() * torch.tensor([PATH_SHARES])
    torch.testing.assert_close(maps.path.lambda1, expected)
    assert maps.target.index == 0
    assert maps.target.probability == pytest.approx(math.exp(-loss.item()), rel=1e-5)


def test_cosine_is_between_the_two_maps(maps):
    a, b = maps.caso.delta.flatten().double().numpy(), maps.cafo.delta.flatten().double().numpy()
    assert maps.cosine == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), rel=1e-12)
    assert 0 < maps.cosine < 0.9999


def test_options_choose_the_pixels(classifier, photograph):
    few = demo.explain_pixels(classifier, photograph, k=9)
    assert 1 <= int((few.caso.delta != 0).any(1).sum()) <= 9
    half = demo.explain_pixels(classifier, photograph, method="cafo", sparsity=0.5)
    assert 0.5 <= float(half.cafo.sparsity) < 0.75
    given = demo.explain_pixels(classifier, photograph, method="cafo", lambda1=0.0)
    assert float(given.cafo.lambda1) == 0
    assert given.caso is None
    assert given.path is None
    with pytest.raises(ValueError, match="method must be"):
        demo.explain_pixels(classifier, photograph, method="leg")
    with pytest.raises(ValueError, match="target must be a class from 0 to 3, got 4"):
        demo.explain_pixels(classifier, photograph, target=4)


def test_smoothing_averages_everything(classifier, photograph, tmp_path):
    smooth = demo.explain_pixels(
        classifier, photograph, target=1, smooth_sigma=0.25, n_samples=6, seed=3
    )
    x = classifier.inputs(photograph.pixels)
    expected = hessx.caso(classifier.model, x, 1, smooth_sigma=0.25, n_samples=6, seed=3)
    assert torch.equal(smooth.caso.delta, expected.delta)
    plain = demo.explain_pixels(classifier, photograph, target=1)
    assert not torch.allclose(smooth.gradient, plain.gradient, rtol=0.01)
    written = demo.write_saliency_page(smooth, tmp_path / "page.html").read_text(encoding="utf-8")
    text = visible_text(written)
    assert "means over 6 noisy copies of the picture: a standard deviation of 0.25 (32 grey" in text
    assert "Smooth CASO second order" in text
    assert "SmoothGrad" in text


def test_page_is_whole_and_escaped(page):
    assert_whole_and_escaped(page)


def test_pictures_have_words(page):
    images = re.findall(r"<img [^>]*>", page)
    # The gradient, CAFO, CASO and the path.
    assert len(images) == 3 + len(PATH_SHARES)
    described = [re.search(r'alt="(Map: [^"]+)"', image) for image in images]
    assert all(described)
    assert len({found[1] for found in described}) == len(images)
    assert page.count('aria-label="The picture as the network sees it"') == 2


def test_numbers_on_the_page_are_the_results(page, maps):
    text = visible_text(page)
    both = (maps.cafo, maps.caso)

    def row(name, write):
        return f"{name} {' '.join(write(each) for each in both)} "

    assert row("the price of moving pixels", lambda each: f"{each.lambda1.item():.3g}") in text
    assert row("pixels that are zero", lambda each: f"{each.sparsity.item():.1%}") in text
    moved = [int((each.delta != 0).any(1).sum()) for each in both]
    assert f"pixels that are not {moved[0]} {moved[1]} " in text
    assert row("objective gap, at most", lambda each: f"{each.gap.item():.3g}") in text
    bound = f"{maps.caso.curvature_bound.item():.3g}"
    assert f"largest eigenvalue of H, at most {bound} {bound} " in text
    assert row("time", lambda each: f"{each.seconds * 1000:,.0f} ms") in text
    share = f"{maps.target.probability:.1%}"
    assert f"confidence in “&lt;b&gt;” {share} {share} " in text
    for result in both:
        assert signed(result.loss_change.item(), 3)[:5] in text
    for index in range(len(PATH_SHARES)):
        one = maps.path[index]
        assert f"= {one.lambda1.item():.3g} {one.sparsity.item():.1%} zero, loss " in text


def test_pictures_are_the_maps(page, maps):
    address = re.search(r'<img class="map" src="([^"]+)" alt="Map: CASO,', page)[1]
    overlay = plot.saliency_overlay(
        maps.photograph.pixels, hessx.saliency_map(maps.caso.delta)[0].numpy(), quantile=1.0
    )
    shown = Image.open(BytesIO(b64decode(address.partition(",")[2])))
    assert np.array_equal(np.asarray(shown), overlay)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.0, "hardly changes which pixels"),
        (0.3, "changes the map a little"),
        (2.0, "changes the map clearly"),
    ],
)
def test_note_says_what_the_cosine_says(shift, words, maps):
    first = torch.zeros_like(maps.caso.delta)
    first[0, 0, 0, 0] = 1.0
    second = first.clone()
    second[0, 1, 2, 3] = shift
    changed = replace(
        maps, cafo=replace(maps.cafo, delta=first), caso=replace(maps.caso, delta=second)
    )
    note = second_order_note(changed)
    assert words in note
    assert signed(1 / math.hypot(1, shift), 4) in note


def test_empty_maps_have_no_cosine(maps, classifier, photograph):
    empty = demo.explain_pixels(classifier, photograph, target=0, lambda1=1e6)
    assert math.isnan(empty.cosine)
    assert "An empty map has no direction" in saliency_section(empty)
    assert "100.0% zero" in saliency_section(empty)


def test_demo_page_takes_the_section(maps, tmp_path, classifier, photograph):
    explanation = demo.explain_photograph(
        classifier, photograph, target=0, n_segments=4, grid=2, n_samples=8
    )
    with_maps = demo.write_page(explanation, tmp_path / "with.html", maps).read_text("utf-8")
    without = demo.write_page(explanation, tmp_path / "without.html").read_text("utf-8")
    assert saliency_section(maps) in with_maps
    assert "SmoothHess, CAFO, CASO</span>" in with_maps
    assert "CASO" not in without
    parser = References()
    parser.feed(with_maps)
    assert len(parser.ids) == len(set(parser.ids))
    assert f"{explanation.seconds + maps.seconds:.1f} s in total" in with_maps
