"""input_hessian against autograd's Hessian in float64, by each of its three routes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import hessx
from tests.references.cross_entropy import gradient_and_hessian, random_net
from tests.references.digits import deep_net, digits

D = 30


def spectrum(hessian: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(hessian).flip(-1)


def rebuilt(result: hessx.InputHessian) -> Tensor:
    vectors = result.eigenvectors
    return (vectors * result.eigenvalues[:, None]) @ vectors.mT


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, D, dtype=torch.float64)


class TestFewClasses:
    """All class gradients."""

    def test_digits(self):
        """The trained net in float64: 1e-9 of |H|, as autograd has it."""
        net = deepcopy(deep_net()).double()
        pictures, labels = digits()
        x, y = pictures[4000:4004].double(), labels[4000:4004]
        result = hessx.input_hessian(net, x, y)
        gradient, hessian = gradient_and_hessian(net, x, y)
        norm = hessian.flatten(1).norm(dim=1)
        assert torch.all((rebuilt(result) - hessian).flatten(1).norm(dim=1) <= 1e-9 * norm)
        torch.testing.assert_close(result.gradient, gradient, rtol=1e-9, atol=0)
        exact = spectrum(hessian)
        largest = exact[:, :1]
        assert torch.all((result.eigenvalues - exact[:, :9]).abs() <= 1e-12 * largest)
        torch.testing.assert_close(result.trace, hessian.diagonal(dim1=1, dim2=2).sum(1))
        # LAPACK's own eigenvalues of 784 x 784 are off by more than the bound's margin.
        torch.testing.assert_close(result.top_bound, exact[:, 0], rtol=1e-12, atol=0)
        assert torch.all(result.top_bound > result.eigenvalues[:, 0])
        assert result.hessian == "exact"
        assert result.n_classes == 10
        assert torch.all(result.trace_remainder == 0)
        assert result.converged.all()

    def test_float32(self):
        x = digits()[0][4000:4010]
        single = hessx.input_hessian(deep_net(), x, rank=3)
        double = hessx.input_hessian(deepcopy(deep_net()).double(), x.double(), rank=3)
        # Beside the model's own rounding in float32, which moves gradients by 1e-5.
        torch.testing.assert_close(
            single.eigenvalues.double(), double.eigenvalues, rtol=1e-3, atol=0
        )
        assert single.eigenvectors.dtype == torch.float32

    def test_the_hessian_does_not_depend_on_the_target(self, x):
        net = random_net(D, 5)
        torch.testing.assert_close(
            hessx.input_hessian(net, x, 0).eigenvalues, hessx.input_hessian(net, x, 3).eigenvalues
        )

    def test_a_nearly_certain_prediction_keeps_its_digits(self):
        """In float32, with p = 1 - 1e-9: the Hessian is small, not 0."""
        net = random_net(D, 4, spread=1.0).float()
        x = torch.randn(3, D)
        with torch.no_grad():
            net[-1].bias[2] += 21
        double = deepcopy(net).double()
        exact = hessx.input_hessian(double, x.double()).eigenvalues
        assert exact.max() < 1e-7
        torch.testing.assert_close(
            hessx.input_hessian(net, x).eigenvalues[:, 0].double(), exact[:, 0], rtol=1e-4, atol=0
        )


class TestManyClasses:
    """Krylov spaces, or all classes where nearly all eigenpairs are asked for."""

    @pytest.mark.parametrize("spread", [1.0, 30.0], ids=["flat", "confident"])
    @pytest.mark.parametrize("rank", [1, 4])
    @pytest.mark.parametrize("rtol", [1e-2, 1e-6])
    def test_eigenpairs(self, x, spread, rank, rtol):
        net = random_net(D, 25, spread)
        _, hessian = gradient_and_hessian(net, x, net(x).argmax(1))
        result = hessx.input_hessian(net, x, rank=rank, rtol=rtol)
        exact = spectrum(hessian)
        torch.testing.assert_close(result.eigenvalues, exact[:, :rank], rtol=rtol, atol=0)
        assert result.converged.all()
        assert torch.all(result.top_bound >= exact[:, 0] * (1 - 1e-12))
        assert torch.all(result.top_bound <= exact[:, 0] * (1 + 2 * rtol))
        residual = hessian @ result.eigenvectors - result.eigenvectors * result.eigenvalues[:, None]
        torch.testing.assert_close(residual.norm(dim=1), result.residuals, rtol=1e-6, atol=1e-9)

    def test_all_eigenpairs(self, x):
        net = random_net(D, 25)
        _, hessian = gradient_and_hessian(net, x, net(x).argmax(1))
        result = hessx.input_hessian(net, x, rank=24)
        torch.testing.assert_close(
            rebuilt(result), hessian, rtol=0, atol=1e-9 * hessian.abs().max()
        )
        assert result.n_products == 0

    def test_all_eigenpairs_without_the_jacobian(self):
        """A limit that the class gradients do not fit in takes the same numbers another way."""
        net = nn.Sequential(nn.Linear(40000, 40), nn.ReLU(), nn.Linear(40, 25)).double()
        x = torch.randn(1, 40000, dtype=torch.float64)
        whole = hessx.input_hessian(net, x, rank=13, memory_limit=240_000_000)
        parts = hessx.input_hessian(net, x, rank=13, memory_limit=24_000_000)
        torch.testing.assert_close(parts.eigenvalues, whole.eigenvalues)
        torch.testing.assert_close(parts.trace, whole.trace)
        identity = parts.eigenvectors.mT @ parts.eigenvectors
        torch.testing.assert_close(identity[0], torch.eye(13, dtype=torch.float64))

    def test_the_trace_has_no_bias(self, x):
        net = random_net(D, 25, 3.0)
        _, hessian = gradient_and_hessian(net, x, net(x).argmax(1))
        exact = hessian.diagonal(dim1=1, dim2=2).sum(1)
        traces, remainders = [], []
        for seed in range(60):
            result = hessx.input_hessian(net, x, rank=1, rtol=0.5, seed=seed)
            traces.append(result.trace)
            remainders.append(result.trace_remainder)
        traces = torch.stack(traces)
        error = traces.std(0) / len(traces) ** 0.5
        assert torch.all((traces.mean(0) - exact).abs() < 4 * error)
        assert torch.all(torch.stack(remainders) >= 0)

    def test_a_row_equals_the_single_call(self, x):
        net = random_net(D, 25)
        whole = hessx.input_hessian(net, x, rank=3)
        for row in range(len(x)):
            single = hessx.input_hessian(net, x[row : row + 1], rank=3)
            for name in ("eigenvalues", "residuals", "top_bound", "trace", "probabilities"):
                torch.testing.assert_close(
                    getattr(single, name)[0], getattr(whole, name)[row], rtol=1e-7, atol=1e-10
                )

    def test_batch_sizes_do_not_matter(self, x):
        net = random_net(D, 25)
        whole = hessx.input_hessian(net, x, rank=3)
        parts = hessx.input_hessian(net, x, rank=3, max_examples_per_batch=1)
        torch.testing.assert_close(parts.eigenvalues, whole.eigenvalues)
        torch.testing.assert_close(parts.trace, whole.trace)


class TestNotPiecewiseLinear:
    def test_the_whole_hessian(self, x):
        net = random_net(D, 4, 3.0, nn.Softplus)
        y = net(x).argmax(1)
        _, hessian = gradient_and_hessian(net, x, y)
        result = hessx.input_hessian(net, x, y, exact=True, rank=5, rtol=1e-8)
        torch.testing.assert_close(result.eigenvalues, spectrum(hessian)[:, :5], rtol=1e-8, atol=0)
        assert result.hessian == "exact"

    def test_gauss_newton(self, x):
        net = random_net(D, 4, 3.0, nn.Softplus)
        with pytest.warns(RuntimeWarning, match="piecewise linear"):
            result = hessx.input_hessian(net, x)
        jacobian = torch.autograd.functional.jacobian(lambda z: net(z).sum(0), x).permute(1, 0, 2)
        p = net(x).softmax(1)
        weights = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        gauss_newton = jacobian.mT @ weights @ jacobian
        exact = spectrum(gauss_newton)[:, :3].detach()
        torch.testing.assert_close(result.eigenvalues, exact, rtol=1e-9, atol=1e-12)
        assert result.hessian == "gauss-newton"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be between 1 and 30"),
        ({"rank": 31}, "rank must be between 1 and 30"),
        ({"rtol": 0.0}, "rtol must be > 0"),
        ({"rtol": float("nan")}, "rtol must be > 0"),
        ({"target": 4}, "target 4 does not name"),
        ({"memory_limit": 10}, "memory_limit must be at least"),
    ],
)
def test_bad_arguments(x, options, message):
    with pytest.raises(ValueError, match=message):
        hessx.input_hessian(random_net(D, 4), x, **options)


def test_wrong_types(x):
    net = random_net(D, 4)
    with pytest.raises(TypeError, match="exact must be a bool"):
        hessx.input_hessian(net, x, exact="yes")
    with pytest.raises(TypeError, match="rtol must be a number"):
        hessx.input_hessian(net, x, rtol="0.1")
    with pytest.raises(ValueError, match="logits"):
        hessx.input_hessian(lambda z: net(z).softmax(1), x)
    with pytest.raises(ValueError, match="logits"):
        hessx.input_hessian(lambda z: net(z)[:, 0], x)


def test_texts(x):
    result = hessx.input_hessian(random_net(D, 4), x)
    assert "4 x 30 x 30, exact, 3 eigenpairs" in repr(result)
    assert result._repr_html_().count("<tr>") == 5
