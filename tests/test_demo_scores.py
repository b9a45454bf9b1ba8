"""Scores in the demo: they are the library's, and the page and the tables have them."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch

import hessx
from hessx import demo
from hessx.cli.score import table
from hessx.demo.scored_maps import log_odds
from hessx.demo.scores import MapScore, Share
from hessx.demo.scores_section import scores_section, share_text
from tests.references.pages import References, visible_text
from tests.references.small_demo import small_classifier, small_photograph

SIDE = 32
LEVELS = (0.25, 0.5)
NAMES = ["Gradient", "Gradient × input", "SmoothGrad", "CAFO", "CASO", "LEG"]
NAMES += [f"LEG-TV, K_L = {share:g}" for share in LEVELS]
FEW = {"n_samples": 40}


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    return small_photograph(tmp_path_factory.mktemp("picture"), SIDE)


@pytest.fixture(scope="module")
def classifier():
    return small_classifier(SIDE, stride=3)


@pytest.fixture(scope="module")
def laws(classifier, photograph):
    return [demo.perturbation_law(name, classifier, photograph) for name in ("gaussian", "square")]


@pytest.fixture(scope="module")
def explained(classifier, photograph):
    """What the demo has before it scores."""
    query = classifier, photograph
    return (
        demo.explain_photograph(*query, target=0, n_segments=4, grid=2, n_samples=8),
        demo.explain_pixels(*query, target=0),
        demo.explain_cells(*query, target=0, grid=4, n_samples=64, K_L=LEVELS),
    )


@pytest.fixture(scope="module")
def maps(explained):
    return demo.page_maps(*explained)


@pytest.fixture(scope="module")
def scores(classifier, photograph, maps, laws):
    return demo.score_maps(classifier, photograph, maps, laws, target=0, radius=0.1, **FEW)


def gradient(classifier, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_odds(classifier)(x)[:, 0].sum(), x)[0]


def test_maps_of_the_page_speak_for_the_class(maps, explained, classifier, photograph):
    assert [each.name for each in maps] == NAMES
    x = classifier.inputs(photograph.pixels)
    truth = gradient(classifier, x)
    by_name = {each.name: each for each in maps}
    scaled = by_name["Gradient"].attribution / (1 - explained[1].target.probability)
    torch.testing.assert_close(scaled, truth, rtol=1e-4, atol=1e-6)
    for name in ("CAFO", "CASO"):
        assert (by_name[name].attribution * truth).sum() > 0
    for each in maps:
        assert each.attribution.shape == x.shape
        assert each.multiplied == (each.name == "Gradient × input")
        if each.explain is not None:
            torch.testing.assert_close(
                torch.nn.functional.normalize(each.explain(x).flatten(1)),
                torch.nn.functional.normalize(each.attribution.flatten(1)),
            )
    assert [each.name for each in maps if each.explain is not None] == [*NAMES[:2], "CAFO"]
    # A cell's number on each of its 8 x 8 pixels and 3 colours.
    gamma = explained[2].leg.gamma[0, 0]
    expected = gamma.repeat_interleave(8, 0).repeat_interleave(8, 1).expand(1, 3, SIDE, SIDE)
    assert torch.equal(by_name["LEG"].attribution, expected)


def test_colours_of_their_own_stay_so(explained, classifier, photograph):
    separate = demo.explain_cells(
        classifier, photograph, method="leg", target=0, grid=4, channels="separate", n_samples=32
    )
    found = demo.page_maps(*explained[:2], separate)[-1]
    assert found.name == "LEG"
    assert torch.equal(found.attribution[0, :, ::8, ::8], separate.leg.gamma[0])


def test_scores_are_those_of_the_library(scores, maps, laws, classifier, photograph):
    x = classifier.inputs(photograph.pixels)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    noise, squares = laws
    for column, law in enumerate((noise.perturbation, squares.perturbation)):
        for each, scored in zip(maps, scores.maps, strict=True):
            share = scored.shares[column]
            if share is None:
                assert (each.name, column) == ("Gradient × input", 0)
                continue
            a = each.attribution
            if column and not each.multiplied:
                a = a * (x - mean)
            infidelity, nothing = hessx.infidelity(
                log_odds(classifier),
                law,
                x,
                torch.stack([a, torch.zeros_like(a)]),
                mean if column else None,
                target=0,
                n_perturb_samples=40,
                normalize=True,
                seed=0,
            )
            assert share.value == pytest.approx((infidelity / nothing).item(), abs=1e-6)
    for each, scored in zip(maps, scores.maps, strict=True):
        if each.explain is None:
            assert scored.sensitivity is None
            continue
        expected = hessx.sensitivity_max(
            each.explain, x, perturb_radius=0.1, normalize="unit", seed=0
        )
        assert scored.sensitivity == pytest.approx(expected.item(), rel=1e-5)
    assert scores.n_evaluations == 2 * 41
    assert scores.n_gradients == 3 * 11


def test_linear_log_odds_leave_nothing_unexplained(photograph, laws):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, 2)).double()
    linear = demo.Classifier("linear", lambda x: model(x.double()), ["a", "b"])
    maps = demo.quick_maps(linear, photograph, ["gradient", "smoothgrad"], target=1)
    turned = replace(maps[0], attribution=-maps[0].attribution)
    result = demo.score_maps(linear, photograph, [*maps, turned], laws, target=1, **FEW)
    for each in result.maps:
        for share in each.shares:
            # The maps are in float32.
            assert share.value < 1e-8
            assert share.reversed == (each is result.maps[2])
    assert result.maps[0].sensitivity < 1e-6


@pytest.mark.parametrize("name", demo.LAWS)
def test_laws_change_the_picture_as_they_say(name, classifier, photograph):
    law = demo.perturbation_law(name, classifier, photograph)
    x = classifier.inputs(photograph.pixels)
    _, perturbed = law.perturbation(x.expand(20, -1, -1, -1), law.baseline)
    changed = perturbed != x
    if name == "gaussian":
        assert law.text == "normal noise of 1.28 grey levels on every number"
        assert (perturbed - x).std() == pytest.approx(0.01, rel=0.02)
        return
    if name == "noisy-baseline":
        assert law.text.startswith("the mean colour with noise of 51.2 grey levels")
        low, high = x.new_tensor([-127 / 128, 1.0])
        assert perturbed.min() == low
        assert perturbed.max() == high
        return
    mean = x.mean((2, 3), keepdim=True).expand_as(perturbed)
    assert torch.equal(perturbed[changed], mean[changed])
    if name == "square":
        # 10/112 and 30/112 of 16 superpixels.
        assert law.text == "squares of 2 to 8 pixels replaced by the mean colour"
        sizes = {math.isqrt(int(each.any(0).sum())) for each in changed}
        assert sizes <= {2, 4, 6, 8}
    else:
        assert re.search(r"of \d+ superpixels replaced by the mean colour", law.text)


@pytest.mark.parametrize("name", [name for name in demo.LAWS if name != "square"])
def test_every_law_scores(name, classifier, photograph):
    law = demo.perturbation_law(name, classifier, photograph)
    maps = demo.quick_maps(classifier, photograph, ["gradient", "gradient-x-input"])
    local, multiplied = demo.score_maps(classifier, photograph, maps, [law], **FEW).maps
    assert 0 <= local.shares[0].value <= 1
    assert (multiplied.shares[0] is None) == (name in ("gaussian", "noisy-baseline"))


def test_quick_maps_are_the_methods(classifier, photograph):
    x = classifier.inputs(photograph.pixels)
    lines = []
    found = demo.quick_maps(classifier, photograph, target=0, seed=5, report=lines.append)
    plain, times, smooth, first, second, cells = (each.attribution for each in found)
    truth = gradient(classifier, x)
    assert torch.equal(plain, truth)
    assert torch.equal(times, truth * x)
    expected = hessx.smooth_explanation(
        lambda z: gradient(classifier, z), x, kernel="gaussian", radius=0.3, n_samples=50, seed=5
    )
    torch.testing.assert_close(smooth, expected)
    assert torch.equal(first, -hessx.cafo(classifier.model, x, 0, lambda2=1.0).delta)
    assert torch.equal(second, -hessx.caso(classifier.model, x, 0, seed=5).delta)
    assert lines[0].startswith("explains   the log-odds of '<b>' (class 0): probability 0.")
    assert lines[1].startswith(
        "maps       gradient, gradient-x-input, smoothgrad, cafo, caso, occl"
    )
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    answer = log_odds(classifier)(x)[0, 0]
    # The bottom right one of 7 x 7 cells: from 32 * 6 / 7 = 27.4 on.
    hidden = x.clone()
    hidden[..., 28:, 28:] = mean[..., 28:, 28:]
    taken = answer - log_odds(classifier)(hidden)[0, 0]
    assert cells[..., 28:, 28:].sum().item() == pytest.approx(taken.item(), rel=1e-4)
    assert [each.multiplied for each in found] == [False, True, False, False, False, True]


def test_mistakes(classifier, photograph, maps, laws):
    with pytest.raises(ValueError, match="name must be one of"):
        demo.perturbation_law("dust", classifier, photograph)
    with pytest.raises(ValueError, match="names must be one of"):
        demo.quick_maps(classifier, photograph, ["magic"])
    with pytest.raises(ValueError, match="target must be a class from 0 to 3, got 4"):
        demo.quick_maps(classifier, photograph, target=4)
    with pytest.raises(ValueError, match="n_samples must be >= 2, got 1"):
        demo.score_maps(classifier, photograph, maps, laws, n_samples=1)


@pytest.mark.parametrize("change", [{"radius": -1}, {"seed": -1}, {"n_samples": 1}])
def test_numbers_are_checked_before_the_classifier_is_asked(photograph, maps, laws, change):
    def no_call(x):
        raise AssertionError("called before the arguments were checked")

    classifier = demo.Classifier("silent", no_call, ["a", "b"])
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        demo.score_maps(classifier, photograph, maps, laws, **change)


@pytest.fixture
def made_up(scores):
    """Scores with a reversed map, an empty one, and what the marks depend on."""
    rows = [
        MapScore("first", (Share(0.3, 0.01, True), Share(0.5, 0.02, False)), 0.75),
        MapScore("second", (Share(0.41, 0.03, False), Share(math.nan, math.nan, False)), None),
        MapScore("third", (None, Share(0.6, 0.04, False)), 0.25),
    ]
    return replace(scores, maps=tuple(rows))


def test_best_is_the_lowest_that_is_not_reversed(made_up):
    assert [made_up.best(column) for column in range(3)] == [1, 0, 2]
    assert replace(made_up, maps=made_up.maps[:1]).best(0) is None


def test_table_on_the_page(made_up):
    section = scores_section(made_up)
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", section)
    assert [(name, re.findall(r"<td>(.*?)</td>", cells)) for name, cells in rows] == [
        ("first", ["<em>reversed</em> 30.0% ± 1.0%", "<strong>50.0% ± 2.0%</strong>", "0.75"]),
        ("second", ["<strong>41.0% ± 3.0%</strong>", "–", "–"]),
        ("third", ["–", "60.0% ± 4.0%", "<strong>0.25</strong>"]),
    ]
    assert "maps predict best with the wrong sign" in section
    assert "reversed" not in scores_section(replace(made_up, maps=made_up.maps[1:]))
    assert "Occlusion, for comparison" not in section
    occlusion = replace(made_up.maps[2], name="Occlusion, 7 × 7")
    assert "Occlusion, for comparison" in scores_section(replace(made_up, maps=(occlusion,)))


def test_table_in_text(made_up):
    assert table(made_up) == [
        "                noise         squares    sensitivity",
        "first    30.0% ± 1.0%r   50.0% ± 2.0%*          0.75",
        "second   41.0% ± 3.0%*              –              –",
        "third               –    60.0% ± 4.0%           0.25*",
        "* lowest of its column; r reversed: predicts best with the wrong sign",
    ]
    assert table(replace(made_up, maps=made_up.maps[1:]))[-1] == "* lowest of its column"


def test_demo_page_takes_the_section(scores, explained, tmp_path):
    interactions, saliency, leg = explained
    path = demo.write_page(interactions, tmp_path / "page.html", saliency, leg, scores)
    page = path.read_text("utf-8")
    assert scores_section(scores) in page
    parser = References()
    parser.feed(page)
    assert len(parser.ids) == len(set(parser.ids))
    seconds = sum(part.seconds for part in (interactions, saliency, leg, scores))
    assert f"{seconds:.1f} s in total" in page
    text = visible_text(page)
    for each in scores.maps:
        shown = each.name.replace("K_L", "K L")
        assert f"{shown} " in text
        for share in each.shares:
            assert share_text(share) in text
    assert "within 12.8 grey levels of this one" in text
    assert "All maps share 82 evaluations of the network" in text
    assert "took 33 gradients" in text
    assert "40 times for each kind of change" in text
    assert "Squares: squares of 2 to 8 pixels replaced by the mean colour, and maps taken" in text


def test_section_is_escaped(scores):
    section = scores_section(scores)
    assert "“&lt;b&gt;”" in section
    assert "$" not in section
    assert "<b>" not in section
