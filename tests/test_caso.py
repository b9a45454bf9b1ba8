"""CASO and CAFO against exact solutions in float64, and what their arguments promise."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import hessx
from tests.references.caso_paper import objective, paper_caso, reference_caso
from tests.references.cross_entropy import gradient_and_hessian, random_net
from tests.references.digits import deep_net, digits

D = 48
SHARES = (0.05, 0.2, 0.5)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, D, dtype=torch.float64)


@pytest.fixture(params=[6, 30], ids=["few classes", "many classes"])
def net(request) -> nn.Sequential:
    return random_net(D, request.param)


def exact_solutions(net: nn.Module, x: Tensor, y: Tensor, lambda1: Tensor, lambda2: Tensor):
    """Return gradients, Hessians, and the best objective for each row and lambda1."""
    gradient, hessian = gradient_and_hessian(net, x, y)
    best = []
    for row in range(len(x)):
        weight = lambda2[row].item()
        delta = reference_caso(gradient[row], hessian[row], lambda1[row], weight, 3000)
        best.append(objective(gradient[row], hessian[row], delta, lambda1[row], weight))
    return gradient, hessian, torch.stack(best)


class TestPath:
    """Every objective is within the reported gap of the best, and that within the tolerance."""

    @pytest.mark.parametrize("options", [{}, {"solver": "fista-constant"}, {"c1": 0.02}], ids=str)
    def test_against_exact_solutions(self, net, x, options):
        y = net(x).argmax(1)
        gradient, hessian = gradient_and_hessian(net, x, y)
        lambda1s = gradient.abs().amax(1, keepdim=True) * torch.tensor(SHARES, dtype=torch.float64)
        path = hessx.caso_path(net, x, lambda1s=lambda1s, **options)
        _, _, best = exact_solutions(net, x, y, lambda1s, path.lambda2)
        reached = torch.stack(
            [
                objective(*pair, delta, lambda1, lambda2)
                for pair, delta, lambda1, lambda2 in zip(
                    zip(gradient, hessian, strict=True),
                    path.delta,
                    lambda1s,
                    path.lambda2,
                    strict=True,
                )
            ]
        )
        assert torch.all(path.gap <= 1e-4)
        assert torch.all((best - reached) / reached <= path.gap + 1e-9)
        torch.testing.assert_close(path.objective, reached, rtol=1e-6, atol=0)
        largest = torch.linalg.eigvalsh(hessian)[:, -1]
        assert torch.all(path.curvature_bound >= largest * (1 - 1e-9))
        assert torch.all(path.curvature_bound <= 1.02 * largest)
        torch.testing.assert_close(path.lambda2, path.curvature_bound / 2 + options.get("c1", 10.0))

    def test_digits_in_float32(self):
        pictures, labels = digits()
        x, y = pictures[4000:4003], labels[4000:4003]
        net = deep_net()
        double = deepcopy(net).double()
        gradient, hessian = gradient_and_hessian(double, x.double(), y)
        lambda1s = gradient.abs().amax(1, keepdim=True) * torch.tensor(SHARES)
        path = hessx.caso_path(net, x, y, lambda1s=lambda1s)
        for row in range(len(x)):
            arguments = gradient[row], hessian[row]
            weights = lambda1s[row].double(), path.lambda2[row].item()
            best = objective(*arguments, reference_caso(*arguments, *weights), *weights)
            reached = objective(*arguments, path.delta[row], *weights)
            # The model's own rounding in float32 moves the objective by 1e-5.
            assert torch.all((best - reached) / reached <= path.gap[row] + 1e-5)
        assert torch.all(path.gap <= 1e-4)
        assert path.hessian == "exact"

    def test_columns_are_single_calls(self, net, x):
        path = hessx.caso_path(net, x, lambda1s=[0.0, 0.01, 0.1])
        assert len(path) == 3
        for column, lambda1 in enumerate([0.0, 0.01, 0.1]):
            single = hessx.caso(net, x, lambda1=lambda1)
            part = path[column]
            torch.testing.assert_close(part.lambda1, single.lambda1)
            # Each is within its gap of the same solution.
            distance = (part.delta - single.delta).norm(dim=1)
            assert torch.all(distance <= 0.05 * single.delta.norm(dim=1))
        with pytest.raises(IndexError, match="below 3"):
            path[3]
        with pytest.raises(TypeError, match="integer"):
            path[0.5]

    def test_a_penalty_as_large_as_the_gradient_gives_zero(self, net, x):
        gradient = hessx.input_hessian(net, x).gradient
        result = hessx.caso(net, x, lambda1=gradient.abs().amax(1))
        assert torch.all(result.delta == 0)
        assert torch.all(result.sparsity == 1)
        assert torch.all(result.gap == 0)
        assert torch.all(result.objective == 0)
        # Asked in another batch, the same loss may round otherwise.
        assert torch.all(result.loss_change.abs() < 1e-12)

    def test_without_a_penalty_it_is_newtons_step(self, net, x):
        gradient, hessian = gradient_and_hessian(net, x, net(x).argmax(1))
        result = hessx.caso(net, x, lambda1=0.0, tol=1e-10)
        scale = 2 * result.lambda2[:, None, None]
        exact = torch.linalg.solve(scale * torch.eye(D) - hessian, gradient[..., None])[..., 0]
        torch.testing.assert_close(result.delta, exact, rtol=1e-4, atol=1e-6 * exact.abs().max())

    def test_the_papers_algorithm_agrees(self):
        net = random_net(D, 6)
        x = torch.randn(1, D, dtype=torch.float64)
        gradient = hessx.input_hessian(net, x).gradient
        lambda1 = 0.2 * gradient.abs().max().item()
        paper = paper_caso(net, x[0], int(net(x).argmax()), [lambda1])
        result = hessx.caso(net, x, lambda1=lambda1, lambda2=paper.lambda2, tol=1e-8)
        torch.testing.assert_close(
            paper.delta, result.delta, rtol=2e-2, atol=1e-3 * result.delta.max()
        )
        fista = hessx.caso(net, x, lambda1=lambda1, lambda2=paper.lambda2, solver="fista")
        torch.testing.assert_close(paper.delta, fista.delta, rtol=1e-6, atol=1e-9)


class TestLambda1:
    def test_auto_lands_in_the_range(self, net, x):
        result = hessx.caso(net, x)
        assert torch.all((result.sparsity >= 0.75) & (result.sparsity < 1))
        # The smallest that does: 1 % below it, the solution is too dense.
        denser = hessx.caso(net, x, lambda1=result.lambda1 * 0.99)
        assert torch.all(denser.sparsity <= result.sparsity)
        assert torch.all(denser.objective > result.objective)
        assert torch.all(hessx.caso(net, x, lambda1=result.lambda1 * 0.9).sparsity < 0.75)

    @pytest.mark.parametrize("rule", ["cafo", "search"])
    def test_other_rules(self, net, x, rule):
        first = hessx.cafo(net, x, lambda1=rule)
        assert torch.all((first.sparsity >= 0.75) & (first.sparsity < 1))
        second = hessx.caso(net, x, lambda1=rule)
        if rule == "cafo":
            torch.testing.assert_close(second.lambda1, first.lambda1)
        else:
            assert torch.all((second.sparsity >= 0.75) & (second.sparsity < 1))

    def test_cafo_chooses_its_own(self, net, x):
        result = hessx.cafo(net, x)
        torch.testing.assert_close(result.lambda1, hessx.cafo(net, x, lambda1="cafo").lambda1)
        assert torch.all(result.sparsity == 0.75)

    @pytest.mark.parametrize("k", [1, 5, D])
    def test_groups_of_at_most_k(self, net, x, k):
        for explain in (hessx.caso, hessx.cafo):
            pixels = (explain(net, x, k=k).delta != 0).sum(1)
            assert torch.all(pixels <= k)
            assert torch.all(pixels >= max(1, k - 1))

    @pytest.mark.parametrize("explain", [hessx.caso, hessx.cafo])
    def test_ties_do_not_exceed_k(self, explain):
        net = nn.Linear(8, 2).double()
        with torch.no_grad():
            net.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 8))
        x = torch.zeros(1, 8, dtype=torch.float64)
        assert (explain(net, x, k=3).delta != 0).sum() == 0
        assert (explain(net, x).delta != 0).sum() == 8

    def test_a_pixel_has_channels(self):
        net = nn.Sequential(nn.Flatten(), random_net(D, 6))
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
        result = hessx.caso(net, x, k=3)
        assert result.delta.shape == x.shape
        pixels = (result.delta != 0).any(1).flatten(1).sum(1)
        assert torch.all(pixels <= 3)
        torch.testing.assert_close(result.sparsity, 1 - pixels.double() / 16)

    def test_other_ranges(self, net, x):
        result = hessx.caso(net, x, sparsity=(0.5, 0.6))
        assert torch.all((result.sparsity >= 0.5) & (result.sparsity < 0.6))


class TestSmooth:
    def smooth_hessian(self, net, x, y, sigma, n) -> tuple[Tensor, Tensor]:
        from hessx.explain.curvature import SMOOTH_STREAM

        noise = hessx.ops.normal(n, D, seed=0, stream=SMOOTH_STREAM, dtype=torch.float64)
        parts = [
            gradient_and_hessian(net, row + sigma * noise, target.expand(n))
            for row, target in zip(x, y, strict=True)
        ]
        return torch.stack([p[0].mean(0) for p in parts]), torch.stack(
            [p[1].mean(0) for p in parts]
        )

    def test_it_is_the_program_of_the_means(self, net, x):
        y = net(x).argmax(1)
        gradient, hessian = self.smooth_hessian(net, x, y, 0.3, 7)
        lambda1 = 0.2 * gradient.abs().amax(1)
        result = hessx.caso(net, x, lambda1=lambda1, smooth_sigma=0.3, n_samples=7, tol=1e-8)
        for row in range(len(x)):
            arguments = gradient[row], hessian[row], lambda1[row : row + 1], result.lambda2[row]
            exact = reference_caso(*arguments)
            torch.testing.assert_close(result.delta[row], exact[0], rtol=1e-3, atol=1e-6)
        first = hessx.cafo(net, x, lambda1=lambda1, lambda2=2.0, smooth_sigma=0.3, n_samples=7)
        shrunk = (gradient.abs() - lambda1[:, None]).clamp(min=0) * gradient.sign()
        torch.testing.assert_close(first.delta, shrunk / 4)

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_batch_sizes_do_not_matter(self, net, x, size):
        options = {"smooth_sigma": 0.3, "n_samples": 5}
        whole = hessx.caso(net, x, **options)
        parts = hessx.caso(net, x, max_examples_per_batch=size, **options)
        torch.testing.assert_close(parts.delta, whole.delta, rtol=1e-5, atol=1e-9)


class TestContracts:
    def test_a_row_equals_the_single_call(self, net, x):
        whole = hessx.caso(net, x)
        for row in range(len(x)):
            single = hessx.caso(net, x[row : row + 1])
            torch.testing.assert_close(single.delta[0], whole.delta[row], rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(single.gap[0], whole.gap[row], rtol=1e-2, atol=1e-9)

    def test_batch_sizes_and_threads_do_not_matter(self, net, x):
        whole = hessx.caso(net, x)
        parts = hessx.caso(net, x, max_examples_per_batch=2)
        torch.testing.assert_close(parts.delta, whole.delta, rtol=1e-6, atol=1e-9)
        torch.set_num_threads(2)
        torch.testing.assert_close(hessx.caso(net, x).delta, whole.delta, rtol=1e-6, atol=1e-9)

    def test_the_loss_change_is_the_models(self, net, x):
        result = hessx.caso(net, x)
        y = net(x).argmax(1)
        loss = nn.functional.cross_entropy
        change = loss(net(x + result.delta), y, reduction="none")
        change = change - loss(net(x), y, reduction="none")
        torch.testing.assert_close(result.loss_change, change.detach(), rtol=1e-6, atol=1e-12)
        assert torch.all(result.loss_change > 0)
        assert torch.equal(result.target, y)
        exact, _ = gradient_and_hessian(net, x, y)
        torch.testing.assert_close(result.gradient, exact)

    def test_the_model_is_left_as_found(self, net, x):
        before = [p.clone() for p in net.parameters()]
        state = torch.get_rng_state()
        hessx.caso(net, x, smooth_sigma=0.1, n_samples=3)
        assert all(p.grad is None for p in net.parameters())
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
        assert torch.equal(torch.get_rng_state(), state)

    def test_additional_arguments_go_row_by_row(self, net, x):
        shift = torch.randn(len(x), 1, dtype=torch.float64)
        result = hessx.caso(lambda z, s: net(z + s), x, additional_forward_args=shift)
        torch.testing.assert_close(
            result.delta, hessx.caso(net, x + shift).delta, rtol=1e-5, atol=1e-9
        )

    @pytest.mark.parametrize("solver", ["newton", "fista", "fista-constant"])
    @pytest.mark.parametrize("margin", [20.0, 60.0, 90.0, 300.0])
    def test_nearly_certain_predictions_in_float32(self, solver, margin):
        """Their gradients and Hessians are tiny, denormal or 0: no NaN, nothing of other rows."""
        net = random_net(D, 30, 1.0).float()

        def sure(z: Tensor, bias: Tensor) -> Tensor:
            return net(z) + bias

        bias = torch.zeros(3, 30)
        bias[1, 2] = margin
        x = torch.randn(3, D)
        result = hessx.caso(sure, x, solver=solver, additional_forward_args=bias)
        assert all(getattr(result, name).isfinite().all() for name in ("delta", "gap", "objective"))
        alone = hessx.caso(sure, x[:1], solver=solver, additional_forward_args=bias[:1])
        torch.testing.assert_close(result.delta[0], alone.delta[0], rtol=1e-3, atol=1e-7)
        hessian = hessx.input_hessian(
            sure, x, additional_forward_args=bias, max_examples_per_batch=1
        )
        assert hessian.eigenvalues.shape == (3, 10)
        assert hessian.eigenvectors.isfinite().all()
        assert hessian.converged.all()

    def test_a_smaller_tolerance_gives_no_larger_gap(self):
        """Where rounding ends the progress, the best solution is kept."""
        net = random_net(D, 30, 300.0).float()
        x = torch.randn(4, D)
        gradient = hessx.input_hessian(net, x, rank=1).gradient
        lambda1s = gradient.abs().amax(1, keepdim=True) * torch.tensor(SHARES)
        last = None
        for tol in (1e-3, 1e-4, 1e-6, 1e-8):
            gap = hessx.caso_path(net, x, lambda1s=lambda1s, tol=tol).gap
            if last is not None:
                assert torch.all(gap <= last * 1.5 + tol)
            last = gap

    def test_a_gradient_of_zero(self):
        class Constant(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return torch.stack([z.sum(1), z.sum(1)], 1)

        x = torch.randn(2, D)
        result = hessx.caso(Constant(), x)
        assert torch.all(result.delta == 0)
        assert torch.all(result.gap == 0)

    def test_float32_and_bfloat16(self, net, x):
        exact = hessx.caso(net, x)
        single = hessx.caso(deepcopy(net).float(), x.float())
        assert single.delta.dtype == torch.float32
        torch.testing.assert_close(single.lambda1.double(), exact.lambda1, rtol=1e-3, atol=0)
        half = hessx.caso(deepcopy(net).bfloat16(), x.bfloat16())
        assert half.delta.dtype == torch.float32
        assert torch.all((half.sparsity >= 0.75) & (half.gap <= 1e-4))

    def test_texts(self, net, x):
        result = hessx.caso(net, x)
        assert "SparseSaliency(caso, delta=(5, 48), hessian=exact" in repr(result)
        assert result._repr_html_().count("<tr>") == 6
        path = hessx.caso_path(net, x, lambda1s=[0.1, 0.2])
        assert path._repr_html_().count("<tr>") == 11


class TestNotPiecewiseLinear:
    @pytest.mark.parametrize("solver", ["fista", "fista-constant"])
    def test_the_whole_hessian(self, x, solver):
        net = random_net(D, 5, 4.0, nn.Softplus)
        y = net(x).argmax(1)
        gradient, hessian = gradient_and_hessian(net, x, y)
        assert torch.linalg.eigvalsh(hessian)[:, 0].min() < -1e-3
        lambda1 = 0.2 * gradient.abs().amax(1)
        result = hessx.caso(
            net, x, lambda1=lambda1, exact=True, solver=solver, n_iter=400, tol=1e-8
        )
        for row in range(len(x)):
            arguments = gradient[row], hessian[row], lambda1[row : row + 1], result.lambda2[row]
            torch.testing.assert_close(
                result.delta[row], reference_caso(*arguments)[0], rtol=1e-3, atol=1e-6
            )
        assert result.hessian == "exact"

    def test_a_concave_loss_keeps_lambda2_positive(self):
        def model(z: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(z), -100 * z.square()], 1)

        x = torch.tensor([[0.3]], dtype=torch.float64)
        result = hessx.caso(model, x, 1, lambda1=0.0, exact=True, solver="fista-constant")
        assert result.lambda2 >= 10
        assert result.loss_change > 0

    def test_newton_needs_gauss_newton(self, x):
        net = random_net(D, 5, 4.0, nn.Softplus)
        with pytest.raises(ValueError, match="positive semidefinite"):
            hessx.caso(net, x, exact=True)
        with pytest.warns(RuntimeWarning, match="piecewise linear"):
            assert hessx.caso(net, x).hessian == "gauss-newton"


class TestTheorem5:
    """With lambda2 close to L / 2, where it is a test: CASO is parallel to CAFO, or not."""

    def cosine(self, probabilities: Tensor, weights: Tensor) -> float:
        """Return the cosine of CASO and CAFO for a linear model with these class gradients."""
        model = nn.Linear(weights.shape[1], len(weights)).double()
        with torch.no_grad():
            model.weight.copy_(weights)
            model.bias.copy_(probabilities.log())
        x = torch.zeros(1, weights.shape[1], dtype=torch.float64)
        top = hessx.input_hessian(model, x, rank=1, rtol=1e-8).top_bound
        options = {"lambda1": 0.0, "lambda2": 0.505 * top}
        second = hessx.caso(model, x, 0, tol=1e-9, **options).delta
        first = hessx.cafo(model, x, 0, **options).delta
        return torch.cosine_similarity(first, second).item()

    def test_parallel_for_confident_predictions_of_many_classes(self):
        p = torch.full((1000,), 1e-4 / 999, dtype=torch.float64)
        p[0] = 0.9999
        assert self.cosine(p, torch.randn(1000, 3072, dtype=torch.float64)) > 0.999

    def test_not_parallel_for_unconfident_ones(self):
        p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
        scales = torch.tensor([[1.0], [1.0], [1.0], [3.0]], dtype=torch.float64)
        assert self.cosine(p, scales * torch.randn(4, 200, dtype=torch.float64)) < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda1": -0.1}, "lambda1 must be >= 0 and finite, got -0.1"),
        ({"lambda1": float("nan")}, "lambda1 must be >= 0"),
        ({"lambda1": torch.ones(3)}, r"lambda1 must be a number or of shape \(5,\)"),
        ({"lambda1": "best"}, "lambda1 must be one of 'auto', 'cafo', 'search'"),
        ({"lambda2": 1e-6}, "lambda2 must be > L / 2"),
        ({"lambda2": -1.0}, "lambda2 must be > 0 and finite, got -1.0"),
        ({"c1": 0.0}, "c1 must be > 0"),
        ({"k": 0}, "k must be between 1 and 48"),
        ({"k": 2, "lambda1": 0.1}, 'k takes lambda1="auto"'),
        ({"sparsity": (0.9, 0.5)}, "sparsity must be"),
        ({"smooth_sigma": -0.15}, "smooth_sigma must be > 0 and finite, got -0.15"),
        ({"smooth_sigma": 0.1, "n_samples": 0}, "n_samples must be >= 1"),
        ({"solver": "adam"}, "solver must be one of"),
        ({"n_iter": 5}, "n_iter must be None"),
        ({"solver": "fista", "n_iter": 0}, "n_iter must be >= 1"),
        ({"tol": 0.0}, "tol must be > 0"),
        ({"target": 6}, "target 6 does not name"),
        ({"memory_limit": 100}, "memory_limit must be at least"),
    ],
)
def test_bad_arguments(x, options, message):
    with pytest.raises(ValueError, match=message):
        hessx.caso(random_net(D, 6), x, **options)


@pytest.mark.parametrize("explain", [hessx.caso, hessx.cafo])
def test_wrong_types(x, explain):
    net = random_net(D, 6)
    with pytest.raises(TypeError, match="c1 must be a number"):
        explain(net, x, c1="10")
    with pytest.raises(TypeError, match="smooth_sigma must be a number"):
        explain(net, x, smooth_sigma="0.15")
    for sparsity in (0.75, "01", ("0", "1")):
        with pytest.raises(TypeError, match="sparsity must be a pair"):
            explain(net, x, sparsity=sparsity)
    for lambda1 in (None, [0.1, "a"], torch.tensor(True)):
        with pytest.raises(TypeError, match="lambda1 must be of numbers"):
            explain(net, x, lambda1=lambda1)
    with pytest.raises(TypeError, match="inputs must be a tensor"):
        explain(net, x.tolist())
    with pytest.raises(ValueError, match="logits"):
        explain(lambda z: net(z).softmax(1), x)
    with pytest.raises(ValueError, match="does not reach its input"):
        explain(lambda z: net(z.detach()), x)


def test_bad_paths(x):
    net = random_net(D, 6)
    for lambda1s in ("auto", [[0.1], [0.1, 0.2]], None):
        with pytest.raises(TypeError, match="lambda1s must be of numbers"):
            hessx.caso_path(net, x, lambda1s=lambda1s)
    for lambda1s, message in [
        ([], r"lambda1s must be of shape \(M,\)"),
        ([0.1, -1.0], "lambda1s must be >= 0"),
        (torch.ones(3, 2), "a row for each of 5 inputs"),
    ]:
        with pytest.raises(ValueError, match=message):
            hessx.caso_path(net, x, lambda1s=lambda1s)
