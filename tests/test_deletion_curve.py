"""Deletion curves are exact for linear functions, and the same however they are asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import hessx
from hessx.score.class_scores import ClassScores

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MAPS = torch.randn(4, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def small_net() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 5))
    return net.double().eval()


def masked_by_hand(x, importance, count, baseline=0.0):
    """One picture ``(C, H, W)``, importance ``(h, w)``: pixel by pixel."""
    h, w = importance.shape
    order = sorted(range(h * w), key=lambda i: (-importance.flatten()[i].item(), i))[:count]
    out = x.clone()
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            if (i * h // x.shape[1]) * w + j * w // x.shape[2] in order:
                out[:, i, j] = baseline
    return out


def test_a_linear_model_loses_the_masked_terms():
    """The raw score is f(x) less the sum of w x over what is masked."""
    w = torch.tensor([0.5, -3.0, 2.0, -1.0])
    x = torch.tensor([[1.0, 1.0, -2.0, 4.0]])
    found = hessx.deletion_curve(lambda z: z @ w, x, w[None], fractions=[0, 0.25, 0.5, 1])
    logit = -10.5
    expected = [logit, logit + 3, logit + 3 + 4, 0.0]
    # The log-odds of a single logit are itself.
    assert found.scores.tolist() == [pytest.approx(expected)]
    area = 0.25 * (logit + 1.5) + 0.25 * (logit + 5) + 0.5 * (logit + 7) / 2
    assert found.auc.item() == pytest.approx(area)
    assert found.n_evaluations == 4


@pytest.mark.parametrize("ranking", ["magnitude", "signed"])
def test_coarse_maps_mask_whole_cells(ranking):
    """A cell holds the pixels i with floor(i h / H), also where they are not equally many."""
    maps = torch.randn(2, 3, 3, 5, dtype=torch.float64)
    net = small_net()
    found = hessx.deletion_curve(net, X, maps, [1, 4], ranking=ranking, output="raw")
    importance = (maps if ranking == "signed" else maps.abs()).sum(1)
    for row, target in enumerate([1, 4]):
        for place, fraction in enumerate(found.fractions.tolist()):
            x = masked_by_hand(X[row], importance[row], round(15 * fraction))
            expected = net(x[None])[0, target].item()
            assert found.scores[row, place].item() == pytest.approx(expected)


def test_equal_cells_are_masked_from_the_top_left():
    f = lambda z: z.flatten(1) @ torch.tensor([1.0, 10.0, 100.0, 1000.0])  # noqa: E731
    x = torch.ones(1, 2, 2)
    quarters = [0, 0.25, 0.5, 0.75, 1]
    equal = hessx.deletion_curve(f, x, torch.zeros(1, 2, 2), fractions=quarters)
    assert equal.scores.tolist() == [[1111, 1110, 1100, 1000, 0]]
    tied = torch.tensor([[[1.0, 2.0], [-2.0, 1.0]]])
    by_size = hessx.deletion_curve(f, x, tied, fractions=quarters)
    assert by_size.scores.tolist() == [[1111, 1101, 1001, 1000, 0]]
    signed = hessx.deletion_curve(f, x, tied, fractions=quarters, ranking="signed")
    assert signed.scores.tolist() == [[1111, 1101, 1100, 100, 0]]


def test_maps_rows_and_batches_do_not_change_a_curve():
    net = small_net()
    together = hessx.deletion_curve(net, X, MAPS, [0, 3])
    assert together.scores.shape == (4, 2, 21)
    assert together.auc.shape == (4, 2)
    chunked = hessx.deletion_curve(net, X, MAPS, [0, 3], max_examples_per_batch=7)
    torch.testing.assert_close(together.scores, chunked.scores)
    for k in range(4):
        for row, target in enumerate([0, 3]):
            alone = hessx.deletion_curve(net, X[row : row + 1], MAPS[k, row : row + 1], target)
            torch.testing.assert_close(together.scores[k, row], alone.scores[0])
            torch.testing.assert_close(together.auc[k, row], alone.auc[0])


def test_maps_share_what_none_and_what_all_masked_give():
    asked = []

    def f(z):
        asked.append(len(z))
        return z.sum((1, 2, 3))

    found = hessx.deletion_curve(f, X, MAPS, fractions=[0, 0.5, 1])
    # 2 inputs as they are, 2 all masked, and 4 x 2 halves.
    assert sum(asked) == found.n_evaluations == 2 + 2 + 8


def test_fractions_are_whole_cells():
    x, maps = torch.ones(1, 3), torch.tensor([[3.0, 2.0, 1.0]])
    found = hessx.deletion_curve(lambda z: z.sum(1), x, maps, fractions=[0.1, 0.3, 0.4, 0.9])
    assert found.fractions.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1])
    assert found.scores.tolist() == [[3, 2, 2, 0]]
    assert found.n_evaluations == 3
    single = hessx.deletion_curve(lambda z: z.sum(1), x, maps, fractions=[0.3])
    assert single.auc.item() == single.scores.item() == 2


@pytest.mark.parametrize("fractions", [[0.0], [0.0, 0.1]])
def test_where_nothing_is_masked_the_model_is_not_asked_again(fractions):
    asked = []

    def f(z):
        asked.append(len(z))
        return z.sum(1)

    maps = torch.tensor([[3.0, 2.0, 1.0]])
    found = hessx.deletion_curve(f, torch.ones(1, 3), maps, fractions=fractions)
    assert found.scores.tolist() == [[3.0] * len(fractions)]
    assert asked == [1]


def test_failed_probes_are_evaluations():
    asked = []

    def f(z):
        asked.append(len(z))
        return z.numpy().sum(1)

    maps = torch.tensor([[3.0, 2.0, 1.0]])
    found = hessx.deletion_curve(f, torch.ones(1, 3), maps, fractions=[0, 1])
    assert found.n_evaluations == sum(asked) == 3


def test_paths_of_leg_tv():
    f = lambda z: z.flatten(1).cumsum(1)[:, ::5].sum(1)  # noqa: E731
    path = hessx.leg_tv(f, X, K_L=[0.1, 0.5], features=hessx.Grid((2, 2)), n_samples=20).gamma
    together = hessx.deletion_curve(f, X, path.movedim(1, 0))
    for place in range(2):
        alone = hessx.deletion_curve(f, X, path[:, place])
        assert torch.equal(together.scores[place], alone.scores)


def test_grid_averages_finer_maps():
    """The mean over a cell of the magnitudes, not the magnitude of the mean."""
    maps = torch.tensor([[[3.0, -3.0, 0.0, 1.0], [0.0, 0.0, 2.0, 2.0]]])
    f = lambda z: z.flatten(1) @ torch.tensor([1.0, 1, 10, 10, 1, 1, 10, 10])  # noqa: E731
    x = torch.ones(1, 2, 4)
    halves = dict(fractions=[0, 0.5, 1], grid=(1, 2))
    by_size = hessx.deletion_curve(f, x, maps, **halves)
    assert by_size.scores.tolist() == [[44, 40, 0]]
    signed = hessx.deletion_curve(f, x, maps, ranking="signed", **halves)
    assert signed.scores.tolist() == [[44, 4, 0]]
    same = hessx.deletion_curve(f, x, maps, grid=(2, 4))
    own = hessx.deletion_curve(f, x, maps)
    assert torch.equal(same.scores, own.scores)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_maps_may_be_shared(channels):
    maps = torch.rand(2, channels, 8, 8, dtype=torch.float64)
    net = small_net()
    with_channels = hessx.deletion_curve(net, X, maps, 0)
    without = hessx.deletion_curve(net, X, maps.sum(1), 0)
    torch.testing.assert_close(with_channels.scores, without.scores)


def test_baselines():
    """A number, a number a channel, a picture and a picture an input."""
    f = lambda z: z.sum((1, 2, 3))  # noqa: E731
    maps = torch.ones(2, 1, 1)
    all_masked = dict(attributions=maps, fractions=[1], output="raw")
    shape = X.shape[1:]
    picture = torch.rand(shape, dtype=torch.float64)
    pictures = torch.rand(X.shape, dtype=torch.float64)
    cases = [
        (0.5, [0.5 * 192] * 2),
        ([1.0, 2.0, 4.0], [7 * 64] * 2),
        (picture, [picture.sum().item()] * 2),
        (pictures, pictures.sum((1, 2, 3)).tolist()),
    ]
    for baseline, expected in cases:
        found = hessx.deletion_curve(f, X, baseline=baseline, **all_masked)
        assert found.scores[:, 0].tolist() == pytest.approx(expected)


def test_scores_of_logits():
    z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    p = z.double().softmax(1)
    expected = {"log-odds": (p / (1 - p)).log(), "log-probability": p.log(), "probability": p}
    for output, values in expected.items():
        torch.testing.assert_close(ClassScores(output, "logits")(z), values)
        from_probabilities = ClassScores(output, "probabilities")(p)
        torch.testing.assert_close(from_probabilities, values)
    single = torch.tensor([3.0, -800.0])
    torch.testing.assert_close(ClassScores("log-odds", "logits")(single), single.double())
    torch.testing.assert_close(
        ClassScores("log-odds", "probabilities")(torch.tensor([0.25])),
        torch.tensor([1 / 3]).double().log(),
    )


def test_log_odds_keep_their_digits():
    """log(p / (1 - p)) of the likeliest class is its logit less the others' logsumexp."""
    z = torch.tensor([[900.0, 1.0, 2.0]])
    found = ClassScores("log-odds", "logits")(z)
    rest = math.log(math.exp(1) + math.exp(2))
    assert found[0, 0].item() == pytest.approx(900 - rest, rel=1e-14)
    assert found[0, 1].item() == pytest.approx(1 - 900, rel=1e-14)


def test_saturated_probabilities_stay_finite():
    p = torch.tensor([[1.0, 0.0], [1.0, 1e-30]])
    found = ClassScores("log-odds", "probabilities")(p)
    smallest = math.log(torch.finfo(torch.float32).tiny)
    assert found[0].tolist() == pytest.approx([-smallest, smallest])
    assert found[1, 0].item() == pytest.approx(-math.log(1e-30))


def test_float32_models_and_additional_arguments():
    net = small_net().float()
    scale = torch.tensor([1.0, 2.0])
    f = lambda z, s: net(z) * s[:, None]  # noqa: E731
    found = hessx.deletion_curve(f, X.float(), MAPS[0].float(), 2, additional_forward_args=scale)
    alone = hessx.deletion_curve(lambda z: 2 * net(z), X[1:].float(), MAPS[0, 1:].float(), 2)
    torch.testing.assert_close(found.scores[1], alone.scores[0], rtol=1e-5, atol=1e-5)
    assert "auc=[" in repr(found)


def test_the_model_and_the_random_state_stay_as_found():
    net = small_net()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    x = X.clone()
    hessx.deletion_curve(net, x, MAPS, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, X)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(attributions=MAPS[0, :1]), "attributions must be"),
        (dict(attributions=torch.zeros(2, 3, 9, 4)), "no finer"),
        (dict(attributions=torch.zeros(2, 4)), "attributions must be"),
        (dict(attributions=MAPS[0] / 0), "attributions must be finite"),
        (dict(fractions=[0.5, 0.2]), "fractions must increase"),
        (dict(fractions=[0.5, 1.2]), "fractions must increase within"),
        (dict(fractions=[]), "fractions must be one or more"),
        (dict(ranking="size"), "ranking must be one of"),
        (dict(output="odds"), "output must be one of"),
        (dict(returns="scores"), "returns must be one of"),
        (dict(grid=(9, 4)), "grid must be between 1 and 8"),
        (dict(grid=(4,)), "grid must be 2 integers"),
        (dict(baseline=[1.0, 2.0]), "baseline must be a number, one for each channel"),
        (dict(baseline=float("nan")), "baseline must be finite"),
        (dict(returns="probabilities"), "must return probabilities"),
        (dict(target=None), "target must be given"),
        (dict(inputs=X / 0), "inputs must be finite"),
    ],
)
def test_bad_calls_are_refused(change, message):
    call = dict(forward_func=small_net(), inputs=X, attributions=MAPS[0], target=0) | change
    with pytest.raises(ValueError, match=message):
        hessx.deletion_curve(**call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(attributions=[1.0]), "attributions must be a floating-point tensor, got list"),
        (dict(attributions=MAPS[0].long()), "attributions must be a floating-point tensor"),
        (dict(fractions="all"), "fractions must be numbers"),
        (dict(grid=4), "grid must be 2 integers"),
        (dict(grid=(2.0, 2.0)), "grid must be an integer"),
        (dict(baseline="black"), "baseline must be of numbers"),
        (dict(forward_func=3), "forward_func must be callable"),
    ],
)
def test_wrong_types_are_refused(change, message):
    call = dict(forward_func=small_net(), inputs=X, attributions=MAPS[0], target=0) | change
    with pytest.raises(TypeError, match=message):
        hessx.deletion_curve(**call)


def test_models_that_answer_wrongly_are_refused():
    call = dict(inputs=X, attributions=MAPS[0])
    with pytest.raises(ValueError, match="forward_func returned nan for input row"):
        hessx.deletion_curve(lambda z: z.sum((1, 2, 3)) / 0 * 0, **call)
    with pytest.raises(ValueError, match=r'output="raw" takes any'):
        hessx.deletion_curve(lambda z: z, target=(0, 0, 0), **call)
    with pytest.raises(TypeError, match="must return a floating-point tensor"):
        hessx.deletion_curve(lambda z: z.argmax(1), **call)
    with pytest.raises(ValueError, match="training mode"):
        hessx.deletion_curve(nn.Sequential(nn.Dropout(), nn.Flatten()), target=0, **call)


def test_black_boxes_with_numpy_and_contrasts():
    net = small_net()
    by_tensor = hessx.deletion_curve(net, X, MAPS[0], hessx.Contrast(1, 3))
    by_array = hessx.deletion_curve(
        lambda z: net(z).detach().numpy(), X, MAPS[0], hessx.Contrast(1, 3)
    )
    assert torch.equal(by_tensor.scores, by_array.scores)
    first, second = (hessx.deletion_curve(net, X, MAPS[0], c).scores for c in (1, 3))
    torch.testing.assert_close(by_tensor.scores, first - second)
    with pytest.raises(TypeError, match="target must be one target"):
        hessx.deletion_curve(net, X, MAPS[0], hessx.Targets([1, 3]))
