"""What ``hessx demo`` and ``hessx explain`` do."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hessx import demo
from hessx.cli.options import FROM_VALUES, LEG_TV, SCORED_BY, SMOOTH_HESS, SMOOTHED, settled

if TYPE_CHECKING:
    from hessx.demo import Classifier, Explanation, LegMaps, Photograph, SaliencyMaps


def run_demo(options: argparse.Namespace) -> None:
    """Explain the example by every method that takes seconds, on one page."""
    started = time.perf_counter()
    photograph = demo.example_photograph()
    out = options.out / "index.html"
    classifier, target = _begin(options, photograph, out)
    explanation = _interactions(settled(options, SMOOTH_HESS), classifier, photograph, target)
    maps = demo.explain_pixels(
        classifier, photograph, target=target, seed=options.seed, report=report
    )
    leg = _leg(settled(options, LEG_TV), LEG_TV, classifier, photograph, target)
    laws = [demo.perturbation_law(name, classifier, photograph) for name in SCORED_BY]
    occlusion = demo.quick_maps(classifier, photograph, ["occlusion"], target=target)
    scores = demo.score_maps(
        classifier,
        photograph,
        [*demo.page_maps(explanation, maps, leg), *occlusion],
        laws,
        target=target,
        n_samples=options.score_samples,
        seed=options.seed,
        report=report,
    )
    demo.write_page(explanation, out, maps, leg, scores)
    _end(out, started)


def run_explain(options: argparse.Namespace) -> None:
    """Explain a picture by one method."""
    started = time.perf_counter()
    out = getattr(options, "out", Path(f"{options.picture.stem}-{options.method}.html"))
    if out.is_dir():
        raise IsADirectoryError(f"--out must be a file, {out} is a folder")
    photograph = demo.load_photograph(options.picture)
    classifier, target = _begin(options, photograph, out)
    method, options = options.method, settled(options, options.method)
    if method == SMOOTH_HESS:
        demo.write_page(_interactions(options, classifier, photograph, target), out)
    elif method in FROM_VALUES:
        demo.write_leg_page(_leg(options, method, classifier, photograph, target), out)
    else:
        demo.write_saliency_page(_sparse_maps(options, classifier, photograph, target), out)
    _end(out, started)


def opened(options: argparse.Namespace, photograph: Photograph) -> tuple[Classifier, int | None]:
    """Return the network and the class to explain, and say what is explained."""
    width, height = photograph.size
    report(f"picture    {photograph.name}, {width} x {height}")
    classifier = demo.efficientnet_lite0()
    report(f"model      {classifier.name}")
    text = getattr(options, "target", None)
    return classifier, None if text is None else classifier.class_index(text)


def _begin(
    options: argparse.Namespace, photograph: Photograph, out: Path
) -> tuple[Classifier, int | None]:
    classifier, target = opened(options, photograph)
    # Before the work, so that it is not lost, and after every mistake that is known by now.
    out.parent.mkdir(parents=True, exist_ok=True)
    return classifier, target


def _interactions(
    options: argparse.Namespace, classifier: Classifier, photograph: Photograph, target: int | None
) -> Explanation:
    return demo.explain_photograph(
        classifier,
        photograph,
        target=target,
        n_segments=options.segments,
        grid=options.grid,
        sigma=options.sigma,
        n_samples=options.n_samples,
        seed=options.seed,
        report=report,
    )


def _sparse_maps(
    options: argparse.Namespace, classifier: Classifier, photograph: Photograph, target: int | None
) -> SaliencyMaps:
    smoothing = {}
    if options.method in SMOOTHED:
        smoothing = {"smooth_sigma": options.smooth_sigma, "n_samples": options.smooth_samples}
    return demo.explain_pixels(
        classifier,
        photograph,
        method=options.method.removeprefix("smooth-"),
        target=target,
        lambda1=options.lambda1,
        k=options.pixels,
        sparsity=options.sparsity,
        seed=options.seed,
        report=report,
        **smoothing,
    )


def _leg(
    options: argparse.Namespace,
    method: str,
    classifier: Classifier,
    photograph: Photograph,
    target: int | None,
) -> LegMaps:
    levels = {"K_L": options.K_L} if method == LEG_TV else {}
    return demo.explain_cells(
        classifier,
        photograph,
        method=method,
        target=target,
        grid=options.grid,
        channels=options.channels,
        sigma=options.sigma,
        n_samples=options.n_samples,
        seed=options.seed,
        report=report,
        **levels,
    )


def _end(out: Path, started: float) -> None:
    report(f"total      {time.perf_counter() - started:.1f} s")
    report(f"page       {out} ({out.stat().st_size / 1000:.0f} kB)")


def report(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
