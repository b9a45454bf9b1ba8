"""Cross-entropy queries: gradients and Hessian-vector products against autograd's."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from hessx.query import LossQuery
from hessx.query.scaling import scaled
from hessx.query.softmax import cross_entropy, likely_factor, softmax_factor, softmax_residual
from hessx.run import Run

# Products are compared in float64, so only the order of additions differs.
ROUNDING = 1e-12


def model_of(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


def mlp(c: int = 5) -> nn.Sequential:
    return model_of(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, c))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def hessian(model, x, y):
    """The Hessian of the cross-entropy at one example, by autograd."""

    def loss(x):
        return nn.functional.cross_entropy(model(x[None]), torch.tensor([y]))

    return torch.autograd.functional.hessian(loss, x).reshape(x.numel(), x.numel())


def jacobian(model, x):
    J = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x)
    return J.reshape(J.shape[0], -1)


def assert_close(got, expected, rtol=ROUNDING):
    assert got.shape == expected.shape
    error = (got - expected).norm() / expected.norm()
    assert error <= rtol, error.item()


def linearize(model, x, target=None, run=None, **options):
    query = LossQuery(model, x, target, run or Run(), **options)
    return query.linearize(x, torch.arange(len(x)))


def test_everything_against_autograd():
    model, x, y = mlp(), normal(3, 6), [1, 0, 4]
    query = LossQuery(model, x, y, Run())
    at = query.linearize(x, torch.arange(3))
    H = torch.stack([hessian(model, x[i], y[i]) for i in range(3)])
    J = torch.stack([jacobian(model, x[i]) for i in range(3)])
    v, u = normal(3, 2, 6, seed=1), normal(3, 2, 5, seed=2)
    assert_close(at.product(v), v @ H)
    assert_close(at.jvp(v), v @ J.mT)
    assert_close(at.vjp(u), u @ J)
    p = model(x).detach().softmax(1)
    assert_close(at.probabilities, p)
    assert_close(at.gradient, ((p - torch.eye(5)[y])[:, None] @ J)[:, 0])
    F = at.factor()
    assert_close(F.mT @ F, H)
    assert_close(query.probabilities, p)
    assert_close(
        query.loss, nn.functional.cross_entropy(model(x), torch.tensor(y), reduction="none")
    )
    assert_close(query.losses(x[[2, 0]], torch.tensor([2, 0])), query.loss[[2, 0]])
    assert query.n_products == 6
    assert query.n_classes == 5
    assert query.seconds > 0


def test_rows_take_their_own_target_and_arguments():
    scale = torch.tensor([1.0, 2, 3], dtype=torch.float64)
    model = mlp()

    def f(x, scale):
        return scale[:, None] * model(x)

    x = normal(3, 6)
    query = LossQuery(f, x, [1, 0, 4], Run(additional_forward_args=scale))
    at = query.linearize(x[[2, 1]], torch.tensor([2, 0]))
    v = normal(2, 1, 6, seed=1)
    assert_close(at.product(v)[0], v[0] @ hessian(lambda x: 3 * model(x), x[2], 4))
    assert_close(at.product(v)[1], v[1] @ hessian(model, x[1], 1))
    assert query.method == "frozen"


@pytest.mark.parametrize(
    ("target", "expected"),
    [(None, None), (2, [2, 2, 2]), ([0, 1, 2], [0, 1, 2]), (torch.tensor([4, 3, 0]), [4, 3, 0])],
)
def test_targets(target, expected):
    model, x = mlp(), normal(3, 6)
    query = LossQuery(model, x, target, Run())
    assert query.target.tolist() == (expected or model(x).argmax(1).tolist())


def test_a_confident_prediction_keeps_its_digits():
    """At p_y = 1 - 1e-12 the residual is exact to rounding, by the sum of the others."""
    W = normal(4, 6)
    other = -torch.log(torch.tensor(3e12, dtype=torch.float64))

    def f(x):
        return x @ W.T - (x @ W.T).detach() + other * torch.arange(4).clamp(max=1).double()

    x = normal(1, 6)
    at = linearize(f, x, 0)
    odds = torch.exp(other)
    p = odds / (1 + 3 * odds)
    residual = torch.stack([-3 * p, p, p, p])
    assert_close(at.gradient[0], residual @ W, 1e-14)
    query = LossQuery(f, x, 0, Run())
    assert_close(query.loss[0], torch.log1p(3 * odds), 1e-14)
    # (diag p - p p^T) u to first order in p, its second order below rounding.
    v = normal(1, 1, 6, seed=1)
    u = (W @ v[0, 0]) - (W @ v[0, 0])[0]
    w = p * u
    w[0] = -w.sum()
    assert_close(at.product(v)[0, 0], w @ W, 1e-11)


def test_float32_probabilities_below_its_smallest_number():
    """A residual of 1e-40 is denormal in float32; the products it gives are not cut off."""

    def f(x):
        return x * torch.tensor([1.0, 1e6])

    x = torch.tensor([[92.1034, 0.0]])
    gradient = linearize(f, x, 0).gradient
    p = torch.exp(-x[0, 0].double())
    torch.testing.assert_close(gradient[0, 1].double(), 1e6 * p, rtol=1e-6, atol=0)


def test_softmax_pieces():
    z, y = 3 * normal(4, 5), torch.tensor([0, 2, 4, 1])
    p, residual = softmax_residual(z, y)
    assert_close(residual, z.softmax(1) - torch.eye(5)[y])
    assert_close(cross_entropy(z, y), nn.functional.cross_entropy(z, y, reduction="none"))
    A = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    S = softmax_factor(p)
    assert_close(S.mT @ S, A)


def test_likely_classes_and_the_others_as_one():
    """The law of total variance: what is left out is the variance among the others."""
    p = (2 * normal(4, 6)).softmax(1)
    A = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    S = likely_factor(p, 3)
    others = p.scatter(1, p.topk(3, 1).indices, 0)
    rest = others.sum(1)[:, None, None]
    within = torch.diag_embed(others) - others[:, :, None] * others[:, None] / rest
    assert_close(S.mT @ S + within, A)
    assert_close(likely_factor(p, 6)[:, :6].mT @ likely_factor(p, 6)[:, :6], A)


@pytest.mark.parametrize("size", [0.0, 5e-324, 1e-300, 1e-20, 1.0, 1e20, 1.7e308])
def test_scaling_is_by_powers_of_two(size):
    rows = torch.tensor([[1.0, -0.3, 0.0]], dtype=torch.float64) * size
    shrunk, scale = scaled(rows, torch.float32)
    assert shrunk.dtype == torch.float32
    assert shrunk.abs().max() == 0 or 1 <= shrunk.abs().max() <= 2
    assert torch.frexp(scale).mantissa.item() == 0.5
    back = shrunk.double() * scale
    torch.testing.assert_close(back, rows, rtol=1e-7, atol=0)


def test_rows_do_not_depend_on_the_batch():
    model, x = mlp(), normal(4, 6)
    v = normal(4, 7, 6, seed=1)
    whole = linearize(model, x)
    together = whole.product(v)
    for i in range(4):
        alone = linearize(model, x[i : i + 1])
        assert_close(together[i], alone.product(v[i : i + 1])[0])
        assert_close(whole.gradient[i], alone.gradient[0])
    few = linearize(model, x, run=Run(max_examples_per_batch=4))
    assert_close(few.product(v), together)
    query = LossQuery(model, x, None, Run(max_examples_per_batch=3))
    assert query.examples_per_batch == 3
    rows = torch.arange(4).repeat(2)
    assert_close(query.losses(x[rows], rows), query.loss[rows])


def test_batch_size_follows_the_memory_limit():
    wide = model_of(nn.Linear(6, 10_000), nn.ReLU(), nn.Linear(10_000, 3))
    x = normal(2, 6)
    small = LossQuery(wide, x, None, Run(memory_limit=2 * 10**6))
    large = LossQuery(wide, x, None, Run(memory_limit=2 * 10**7))
    # 10,000 float64 gates saved by each example, twice at least, out of half the limit.
    assert 1 <= small.examples_per_batch <= 10**6 // 160_000
    assert large.examples_per_batch >= 5 * small.examples_per_batch
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        LossQuery(wide, x, None, Run(memory_limit=1000))


def test_the_model_is_left_as_found():
    model = model_of(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    model[0].weight.register_hook(seen.append)
    random = torch.get_rng_state()
    x = normal(2, 6)
    for exact in (False, True):
        at = linearize(model, x, exact=exact)
        at.product(normal(2, 2, 6))
        at.factor()
    assert torch.equal(torch.get_rng_state(), random)
    assert not seen
    assert all((p.grad == 7).all() for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid()])
def test_several_threads_at_once(activation):
    model = model_of(nn.Linear(6, 8), activation, nn.Linear(8, 3))
    x, v = normal(8, 6), normal(8, 2, 6, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = linearize(model, x).product(v)
        query = LossQuery(model, x, None, Run())
        found: dict[int, torch.Tensor] = {}

        def work(i):
            for _ in range(5):
                row = torch.tensor([i])
                found[i] = query.linearize(x[row], row).product(v[row])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert_close(torch.cat([found[i] for i in range(8)]), expected)
    # Torch's own flag, by which torch.compile is switched off.
    assert not is_in_torch_dispatch_mode()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision(dtype):
    model, x = mlp(), normal(2, 6)
    v = normal(2, 1, 6, seed=1)
    expected = linearize(model, x, 0)
    low = x.to(dtype)
    query = LossQuery(model.to(dtype), low, 0, Run())
    at = query.linearize(low, torch.arange(2))
    assert query.method == ("frozen" if dtype == torch.float32 else "forward")
    rtol = 20 * torch.finfo(dtype).eps
    for got, right in (
        (at.gradient, expected.gradient),
        (at.product(v), expected.product(v)),
    ):
        assert got.dtype == torch.float32
        assert_close(got.double(), right, rtol)
    assert at.jvp(v).dtype == at.probabilities.dtype == torch.float64


def test_autocast_is_the_callers():
    model, x = mlp().float(), normal(2, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query = LossQuery(model, x, 0, Run())
        expected = model(x).double().softmax(1)
    assert query.method == "forward"
    assert_close(query.probabilities, expected)
    at = query.linearize(x, torch.arange(2))
    assert_close(at.probabilities, expected)
    exact = linearize(model, x, 0)
    v = normal(2, 1, 6, seed=1).float()
    assert_close(at.product(v), exact.product(v), 0.1)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid()])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.filterwarnings("ignore:forward_func cannot be taken")
def test_under_inference_mode_as_outside(activation, exact):
    model = model_of(nn.Linear(6, 8), activation, nn.Linear(8, 3))
    x, v = normal(2, 6), normal(2, 2, 6, seed=1)
    expected = linearize(model, x, exact=exact)
    with torch.inference_mode():
        run = Run()
        given, vectors = x.clone(), v.clone()
        with run.own_arithmetic(x.device):
            at = linearize(model, given, run=run, exact=exact)
            assert_close(at.product(vectors), expected.product(v))
            assert_close(at.jvp(vectors), expected.jvp(v))
            assert_close(at.gradient, expected.gradient)
    assert not at.gradient.requires_grad
    assert not at.jvp(v).requires_grad


class _Doubled(torch.autograd.Function):
    """x twice, without a forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_operations_without_a_forward_mode_derivative():
    model, x = mlp(), normal(2, 6)
    with pytest.warns(RuntimeWarning, match="torch does not show"):
        query = LossQuery(lambda x: model(_Doubled.apply(x)), x, 1, Run())
    assert query.method == "forward"
    at = query.linearize(x, torch.arange(2))
    v = normal(2, 3, 6, seed=1)
    H = torch.stack([hessian(lambda x: model(2 * x), x[i], 1) for i in range(2)])
    assert_close(at.product(v), v @ H)


@pytest.mark.parametrize(
    ("forward", "target", "error", "message"),
    [
        (lambda x: x.sum(1), None, ValueError, r"logits \(N, c\) of c >= 2 .* got shape \(1,\)"),
        (lambda x: x[:, :1], None, ValueError, r"logits \(N, c\) of c >= 2 .* got shape \(1, 1\)"),
        (lambda x: x[:, None], None, ValueError, r"got shape \(1, 1, 6\)"),
        (lambda x: x.sum(), None, ValueError, "one output row an example"),
        (lambda x: x.softmax(1), None, ValueError, "must return logits, not probabilities"),
        (lambda x: x.detach(), None, ValueError, "does not reach its input"),
        (lambda x: nn.Parameter(torch.ones(len(x), 2)), None, ValueError, "does not reach"),
        (lambda x: x / 0, None, ValueError, "its values must be finite"),
        (lambda x: x.long(), None, TypeError, "floating-point tensor, got torch.int64"),
        (lambda x: x @ torch.ones(3, 3), None, ValueError, "forward_func failed on inputs of"),
        (lambda x: x, 6, ValueError, "target 6 does not name an output"),
        (lambda x: x, [0, 1, 2], ValueError, "one entry for each of 2 rows"),
        (lambda x: x, 1.0, TypeError, "target must be an int"),
        ("model", 0, TypeError, "forward_func must be callable"),
        (nn.Sequential(nn.Linear(6, 6), nn.Dropout()), 0, ValueError, "training mode"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_unfit_models_are_refused(forward, target, error, message):
    with pytest.raises(error, match=message):
        LossQuery(forward, normal(2, 6), target, Run())


def test_a_later_point_may_be_unfit_too():
    x = normal(2, 6)
    query = LossQuery(lambda x: x / (x < 5), x, 0, Run())
    far = torch.full((1, 6), 9.0, dtype=torch.float64)
    with pytest.raises(ValueError, match="inf for input row 1"):
        query.losses(far, torch.tensor([1]))
    with pytest.raises(ValueError, match="inf for input row 1"):
        query.linearize(far, torch.tensor([1]))
