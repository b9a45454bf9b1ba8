"""The frozen replay: equal to autograd on piecewise-linear models, refused on all others."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch
from torch import nn

from hessx.demo import efficientnet_lite0, example_photograph
from hessx.query import LossQuery
from hessx.run import Run

# float64 against float64: only the order of additions differs.
ROUNDING = 1e-12


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def batch_norm(layer: nn.Module) -> nn.Module:
    """Statistics far from 0 and 1, as after training."""
    n = layer.num_features
    layer.running_mean, layer.running_var = normal(n, seed=3), normal(n, seed=4).square() + 0.2
    layer.weight.data, layer.bias.data = normal(n, seed=5), normal(n, seed=6)
    return layer


def image_net(*middle: nn.Module) -> nn.Module:
    """A small convolutional net with ``middle`` on 6 channels of 6 x 6."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), *middle, nn.Flatten(), nn.LazyLinear(4)]
    net = nn.Sequential(*layers).double().eval()
    net(torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    return net


class Apply(nn.Module):
    """A function of the activations as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        batch_norm(self.body[1])
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        x = self.relu(x)
        y = self.body(x)
        y += x
        return self.relu(y)


def split_and_join(x):
    a, b, c = x.split([1, 2, 3], 1)
    return torch.cat([c, torch.ones_like(a), 2 * b, a - 1], 1)


def buffered(x):
    x = x.clone()
    x.mul_(2).sub_(0.5).div_(3)
    return x.clamp_(min=0.05, max=0.3)


CONSTANT = normal(6, 1, 1, seed=7)
PIECEWISE_LINEAR = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6 in place": nn.Sequential(Apply(lambda x: 8 * x), nn.ReLU6(inplace=True)),
    "relu6": nn.Sequential(Apply(lambda x: 8 * x), nn.ReLU6()),
    "leaky relu": nn.LeakyReLU(0.2),
    "leaky relu in place": nn.LeakyReLU(0.2, inplace=True),
    "leaky relu, negative slope": nn.LeakyReLU(-0.2),
    "hardtanh": nn.Hardtanh(-0.3, 0.4),
    "prelu": nn.PReLU(6, 0.3),
    "threshold": nn.Threshold(0.1, -0.5),
    "softshrink": nn.Softshrink(0.2),
    "abs": Apply(torch.abs),
    "clamp": Apply(lambda x: x.clamp(-0.2, 0.5)),
    "clamp min": Apply(lambda x: x.clamp_min(0.1)),
    "clamp max": Apply(lambda x: x.clamp_max(0.1)),
    "one bound": Apply(lambda x: x.clamp(max=0.1)),
    "maximum": Apply(lambda x: torch.maximum(x, -0.5 * x)),
    "minimum with a constant": Apply(lambda x: torch.minimum(CONSTANT, x)),
    "where": Apply(lambda x: torch.where(x > 0, x, CONSTANT)),
    "masks": Apply(lambda x: x * (x > 0) + x.masked_fill(x > 0.5, 1.0)),
    "amax": Apply(lambda x: x.amax(1)),
    "max over an axis": Apply(lambda x: x.max(1).values - x.min(2, keepdim=True).values[:, 0]),
    "max pool": nn.MaxPool2d(2),
    "overlapping max pool": nn.MaxPool2d(3, 2, padding=1, dilation=1),
    "adaptive max pool": nn.AdaptiveMaxPool2d(2),
    "max pool 1d": Apply(lambda x: nn.functional.max_pool1d(x.flatten(2), 3)),
    "average pool": nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)),
    "adaptive average pool": nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
    "global average pool": nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "upsample": nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU()),
    "bilinear": nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU()),
    "pads": nn.Sequential(nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 0.7), nn.ReLU()),
    "batch norm first": nn.Sequential(batch_norm(nn.BatchNorm2d(6)), nn.ReLU()),
    "batch norm after use": nn.Sequential(
        Apply(lambda x: torch.cat([x, x.relu()], 1)), batch_norm(nn.BatchNorm2d(12)), nn.ReLU()
    ),
    "grouped convolution": nn.Sequential(
        nn.Conv2d(6, 12, 3, groups=6), batch_norm(nn.BatchNorm2d(12)), nn.ReLU6(inplace=True)
    ),
    "transposed convolution": nn.Sequential(
        nn.ConvTranspose2d(6, 3, 2, stride=2), batch_norm(nn.BatchNorm2d(3)), nn.ReLU()
    ),
    "residual": Residual(inplace=False),
    "residual in place": Residual(inplace=True),
    "split, join": nn.Sequential(Apply(split_and_join), nn.ReLU()),
    "stack": Apply(lambda x: torch.stack([x, -x.relu()], 1).flatten(1, 2)),
    "arithmetic": Apply(lambda x: (1 - x) / CONSTANT + (CONSTANT - 2 * x).relu() * 3 - (-x)),
    "alpha": Apply(lambda x: torch.add(x.relu(), x, alpha=0.3) - torch.sub(CONSTANT, x, alpha=2)),
    "x + x": Apply(lambda x: (x + x).relu()),
    "in place": Apply(buffered),
    "spread": Apply(lambda x: x.relu().mean((2, 3), keepdim=True) + CONSTANT.new_ones(5, 5)),
    "matmul": Apply(lambda x: normal(6, 6) @ x.relu() + x.relu() @ normal(6, 6)),
    "einsum": Apply(lambda x: torch.einsum("nchw,cd->ndw", x.relu(), normal(6, 3))),
    "index": Apply(lambda x: x.relu()[:, torch.tensor([4, 0, 0])].flip(1).transpose(2, 3)),
    "slices": Apply(lambda x: x.relu()[:, 1:, ::2, 0].unsqueeze(-1).expand(-1, -1, -1, 2)),
    "a gate changed later": Apply(
        lambda x: nn.functional.hardtanh(x).mul_(2).sub_(CONSTANT).relu()
    ),
    "two results": Apply(lambda x: x.relu() + torch.var_mean(x, 1, keepdim=True)[1].detach()),
    "detached": Apply(lambda x: x.relu() + (x.sin() - x).detach() + x.round()),
    "no grad": Apply(lambda x: x.relu() * torch.no_grad()(lambda: x.sigmoid())()),
    "item": Apply(lambda x: x.relu() * x.detach().sign().max().item()),
    "dropout": nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Dropout2d()),
}


def hessian_product(model, x, y, v):
    """H v (N, m, d) of the cross-entropy, by double backward."""
    x = x.detach().requires_grad_()
    loss = nn.functional.cross_entropy(model(x), torch.tensor(y), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    products = [
        torch.autograd.grad(gradient, x, v[:, i].reshape(x.shape), retain_graph=True)[0]
        for i in range(v.shape[1])
    ]
    return torch.stack(products, 1).flatten(2)


def gauss_newton_product(model, x, v):
    """J^T (diag p - p p^T) J v (1, m, d) at one example, from the whole Jacobian."""
    J = torch.autograd.functional.jacobian(lambda x: model(x)[0], x).flatten(1)
    p = model(x)[0].detach().softmax(0)
    return v @ (J.T @ (torch.diag(p) - torch.outer(p, p)) @ J)


def assert_close(found, expected, rtol=ROUNDING):
    assert found.shape == expected.shape
    error = (found - expected).norm() / expected.norm()
    assert error <= rtol, error.item()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_products_are_the_hessians(name):
    model = image_net(PIECEWISE_LINEAR[name])
    x, v = normal(2, 2, 8, 8), normal(2, 2, 128, seed=1)
    query = LossQuery(model, x, [1, 2], Run())
    assert query.method == "frozen"
    found = query.linearize(x, torch.arange(2)).product(v)
    assert query.method == "frozen"
    assert_close(found, hessian_product(model, x, [1, 2], v))


def test_one_module_used_twice_and_channels_last():
    relu = nn.ReLU(inplace=True)
    body = nn.Conv2d(6, 6, 3, padding=1)
    model = image_net(relu, body, batch_norm(nn.BatchNorm2d(6)), relu, body, relu)
    model = model.to(memory_format=torch.channels_last)
    x, v = normal(2, 2, 8, 8), normal(2, 1, 128, seed=1)
    query = LossQuery(model, x, 0, Run())
    found = query.linearize(x, torch.arange(2)).product(v)
    assert query.method == "frozen"
    assert_close(found, hessian_product(model, x, [0, 0], v))


class SqueezeAndExcitation(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 6)

    def forward(self, x):
        return x * self.gate(x.mean((2, 3)).relu()).relu()[:, :, None, None]


CURVED = {
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "gelu": (nn.GELU(), "gelu"),
    "silu in place": (nn.SiLU(inplace=True), "silu"),
    "softplus": (nn.Softplus(), "softplus"),
    "layer norm": (nn.LayerNorm([6, 6, 6]), "native_layer_norm"),
    "squeeze and excitation": (SqueezeAndExcitation(), "mul"),
    "square": (Apply(lambda x: x * x), "mul"),
    "quotient": (Apply(lambda x: 1 / (2 + x.abs())), "reciprocal"),
    "product with itself": (Apply(lambda x: x @ x.mT), "bmm"),
    "second result": (Apply(lambda x: x + torch.var_mean(x, 1, keepdim=True)[1]), "var_mean"),
    "Fourier": (Apply(lambda x: torch.fft.rfft(x).abs()), "fft"),
    "rounded quotient": (Apply(lambda x: x + x.div(2, rounding_mode="floor")), "div"),
}


@pytest.mark.parametrize("name", CURVED)
def test_other_models_fall_back_with_one_warning(name):
    layer, operation = CURVED[name]
    model = image_net(layer)
    x, v = normal(2, 2, 8, 8), normal(2, 2, 128, seed=1)
    rows = torch.arange(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        query = LossQuery(model, x, [1, 2], Run())
        at = query.linearize(x, rows)
        found = at.product(v)
    said = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert len(said) == 1
    assert operation in said[0]
    assert query.method == "forward"
    for i in range(2):
        one = slice(i, i + 1)
        assert_close(found[one], gauss_newton_product(model, x[one], v[one]))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", CURVED)
def test_exact_products_have_the_whole_hessian(name):
    model = image_net(CURVED[name][0])
    x, v = normal(2, 2, 8, 8), normal(2, 2, 128, seed=1)
    query = LossQuery(model, x, [1, 2], Run(), exact=True)
    found = query.linearize(x, torch.arange(2)).product(v)
    assert query.method == "double-backward"
    assert_close(found, hessian_product(model, x, [1, 2], v))


def test_exact_products_of_piecewise_linear_models_are_frozen():
    query = LossQuery(image_net(nn.ReLU()), normal(1, 2, 8, 8), 0, Run(), exact=True)
    assert query.method == "frozen"


def test_exact_products_of_a_confident_prediction():
    """H = sum of u_k Hess z_k + J^T A J, all of the size of 1 - p_y = 1e-12."""
    lift = torch.tensor([0, -27.6, -29.0], dtype=torch.float64)
    W = normal(3, 4)

    def f(x):
        return lift + (x @ W.T).sin() - (x @ W.T).sin().detach()

    x, v = normal(1, 4), normal(1, 1, 4, seed=1)
    query = LossQuery(f, x, 0, Run(), exact=True)
    found = query.linearize(x, torch.tensor([0])).product(v)[0, 0]
    q = lift.exp()[1:] / lift.exp().sum()
    J = (W @ x[0]).cos()[:, None] * W
    curvature = -(W @ x[0]).sin() * (W @ v[0, 0])
    u = J @ v[0, 0]
    first = torch.cat([-q.sum()[None], q]) * curvature
    spread = q * (u[1:] - u[0] - (q * (u[1:] - u[0])).sum())
    expected = first @ W + torch.cat([-spread.sum()[None], spread]) @ J
    assert_close(found, expected)


def changed_through_a_view(x):
    y = x * 2
    y.view(-1)[:3].relu_()
    return y


def written_into_a_buffer(x):
    y = x.new_zeros(x.shape)
    y[:, :2] = x[:, :2].relu()
    return y


def gate_changed_through_a_view(x):
    y = nn.functional.hardtanh(x)
    z = y + 0
    y.view(-1).add_(5)
    return z


class GuidedRelu(torch.autograd.Function):
    """Passes back positive gradients only: no linear map."""

    @staticmethod
    def forward(ctx, x):
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.relu()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (changed_through_a_view, "in place"),
        (written_into_a_buffer, "in place"),
        (gate_changed_through_a_view, "in place"),
        (lambda x: x + GuidedRelu.apply(x), "disagrees with autograd"),
        (lambda x: torch.cat([GuidedRelu.apply(x)]), "does not show"),
    ],
)
def test_what_a_tape_cannot_follow_is_refused(function, said):
    model = image_net(Apply(function))
    with pytest.warns(RuntimeWarning, match=said):
        query = LossQuery(model, normal(1, 2, 8, 8), 0, Run())
    assert query.method == "forward"


@pytest.mark.parametrize("function", [changed_through_a_view, written_into_a_buffer])
@pytest.mark.filterwarnings("ignore:forward_func cannot be taken")
def test_changes_through_views_are_right_by_forward_mode(function):
    model = image_net(Apply(function))
    x, v = normal(1, 2, 8, 8), normal(1, 1, 128, seed=1)
    found = LossQuery(model, x, 0, Run()).linearize(x, torch.tensor([0])).product(v)
    assert_close(found, hessian_product(model, x, [0], v))


def test_a_point_where_the_model_takes_another_path():
    """Recorded anew at each point: a curved branch is seen when it is first taken."""

    def f(x):
        return (x.sigmoid() if x.sum() > 0 else x.relu()) @ normal(4, 3)

    x, v = -torch.ones(1, 4, dtype=torch.float64), normal(1, 1, 4, seed=1)
    query = LossQuery(f, x, 0, Run())
    assert query.method == "frozen"
    row = torch.tensor([0])
    with pytest.warns(RuntimeWarning, match="sigmoid"):
        at = query.linearize(-x, row)
    assert query.method == "forward"
    assert_close(at.product(v), gauss_newton_product(f, -x, v))


def test_gradients_alone_need_no_tape():
    model, x = image_net(nn.ReLU()), normal(1, 2, 8, 8)
    query = LossQuery(model, x, 0, Run())
    row = torch.tensor([0])
    plain, full = (query.linearize(x, row, products=some) for some in (False, True))
    assert torch.equal(plain.gradient, full.gradient)
    v = normal(1, 1, 128, seed=1)
    torch.testing.assert_close(plain.product(v), full.product(v), rtol=ROUNDING, atol=ROUNDING)


def test_activations_live_only_as_long_as_autograd_wants_them():
    """Those that every kind of rule has read are gone though the tape is there."""
    seen = []

    def watch(x):
        seen.append(weakref.ref(x))
        return x

    def f(x):
        x = watch(watch(x * 2) + 1)
        x = torch.cat([x, watch(x.flip(1))], 1)
        x = watch(torch.stack([watch(x), watch(-x)], 1).flatten(1, 2))
        x = torch.where(torch.tensor(True), watch(x / 3), 0.0)
        return watch(x.expand(2, -1, -1, -1, -1).mean(0))

    x = normal(1, 2, 8, 8)
    query = LossQuery(image_net(Apply(f)), x, 0, Run())
    seen.clear()
    at = query.linearize(x, torch.tensor([0]))
    assert len(seen) == 8
    assert all(reference() is None for reference in seen[:-1])
    assert query.method == "frozen"
    assert at.product(normal(1, 1, 128)).isfinite().all()


@pytest.mark.slow
def test_compiled_models():
    model = image_net(nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
    x, v = normal(2, 2, 8, 8), normal(2, 1, 128, seed=1)
    expected = hessian_product(model, x, [0, 0], v)
    compiled = torch.compile(model)
    for forward in (compiled, lambda x: compiled(x)):
        query = LossQuery(forward, x, 0, Run())
        found = query.linearize(x, torch.arange(2)).product(v)
        assert_close(found, expected)


@pytest.mark.slow
def test_a_photograph_against_double_backward():
    classifier = efficientnet_lite0()
    x = classifier.inputs(example_photograph().pixels)
    query = LossQuery(classifier.model, x, None, Run())
    v = normal(1, 1, x.numel()).float()
    found = query.linearize(x, torch.tensor([0])).product(v)
    assert query.method == "frozen"
    expected = hessian_product(classifier.model, x, query.target.tolist(), v)
    assert_close(found, expected, 1e-4)
