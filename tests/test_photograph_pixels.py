"""A photograph's 150,528 pixels: the result stays factored, memory bounded, the error honest."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, resource, torch, hessx
from hessx.demo import efficientnet_lite0, example_photograph

classifier = efficientnet_lite0()
x = classifier.inputs(example_photograph().pixels)
with torch.no_grad():
    target = int(classifier.model(x).argmax())
H = hessx.smooth_hess(classifier.model, x, target, sigma=0.1, n_samples=128)
vector = torch.ones(x.numel())
cells = hessx.Grid((14, 14))
groups = hessx.smooth_hess(
    classifier.model, x, target, sigma=0.1, features=cells, n_samples=96, max_examples_per_batch=32
)
print(json.dumps({
    "shape": list(H.shape),
    "rank": H.core.shape[-1],
    "relative_error": H.relative_error.item(),
    "gradient": list(H.gradient.shape),
    "product_is_finite": bool((H @ vector).isfinite().all()),
    "eigenvector_shape": list(H.eigenvectors.shape),
    "model_share": groups.model_seconds / groups.seconds,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""


def test_all_pixels_of_a_photograph():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    d = 3 * 224 * 224
    assert found["shape"] == [1, d, d]
    assert found["rank"] == 128
    assert found["gradient"] == [1, 3, 224, 224]
    assert found["eigenvector_shape"] == [1, d, 128]
    assert found["product_is_finite"]
    assert found["peak_bytes"] < 2e9
    # 128 gradients cannot identify 10^10 entries, and the result says so.
    assert found["relative_error"] > 0.8
    # The rest is drawing, lifting and the algebra.
    assert found["model_share"] > 0.85
