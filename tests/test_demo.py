"""The demo: pictures in, a self-contained page with the result's own numbers out."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from hessx import demo, plot
from hessx.demo.interactions import strongest
from hessx.demo.labels import place_labels
from hessx.demo.numbers import signed, with_error
from hessx.demo.superpixels import centres, outlines, superpixels
from tests.references.pages import References, visible_text

SIDE = 48


def tiny_classifier() -> demo.Classifier:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 9 * 9, 4),
    )
    names = ["</script><b>", "tabby, tabby cat", "crane", "crane, derrick"]
    return demo.Classifier("tiny & fake", model.eval(), names)


def picture(path, size=(90, 60)):
    rows, columns = np.mgrid[: size[1], : size[0]]
    rgb = np.stack([columns * 2, rows * 4, (columns // 15 + rows // 15) % 2 * 200], -1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def explanation(tmp_path_factory):
    path = picture(tmp_path_factory.mktemp("picture") / "a<b>.png")
    return demo.explain_photograph(
        tiny_classifier(),
        demo.load_photograph(path, crop=SIDE),
        target=0,
        n_segments=12,
        grid=4,
        sigma=0.3,
        n_samples=128,
    )


@pytest.fixture(scope="module")
def page(explanation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return demo.write_page(explanation, path).read_text(encoding="utf-8")


def page_data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_page_loads_nothing(page):
    parser = References()
    parser.feed(page)
    assert parser.references
    assert all(value.startswith(("#", "data:")) for value in parser.references)
    assert not re.search(r"https?://|@import|url\(", page)


def test_page_refers_only_to_what_it_has(page):
    parser = References()
    parser.feed(page)
    inside = {value[1:] for value in parser.references if value.startswith("#")}
    assert {value for value in inside if not value.startswith("segment=")} <= set(parser.ids)
    assert len(parser.ids) == len(set(parser.ids))
    assert set(re.findall(r'byId\("([\w-]+)"\)', page)) <= set(parser.ids)
    assert "$" not in page.split("<script>")[0]


def test_page_escapes_names(page):
    assert "<b>" not in page.split("<main>")[0]
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "a&lt;b&gt;.png" in page
    assert "tiny &amp; fake" in page


def test_numbers_behind_the_page_are_the_results(page, explanation):
    data = page_data(page)
    hessian, stderr = explanation.segments.to_dense(stderr=True)
    # The page keeps six digits.
    for name, value in [
        ("hessian", hessian[0]),
        ("stderr", stderr[0]),
        ("gradient", explanation.segments.feature_gradient[0]),
        ("eigenvalues", explanation.segments.eigenvalues[0]),
        ("gridEigenvalues", explanation.grid.eigenvalues[0]),
    ]:
        torch.testing.assert_close(torch.tensor(data[name]), value, rtol=1e-5, atol=0)
    assert data["relativeError"] == pytest.approx(float(explanation.segments.relative_error), 1e-5)
    assert sum(data["pixels"]) == SIDE * SIDE


def test_numbers_on_the_page_are_the_results(page, explanation):
    text = visible_text(page)
    hessian, stderr = (x[0].numpy() for x in explanation.segments.to_dense(stderr=True))
    listed = [pair for sign in (1, -1) for pair in strongest(hessian, stderr, 6, sign=sign)]
    assert listed
    places = page_data(page)["places"]
    for pair in listed:
        row = f"{pair.first} – {pair.second} {with_error(pair.value, pair.stderr, places)} "
        assert row + signed(pair.z, 1) in text
    for result in (explanation.segments, explanation.grid):
        assert f"{float(result.relative_error):.2f}" in text
        assert f"{result.model_seconds / result.seconds:.1%}" in text
        for value in result.eigenvalues[0, :4].tolist():
            assert f"λ = {signed(value, 2)} " in text
    assert "estimand: noise on features features" in text
    assert "gradients 128 128" in text
    assert f"{explanation.target.probability:.1%}" in text


def test_page_without_clear_interactions(explanation, tmp_path):
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, 2))
    flat = demo.explain_photograph(
        demo.Classifier("linear", linear, ["a", "b"]),
        explanation.photograph,
        n_segments=6,
        grid=2,
        n_samples=8,
    )
    written = demo.write_page(flat, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No positive interaction is 3 standard errors from 0" in written
    # A linear model has no curvature whose error could be given.
    assert page_data(written)["relativeError"] is None


def test_explanation_is_reproducible(explanation):
    again = demo.explain_photograph(
        tiny_classifier(),
        explanation.photograph,
        target=0,
        n_segments=12,
        grid=4,
        sigma=0.3,
        n_samples=128,
    )
    assert torch.equal(again.segments.to_dense(), explanation.segments.to_dense())
    assert torch.equal(again.grid.to_dense(), explanation.grid.to_dense())


def test_explains_the_top_class_unless_told(explanation):
    result = demo.explain_photograph(
        tiny_classifier(), explanation.photograph, n_segments=6, grid=2, n_samples=8
    )
    assert result.target == max(result.classes, key=lambda score: score.probability)
    with pytest.raises(ValueError, match="target must be a class from 0 to 3, got 4"):
        demo.explain_photograph(tiny_classifier(), explanation.photograph, target=4)


def test_class_index():
    classifier = tiny_classifier()
    assert classifier.class_index("2") == 2
    assert classifier.class_index("Tabby CAT") == 1
    assert classifier.class_index("derri") == 3
    with pytest.raises(ValueError, match="'crane' could be 2 classes: 2 crane; 3 crane, derrick"):
        classifier.class_index("crane")
    with pytest.raises(ValueError, match="'dog' is no class name"):
        classifier.class_index("dog")
    for text in ("4", "-1"):
        with pytest.raises(ValueError, match=f"target must be a class from 0 to 3, got {text}"):
            classifier.class_index(text)


def test_inputs_are_normalised():
    pixels = np.full((4, 4, 3), 255, np.uint8)
    assert torch.equal(tiny_classifier().inputs(pixels), torch.ones(1, 3, 4, 4))


def test_photograph_is_the_centre(tmp_path):
    rgb = np.zeros((224, 448, 3), np.uint8)
    rgb[:, 160:288] = (250, 0, 0)
    Image.fromarray(rgb).save(tmp_path / "wide.png")
    photograph = demo.load_photograph(tmp_path / "wide.png")
    assert photograph.size == (448, 224)
    assert photograph.pixels.shape == (224, 224, 3)
    red = photograph.pixels[112, :, 0] > 125
    # 128 columns become 128 * 256 / 224 = 146, in the middle.
    assert abs(int(red.sum()) - 146) <= 1
    assert abs(int(red[:112].sum()) - int(red[112:].sum())) <= 1


def test_photograph_stands_upright(tmp_path):
    image = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # EXIF orientation: turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert demo.load_photograph(tmp_path / "turned.jpg").size == (40, 60)


def test_photograph_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such picture: .*missing\.png"):
        demo.load_photograph(tmp_path / "missing.png")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(ValueError, match=r"cannot read .*text\.png as a picture"):
        demo.load_photograph(text)
    cut = picture(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cannot read .*cut\.png as a picture"):
        demo.load_photograph(cut)
    with pytest.raises(ValueError, match="is 20 x 300: both sides must have at least 32 pixels"):
        demo.load_photograph(picture(tmp_path / "small.png", (20, 300)))


def test_superpixels_use_every_label(tmp_path):
    pixels = demo.load_photograph(picture(tmp_path / "p.png"), crop=SIDE).pixels
    labels = superpixels(pixels, 9)
    assert labels.shape == (SIDE, SIDE)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 4 <= labels.max() + 1 <= 14
    with pytest.raises(ValueError, match="n_segments must be >= 2, got 1"):
        superpixels(pixels, 1)


def test_segment_shapes():
    # Segment 0 is a frame around segment 1: its mean lies outside it.
    labels = np.zeros((20, 30), int)
    labels[4:16, 6:24] = 1
    points = centres(labels)
    for segment, (x, y) in enumerate(points):
        assert labels[int(y), int(x)] == segment
    frame, inner = outlines(labels)
    assert frame.count("M") == 2
    assert inner.count("M") == 1
    corners = np.array(re.findall(r"[\d.]+", inner), float).reshape(-1, 2)
    assert corners.min(0).tolist() == [6, 4]
    assert corners.max(0).tolist() == [24, 16]


def test_strongest_are_clear_and_sorted():
    hessian = np.array([[9.0, 1.0, -5.0], [1.0, 9.0, 2.0], [-5.0, 2.0, 9.0]])
    stderr = np.array([[0.1, 0.2, 9.0], [0.2, 0.1, 0.6], [9.0, 0.6, 0.1]])
    found = strongest(hessian, stderr, 5, sign=1)
    assert [(pair.first, pair.second, pair.value) for pair in found] == [(1, 2, 2.0), (0, 1, 1.0)]
    assert len(strongest(hessian, stderr, 1, sign=1)) == 1
    # -5 is the largest, but within its standard error.
    assert strongest(hessian, stderr, 5, sign=-1) == []


def test_labels_stay_apart_and_inside():
    lines = [((10.0, 50.0), (90.0, 50.0)), ((10.0, 52.0), (90.0, 52.0)), ((0.0, 0.0), (4.0, 1.0))]
    places = place_labels(lines, 30, 8, (100, 100))
    assert all(15 <= x <= 85 and 4 <= y <= 96 for x, y in places)
    for i, (x, y) in enumerate(places):
        for a, b in places[:i]:
            assert abs(x - a) >= 30 or abs(y - b) >= 8


def test_diverging_colors():
    colors = plot.diverging_colors([-1.0, -0.5, 0.0, 0.5, 1.0, 7.0], limit=1.0)
    assert np.array_equal(colors[:5], plot.DIVERGING)
    assert np.array_equal(colors[5], colors[4])
    assert plot.diverging_colors(np.zeros((2, 3))).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="limit must be > 0, got 0"):
        plot.diverging_colors([1.0], limit=0)
    with pytest.raises(ValueError, match="values must be finite"):
        plot.diverging_colors([float("nan")])


def test_saliency_overlay():
    image = np.full((4, 5, 3), 100, np.uint8)
    saliency = np.zeros((4, 5))
    saliency[1, 2] = 3.0
    overlay = plot.saliency_overlay(image, saliency, opacity=1.0, quantile=1.0)
    assert tuple(overlay[1, 2]) == plot.SEQUENTIAL[-1]
    assert tuple(overlay[0, 0]) == plot.SEQUENTIAL[0]
    assert (plot.saliency_overlay(image, saliency, opacity=0.0) == 100).all()
    for arguments, message in [
        ((image, saliency[1:]), r"saliency must be \(4, 5\), got \(3, 5\)"),
        ((image, -saliency), "saliency must be >= 0, got -3"),
        ((image[..., 0], saliency), r"image must be \(H, W, 3\), got shape \(4, 5\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            plot.saliency_overlay(*arguments)
    with pytest.raises(ValueError, match=r"opacity must be in \[0, 1\], got 2"):
        plot.saliency_overlay(image, saliency, opacity=2)


def test_boundaries():
    labels = np.array([[0, 0], [0, 1]])
    assert plot.segment_boundaries(labels).tolist() == [[False, True], [True, False]]
    image = np.zeros((2, 2, 3), np.uint8)
    drawn = plot.draw_boundaries(image, labels, (9, 8, 7))
    assert drawn[0, 1].tolist() == [9, 8, 7]
    assert not drawn[0, 0].any()
    assert not image.any()
    with pytest.raises(ValueError, match=r"labels must be \(2, 2\), got \(1, 2\)"):
        plot.draw_boundaries(image, labels[:1])


def test_symmetric_limit():
    assert plot.symmetric_limit([-3.0, 2.0]) == 3.0
    assert plot.symmetric_limit(np.zeros(4)) == 1.0
    assert plot.symmetric_limit(np.arange(101.0), 0.9) == pytest.approx(90)
    with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\], got 0"):
        plot.symmetric_limit([1.0], 0)
    with pytest.raises(ValueError, match="values must not be empty"):
        plot.symmetric_limit([])
