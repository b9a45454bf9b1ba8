"""The commands of LEG's experiments start, and what they compute is right on a tiny net."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import hessx
from bench import classifiers, leg_cascade, leg_deletion
from bench.baselines import BASELINES
from bench.classifiers import VARIANCES, Subject
from hessx.demo.classifier import Classifier
from tests.references.commands import assert_shows_help

X = torch.zeros(1, 3, 28, 28)
GRID = hessx.Grid((7, 7))


class Tiny(nn.Module):
    """Three classes by the brightness of the top left quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 2, stride=2)
        self.head = nn.Linear(2 * 196, 3)
        with torch.no_grad():
            self.maps.weight.fill_(1 / 12)
            self.maps.bias.zero_()
            quarter = torch.zeros(2, 14, 14)
            quarter[:, :7, :7] = 1 / 98
            self.head.weight.copy_(quarter.flatten() * torch.tensor([[8.0], [0.0], [0.0]]))
            self.head.bias.copy_(torch.tensor([-1.0, 0.0, 0.0]))

    def forward(self, x):
        return self.head(self.maps(x).relu().flatten(1))


@pytest.fixture
def subject(monkeypatch):
    net = Tiny().eval()
    classifier = Classifier("tiny", net, ["a, first", "b", "c"], mean=0.0, scale=255.0)
    subject = Subject(classifier, net, 28, net.maps, ["maps", "head"])
    monkeypatch.setitem(classifiers.SUBJECTS, "squeezenet", lambda: subject)
    for module in (classifiers, leg_cascade, leg_deletion):
        monkeypatch.setattr(module, "GRID", GRID)
    return subject


@pytest.mark.parametrize(
    "command", [leg_cascade, leg_deletion], ids=lambda command: command.__name__
)
def test_commands_show_help(command, monkeypatch, capsys):
    assert_shows_help(command, monkeypatch, capsys)


def test_noise_is_neither_too_little_nor_too_much(subject):
    """A net that is certain below a noise level and lost above it tells most in between."""

    class Threshold(nn.Module):
        def forward(self, x):
            spread = (x - x.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
            return torch.stack([-40 * (spread / 4e-3 - 1), 0 * spread], 1)

    grey = torch.full((1, 3, 28, 28), 0.5)
    found = classifiers.telling_variance(
        Subject(subject.classifier, Threshold(), 28, subject.net.maps, []), grey, 0, GRID
    )
    # Pixels have 4 times the variance, edges less.
    assert found == pytest.approx(1e-3)
    assert found in VARIANCES


def test_a_net_that_forgets_has_no_map(subject, tmp_path, monkeypatch, capsys):
    arguments = ["--nets", "squeezenet", "--photographs", "coffee", "--samples", "60"]
    monkeypatch.setattr(sys, "argv", ["leg_cascade", *arguments, "--out", str(tmp_path)])
    leg_cascade.main()
    assert "trained" in capsys.readouterr().out
    assert (tmp_path / "leg_cascade_squeezenet.png").exists()
    text = (tmp_path / "leg_cascade_summary.csv").read_text().splitlines()
    assert text[0] == "net,layer,coffee,zero,least_K_L"
    assert [line.split(",")[1] for line in text[1:]] == ["trained", "head", "maps"]
    assert text[1].split(",")[3:] == ["0 of 1", "1"]


def test_rows_of_a_cascade(subject):
    cases = [leg_cascade.Case.of(subject, "coffee")]
    cascade = leg_cascade.forget(subject, cases, 60, 0.5)
    trained, head, _ = leg_cascade.rows(subject, "tiny", cases, cascade)
    assert trained["least_K_L"] == 1
    assert trained["differing"] > 0
    assert trained["total_variation"] == pytest.approx(1)
    bound = cascade.trained[0].L
    assert torch.equal(cascade.results[0][0].L, bound)
    # Zero exactly where the bound is not below the random net's own L_max.
    assert (head["differing"] == 0) == (head["least_K_L"] <= 0.5)
    assert head["target"] == "a"


def test_deletion_compares_all_methods(subject, tmp_path, monkeypatch, capsys):
    pytest.importorskip("captum")
    arguments = ["--net", "squeezenet", "--photographs", "coffee", "--samples", "40"]
    monkeypatch.setattr(sys, "argv", ["leg_deletion", *arguments, "--out", str(tmp_path)])
    leg_deletion.main()
    printed = capsys.readouterr().out
    for method in ("LEG", "LEG-TV sparse", "LEG-TV noisy", *BASELINES, "random"):
        assert method in printed
    for name in ("leg_deletion_squeezenet.png", "leg_deletion_squeezenet_masked.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_curves_average_photographs():
    """Two photographs, two methods; the second photograph's scores are twice the first's."""
    falling = torch.linspace(1, -1, len(leg_deletion.FRACTIONS), dtype=torch.float64)
    flat = torch.ones_like(falling)
    found = []
    for factor in (1, 2):
        scores = factor * torch.stack([falling, flat])
        by_ranking = dict.fromkeys(leg_deletion.RANKINGS, scores)
        area = dict.fromkeys(leg_deletion.RANKINGS, scores.mean(1))
        maps = dict.fromkeys(["LEG", "random"], torch.zeros(1, 3, 28, 28))
        seconds = dict.fromkeys(maps, float(factor))
        found.append(leg_deletion.Explained("a", "a", X, maps, seconds, by_ranking, area, GRID))
    rows = leg_deletion.curves(found)
    assert len(rows) == 2 * 2 * len(falling)
    # Falls of 2 and 4: a mean end of -1.5, a deviation of sqrt(2), an error of 1.
    assert rows[0]["log_odds"] == 1.5
    assert rows[0]["stderr_of_fall"] == 0
    assert rows[len(falling) - 1]["log_odds"] == -1.5
    assert rows[len(falling) - 1]["stderr_of_fall"] == pytest.approx(1)
    table = {(row["ranking"], row["method"]): row for row in leg_deletion.table(found)}
    assert table["signed", "random"]["less_than_random"] == 0
    # Areas of 0 against 1 and 2.
    assert table["magnitude", "LEG"]["less_than_random"] == pytest.approx(1.5)
    assert table["magnitude", "LEG"]["stderr"] == pytest.approx(0.5)
    assert table["magnitude", "LEG"]["seconds"] == 1.5
    assert table["magnitude", "LEG"]["50%"] == -1.5


def test_a_tenth_is_masked(subject):
    x = subject.inputs("coffee") + 0.1
    attribution = torch.rand(1, 1, 7, 7)
    masked = leg_deletion.mask(x, attribution, 0.0, "magnitude", GRID)
    black = (masked == 0).all(1)[0]
    # Five cells of 16 pixels, the nearest to a tenth of 49.
    assert black.sum() == 5 * 16
    importance = attribution[0, 0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert importance[black].min() > importance[~black].max()
