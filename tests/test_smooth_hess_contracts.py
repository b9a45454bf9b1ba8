"""What every call promises: reproducible, bounded, checked first, the model left as found."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import hessx
from hessx import covariance
from tests.references.digits import train

D = 20


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    """A small trained classifier: 20 numbers, 4 classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, D, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] + x[:, 3] > 0).long()
    return train((D, 32, 32, 4), x, y, epochs=10, lr=5e-3)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, D, generator=torch.Generator().manual_seed(1))


def check_equal(a: hessx.SmoothHess, b: hessx.SmoothHess, rtol: float = 1e-4) -> None:
    """Equal up to torch's rounding in the model and in products, amplified by 1 / sigma."""
    for left, right in [
        (a.to_dense(), b.to_dense()),
        (a.gradient, b.gradient),
        (a.relative_error, b.relative_error),
        (a.value, b.value),
    ]:
        torch.testing.assert_close(left, right, rtol=rtol, atol=rtol * left.abs().max().item())
    assert torch.equal(a.n_samples, b.n_samples)
    assert torch.equal(a.converged, b.converged)


CONFIGURATIONS = {
    "few samples": {"n_samples": 16},
    "many samples": {"n_samples": 300},
    "centred": {"n_samples": 100, "estimator": "centered"},
    "stein": {"n_samples": 100, "estimator": "stein"},
    "antithetic": {"n_samples": 100, "sampling": "antithetic"},
    "frames": {"n_samples": 50, "sampling": "frames"},
    "groups": {"features": hessx.Segments(torch.arange(D) % 6)},
    "input noise": {"features": hessx.Segments(torch.arange(D) % 6), "noise": "input"},
    "rtol": {"rtol": 0.3, "n_samples": 3000},
}


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
class TestEveryConfiguration:
    def test_a_row_equals_the_single_call(self, net, x, options):
        target = [0, 1, 2, 3, 1]
        whole = hessx.smooth_hess(net, x, target, sigma=0.4, **options)
        for row in (0, 3):
            single = hessx.smooth_hess(net, x[row : row + 1], target[row], sigma=0.4, **options)
            part = hessx.smooth_hess(net, x[[row, 2]], [target[row], 0], sigma=0.4, **options)
            dense = whole.to_dense()[row]
            atol = 1e-4 * dense.abs().max().item()
            for other in (single, part):
                torch.testing.assert_close(other.to_dense()[0], dense, rtol=1e-4, atol=atol)
                assert other.n_samples[0] == whole.n_samples[row]

    @pytest.mark.parametrize("size", [1, 7, 64])
    def test_batch_sizes_do_not_matter(self, net, x, options, size):
        whole = hessx.smooth_hess(net, x, 1, sigma=0.4, **options)
        parts = hessx.smooth_hess(net, x, 1, sigma=0.4, max_examples_per_batch=size, **options)
        check_equal(whole, parts)

    def test_threads_do_not_matter(self, net, x, options):
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(hessx.smooth_hess(net, x, 1, sigma=0.4, **options))
        check_equal(*results)

    def test_the_seed_decides(self, net, x, options):
        a, b, c = (
            hessx.smooth_hess(net, x, 1, sigma=0.4, seed=seed, **options) for seed in (3, 3, 4)
        )
        assert torch.equal(a.to_dense(), b.to_dense())
        assert not torch.allclose(a.to_dense(), c.to_dense())

    def test_float64_agrees(self, net, x, options):
        single = hessx.smooth_hess(net, x, 1, sigma=0.4, **options)
        double = hessx.smooth_hess(copy.deepcopy(net).double(), x.double(), 1, sigma=0.4, **options)
        assert double.to_dense().dtype == torch.float64
        dense = double.to_dense()
        # A kink between the two roundings of one input flips a mask: rare, and of order 1 / n.
        assert (single.to_dense() - dense).norm() <= 1e-2 * dense.norm()


def test_a_small_memory_limit_changes_nothing(net, x):
    whole = hessx.smooth_hess(net, x, 1, sigma=0.4)
    check_equal(whole, hessx.smooth_hess(net, x, 1, sigma=0.4, memory_limit=450_000))
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        hessx.smooth_hess(net, x, 1, sigma=0.4, memory_limit=50_000)


def test_the_model_is_left_as_found(net, x):
    model = copy.deepcopy(net)
    model[0].weight.grad = torch.full_like(model[0].weight, 2.0)
    model[2].bias.requires_grad_(False)
    model.train()
    before = copy.deepcopy(model.state_dict())
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    inputs = x.clone().requires_grad_()
    result = hessx.smooth_hess(model, inputs, 1, sigma=0.4)
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_num_threads() == threads
    assert calls
    assert len(model._forward_hooks) == 1
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (model[0].weight.grad == 2).all()
    assert all(p.grad is None for p in model.parameters() if p is not model[0].weight)
    assert not model[2].bias.requires_grad
    assert model[0].weight.requires_grad
    assert inputs.grad is None
    assert not result.gradient.requires_grad


def test_interrupting_breaks_nothing(net, x):
    calls = []

    def interrupted(z):
        calls.append(len(z))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return net(z)

    with pytest.raises(KeyboardInterrupt):
        hessx.smooth_hess(
            interrupted, x, 1, sigma=0.4, max_examples_per_batch=64, show_progress=True
        )
    assert torch.is_grad_enabled()
    check_equal(hessx.smooth_hess(net, x, 1, sigma=0.4), hessx.smooth_hess(net, x, 1, sigma=0.4))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_gradient_mode_does_not_matter(net, x, mode):
    expected = hessx.smooth_hess(net, x, 1, sigma=0.4)
    with mode():
        found = hessx.smooth_hess(net, x.clone(), 1, sigma=0.4)
        assert not torch.is_grad_enabled()
    check_equal(expected, found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_accepted(net, x, dtype):
    half = hessx.smooth_hess(
        copy.deepcopy(net).to(dtype), x.to(dtype), 1, sigma=0.4, n_samples=2000
    )
    full = hessx.smooth_hess(net, x.to(dtype).float(), 1, sigma=0.4, n_samples=2000)
    assert half.gradient.dtype == torch.float32
    # bfloat16 keeps 8 bits: gradients off by 1 %, and inputs moved by rounding.
    assert (half.to_dense() - full.to_dense()).norm() <= 0.2 * full.to_dense().norm()


def test_outputs_of_every_kind(net, x):
    logits = hessx.smooth_hess(net, x, 1, sigma=0.4)
    regression = hessx.smooth_hess(lambda z: net(z)[:, 1], x, sigma=0.4)
    check_equal(logits, regression)
    column = hessx.smooth_hess(lambda z: net(z)[:, 1:2], x, sigma=0.4)
    check_equal(logits, column)
    reshaped = hessx.smooth_hess(lambda z: net(z).reshape(-1, 2, 2), x, (0, 1), sigma=0.4)
    check_equal(logits, reshaped)
    probabilities = hessx.smooth_hess(lambda z: net(z).softmax(1), x, 1, sigma=0.4)
    assert ((probabilities.value >= 0) & (probabilities.value <= 1)).all()
    neuron = hessx.smooth_hess(net[:3], x, 5, sigma=0.4)
    torch.testing.assert_close(neuron.value, net[:3](x)[:, 5].detach())


def test_compiled_models_work(net, x):
    compiled = torch.compile(net, backend="eager")
    check_equal(
        hessx.smooth_hess(net, x, 1, sigma=0.4), hessx.smooth_hess(compiled, x, 1, sigma=0.4)
    )


def test_rtol_stops_rows_one_by_one(net, x):
    result = hessx.smooth_hess(net, x, 1, sigma=0.4, rtol=0.12, n_samples=1500)
    assert len(set(result.n_samples.tolist())) > 1
    assert torch.equal(result.converged, result.relative_error <= 0.12)
    assert (result.n_samples[~result.converged] == 1500).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [3, 300, 4000, 5000])
def test_features_of_very_small_sigma_are_not_lost(dtype, n):
    """Whatever is kept: samples of few or many draws, or sums."""
    sigma = torch.tensor([1.0, 0.02])
    result = hessx.smooth_hess(
        lambda z: z.square().sum(1), torch.zeros(1, 2, dtype=dtype), sigma=sigma, n_samples=n
    )
    error = 0.01 if n > 100 else 2.0
    torch.testing.assert_close(
        result.diagonal()[0], torch.full((2,), 2.0, dtype=dtype), rtol=error, atol=0
    )


def test_several_threads_at_once(net, x):
    """Different seeds and backends in two Python threads give what they give alone."""

    def call(seed: int) -> Tensor:
        with hessx.backend("reference" if seed % 2 else "auto"):
            return hessx.smooth_hess(net, x, 1, sigma=0.4, seed=seed).to_dense()

    expected = [call(seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(call, range(6)))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * a.abs().max().item())


def test_autocast_reaches_the_model_alone(net, x):
    seen = []

    def model(z):
        out = net(z)
        seen.append(out.dtype)
        return out.float()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = hessx.smooth_hess(model, x, 1, sigma=0.4, n_samples=1000)
    assert set(seen) == {torch.bfloat16}
    full = hessx.smooth_hess(net, x, 1, sigma=0.4, n_samples=1000)
    # The model's own rounding; estimating in bfloat16 would add an error of the size of H.
    assert (cast.to_dense() - full.to_dense()).norm() <= 0.15 * full.to_dense().norm()


def test_features_of_sigma_zero_stay(net, x):
    sigma = torch.full((D,), 0.4)
    sigma[[2, 11]] = 0
    result = hessx.smooth_hess(net, x, 1, sigma=sigma)
    assert (~result.identified).nonzero().squeeze(1).tolist() == [2, 11]
    dense, error = result.to_dense(stderr=True)
    assert not dense[:, [2, 11]].any()
    assert not error[:, :, [2, 11]].any()
    # The same as not perturbing them in a smaller problem.
    moved = sigma > 0
    basis = hessx.Basis(torch.eye(D)[:, moved])
    smaller = hessx.smooth_hess(net, x, 1, sigma=0.4, features=basis)
    dense, other = dense[:, moved][:, :, moved], smaller.to_dense()
    torch.testing.assert_close(dense, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_all_gradients_equal(x):
    result = hessx.smooth_hess(lambda z: 3 * z.sum(1), x, sigma=0.1, n_samples=10)
    assert not result.to_dense().any()
    assert result.relative_error.isnan().all()
    torch.testing.assert_close(result.gradient, torch.full_like(x, 3.0))


def test_results_describe_themselves(net, x):
    result = hessx.smooth_hess(net, x, 1, sigma=0.4)
    assert repr(result).startswith(
        "SmoothHess(5 x 20 x 20, noise on features, gls, relative_error="
    )
    html = result._repr_html_()
    assert html.count("<tr>") == 6
    assert f"{result.value[2].item():.4g}" in html
    assert result[2].shape == (D, D)
    assert 0 < result.model_seconds <= result.seconds


def test_progress_counts_gradients(net, x, capsys):
    hessx.smooth_hess(net, x, 1, sigma=0.4, n_samples=40, show_progress=True)
    assert "200/200" in capsys.readouterr().err


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().sum(1)


BAD_CALLS = {
    "inputs not a tensor": ({"inputs": [1.0]}, TypeError, "inputs must be a tensor"),
    "integer inputs": ({"inputs": torch.ones(2, 3).long()}, TypeError, "floating point"),
    "no batch": ({"inputs": torch.ones(D)}, ValueError, r"inputs must be \(B, \*shape\)"),
    "empty batch": ({"inputs": torch.ones(0, D)}, ValueError, "not empty"),
    "nan input": ({"inputs": torch.full((1, D), torch.nan)}, ValueError, "inputs must be finite"),
    "infinite input": ({"inputs": torch.full((1, D), torch.inf)}, ValueError, "got inf in row 0"),
    "wrong width": ({"inputs": torch.ones(2, D + 1)}, ValueError, r"inputs of shape \(1, 21\)"),
    "sigma 0": ({"sigma": 0.0}, ValueError, "sigma must be > 0"),
    "sigma negative": ({"sigma": -0.1}, ValueError, "sigma must be > 0 and finite, got -0.1"),
    "sigma nan": ({"sigma": float("nan")}, ValueError, "sigma must be > 0"),
    "sigmas all 0": ({"sigma": torch.zeros(D)}, ValueError, "sigma must not be all zero"),
    "a negative sigma": ({"sigma": -torch.ones(D)}, ValueError, "sigma must be >= 0 everywhere"),
    "too few sigmas": ({"sigma": torch.ones(3)}, ValueError, r"one per feature \(20,\)"),
    "no samples": ({"n_samples": 0}, ValueError, "n_samples must be >= 2"),
    "half a sample": ({"n_samples": 1.5}, TypeError, "n_samples must be an integer"),
    "odd pairs": ({"n_samples": 7, "sampling": "antithetic"}, ValueError, "must be even"),
    "rtol 0": ({"rtol": 0.0}, ValueError, "rtol must be > 0"),
    "unknown noise": ({"noise": "both"}, ValueError, "noise must be one of"),
    "unknown estimator": ({"estimator": "ols"}, ValueError, "estimator must be one of 'gls'"),
    "unknown sampling": ({"sampling": "sobol"}, ValueError, "sampling must be one of"),
    "target missing": ({"target": None}, ValueError, "target must be given"),
    "target out of range": ({"target": 4}, ValueError, "target 4 does not name an output"),
    "targets too few": ({"target": [0, 1, 2]}, ValueError, "one entry for each of 5 rows"),
    "covariance of another size": (
        {"covariance": covariance.Diagonal(torch.ones(3))},
        ValueError,
        "3 entries for 20 features",
    ),
    "features of another size": (
        {"features": hessx.Basis(torch.ones(3, 1))},
        ValueError,
        "matrix has 3 rows",
    ),
    "input noise with sigmas": (
        {"noise": "input", "sigma": torch.ones(D)},
        ValueError,
        "takes one sigma",
    ),
    "input noise with covariance": (
        {"noise": "input", "covariance": covariance.Diagonal(torch.ones(D))},
        ValueError,
        "no covariance",
    ),
    "detached": ({"forward_func": Detached(), "target": None}, ValueError, "does not reach"),
    "infinite output": (
        {"forward_func": lambda x: x.sum(1) / 0, "target": None},
        ValueError,
        "values must be finite",
    ),
    "nan output when perturbed": (
        {"forward_func": lambda x: (x - 5).clamp(max=-5).sqrt().sum(1), "target": None},
        ValueError,
        "values must be finite",
    ),
    "infinite gradient": (
        {
            "forward_func": lambda x: x.sub(x.detach()).abs().sqrt().sum(1),
            "target": None,
        },
        ValueError,
        "gradient of forward_func is not finite for input row 0",
    ),
    "covariance of another kind": ({"covariance": "full"}, TypeError, "covariance must be a"),
    "features of another kind": ({"features": 5}, TypeError, "features must be a"),
    "dropout": (
        {"forward_func": nn.Sequential(nn.Linear(D, 4), nn.Dropout()).train()},
        ValueError,
        "training mode",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_calls_are_refused(net, x, change, error, message):
    call = {"forward_func": net, "inputs": x, "target": 1, "sigma": 0.4} | change
    with pytest.raises(error, match=message):
        hessx.smooth_hess(**call)


@pytest.mark.parametrize(("radius", "d"), [(0.0, 10), (-1.0, 10), (float("inf"), 10), (1.0, 0)])
def test_sigma_for_radius_checks(radius, d):
    with pytest.raises(ValueError, match="must be"):
        hessx.sigma_for_radius(radius, d)


def test_sigma_for_radius():
    sigma = hessx.sigma_for_radius(0.5, 784)
    lengths = sigma * torch.randn(1000, 784).norm(dim=1)
    assert lengths.mean() == pytest.approx(0.5, rel=0.01)
