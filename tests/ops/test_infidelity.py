"""Perturbations times explanations on every CPU backend: values, NaN, threads, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops import perturbation_dots, perturbation_gradient
from tests.references.infidelity import assert_dots_close, assert_gradient_close, problem
from tests.references.prox import numbers

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Around the vector widths (2 to 16 numbers), a tile of 512, and rows that are read once or twice.
WIDTHS = (1, 3, 8, 15, 17, 511, 513, 4096, 4097)


def check(perturbations, attributions, differences, weights=None):
    pair = perturbations, attributions
    assert_dots_close(perturbation_dots(*pair), *pair)
    arguments = (*pair, differences, weights)
    assert_gradient_close(perturbation_gradient(*arguments), *arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes(cpu_backend, dtype):
    # Around the rows of a register, of the moment, of a block of 64 and of eight runs of them.
    rows = (1, 2, 5, 8, 65, 66, 63, 17, 9)
    for d, n, explanations in zip(WIDTHS, rows, (1, 2, 3, 4, 5, 6, 7, 8, 13), strict=True):
        check(*problem(1, n, d, explanations, dtype))
    check(*problem(2, 600, 33, 2, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_explanations_of_another_type(cpu_backend, dtype):
    for perturbations_dtype in DTYPES:
        perturbations, attributions, differences, weights = problem(2, 7, 19, 3, dtype)
        check(perturbations.to(perturbations_dtype), attributions / 3, differences, weights)


@pytest.mark.parametrize("batch", [1, 3])
def test_shared_perturbations(cpu_backend, batch):
    """The same bits as if every input had its own."""
    for d in (20, 4100):
        shared = problem(batch, 70, d, 3, shared=True)
        check(*shared)
        repeated = (shared[0].repeat(batch, 1, 1), *shared[1:])
        assert_equal(results(shared), results(repeated))


def results(arguments):
    return perturbation_dots(*arguments[:2]), *perturbation_gradient(*arguments)


def assert_equal(results, others):
    assert all(torch.equal(a, b) for a, b in zip(results, others, strict=True))


@pytest.mark.parametrize("shape", [(0, 3, 5, 2), (2, 0, 5, 2), (2, 3, 0, 2), (2, 3, 5, 0)])
@pytest.mark.parametrize("shared", [False, True])
def test_empty(cpu_backend, shape, shared):
    check(*problem(*shape, shared=shared))


def test_layouts(cpu_backend):
    perturbations, attributions, differences, weights = problem(3, 10, 20, 2)
    others = attributions, differences, weights
    check(perturbations[:1].expand(3, -1, -1), *others)
    check(perturbations[:, :1].expand(-1, 10, -1), *others)
    check(numbers(3, 20, 20)[:, ::2], *others)
    check(numbers(20, 10, 3).permute(2, 1, 0), *others)
    check(numbers(3 * 10 * 20 + 1)[1:].view(3, 10, 20), *others)
    strided = numbers(20, 2, 3).permute(2, 1, 0), differences.mT.contiguous().mT
    check(perturbations, *strided, weights.repeat_interleave(2)[::2])


def test_exact_explanations_of_linear_models_leave_nothing(cpu_backend):
    """Products of float32 numbers and their sum are float64's; float32 sums would leave 1e-9."""
    perturbations, attributions = numbers(1, 500, 784), numbers(1, 1, 784, seed=1) / 28
    differences = perturbations.double() @ attributions.double().mT
    _, loss = perturbation_gradient(perturbations, attributions, differences)
    assert loss.item() / 500 < 1e-26
    rounded = (perturbations @ attributions.mT - differences).square().mean()
    assert rounded > 1e-16


def test_normal_operator(cpu_backend):
    """With differences of 0, the product with the matrix of the normal equations."""
    perturbations, attributions, differences, weights = problem(1, 40, 12, 2)
    doubles = perturbations.double()
    matrix = doubles.mT @ (weights[:, None] * doubles)
    gradient, loss = perturbation_gradient(
        perturbations, attributions, torch.zeros_like(differences), weights
    )
    expected = attributions.double() @ matrix
    # 40 x 12 products: a hundred roundings at the most.
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(
        loss, (expected * attributions.double()).sum(2), rtol=1e-13, atol=1e-12
    )


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_what_it_touches(cpu_backend, number, bad):
    for d in (21, 4099):
        clean = problem(3, 9, d, 3)
        arguments = [x.clone() for x in clean]
        arguments[number][-1].view(-1)[-1] = bad
        touched = [torch.zeros_like(x, dtype=torch.bool) for x in results(clean)]
        if number == 0:
            touched[0][2, 8] = touched[1][2] = touched[2][2] = True
        elif number == 3:
            touched[1][:] = touched[2][:] = True
        else:
            touched[0][2, :, 2] = number == 1
            touched[1][2, 2] = touched[2][2, 2] = True
        for result, exact, mask in zip(results(arguments), results(clean), touched, strict=True):
            assert not result[mask].isfinite().any()
            assert torch.equal(result[~mask], exact[~mask])


@pytest.mark.parametrize(("n", "d"), [(1, 5), (700, 30), (20, 5000)])
def test_threads_and_company_do_not_change_a_bit(native_level, n, d):
    arguments = problem(3, n, d, 7)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(arguments)
        torch.set_num_threads(2)
        assert_equal(one, results(arguments))
    finally:
        torch.set_num_threads(threads)
    perturbations, attributions, differences, weights = arguments
    few = perturbations[1:2], attributions[1:2, 4:], differences[1:2, :, 4:], weights
    parts = one[0][1:2, :, 4:], one[1][1:2, 4:], one[2][1:2, 4:]
    assert_equal(parts, results(few))


@pytest.mark.parametrize("shared", [False, True])
def test_gradient_of_the_dots(cpu_backend, shared):
    perturbations, attributions, _, _ = problem(2, 4, 5, 3, torch.float64, shared=shared)
    pair = perturbations.requires_grad_(), attributions.requires_grad_()
    assert torch.autograd.gradcheck(perturbation_dots, pair)
    assert torch.autograd.gradgradcheck(perturbation_dots, pair)


def test_the_loss_has_the_gradient_it_says(cpu_backend):
    perturbations, attributions, differences, weights = problem(2, 6, 5, 2, torch.float64)
    attributions.requires_grad_()
    residuals = perturbation_dots(perturbations, attributions) - differences
    loss = (weights[:, None] * residuals.square()).sum()
    (expected,) = torch.autograd.grad(loss, attributions)
    gradient, losses = perturbation_gradient(
        perturbations, attributions.detach(), differences, weights
    )
    torch.testing.assert_close(2 * gradient, expected)
    torch.testing.assert_close(losses.sum(), loss.detach())


def test_shapes_without_data():
    with torch.device("meta"):
        arguments = torch.empty(1, 5, 7), torch.empty(3, 2, 7), torch.empty(3, 5, 2).double()
        assert perturbation_dots(*arguments[:2]).shape == (3, 5, 2)
        gradient, loss = perturbation_gradient(*arguments)
    assert (gradient.shape, loss.shape) == ((3, 2, 7), (3, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: [1.0]}, TypeError, "perturbations must be a tensor, got list"),
        ({1: None}, TypeError, "attributions must be a tensor, got NoneType"),
        ({3: 1.0}, TypeError, "weights must be a tensor, got float"),
        ({0: torch.ones(2, 4, 5).int()}, TypeError, "perturbations must have a dtype of"),
        ({1: torch.ones(2, 3, 5).half()}, TypeError, "attributions must be float32, float64 or"),
        ({2: torch.ones(2, 4, 3)}, TypeError, "differences must have the dtype float64, got"),
        ({3: torch.ones(4)}, TypeError, "weights must have the dtype float64, got"),
        ({1: torch.ones(2, 3, 5, device="meta")}, ValueError, "attributions must be on the device"),
        ({0: torch.ones(4, 5)}, ValueError, r"perturbations must have shape .* got \(4, 5\)"),
        ({1: torch.ones(2, 5)}, ValueError, "attributions must have shape .* with d = 5"),
        ({1: torch.ones(2, 3, 6)}, ValueError, "attributions must have shape .* with d = 5"),
        ({0: torch.ones(3, 4, 5)}, ValueError, "a batch of 1 or that of attributions, 2, got 3"),
        ({2: torch.ones(2, 4, 1).double()}, ValueError, r"differences must have shape .*, got \(2"),
        ({3: torch.ones(1).double()}, ValueError, r"weights must have shape \(n,\), \(4,\), got"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = list(problem(2, 4, 5, 3))
    for number, value in change.items():
        arguments[number] = value
    with pytest.raises(error, match=message):
        perturbation_gradient(*arguments)
    if max(change) < 2:
        with pytest.raises(error, match=message):
            perturbation_dots(*arguments[:2])


def test_reference_is_the_formula():
    perturbations = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    attributions = torch.tensor([[[2.0, 3.0]]])
    differences, weights = (
        torch.tensor([[[1.0], [1.0]]]).double(),
        torch.tensor([3.0, 0.5]).double(),
    )
    with hessx.backend("reference"):
        gradient, loss = perturbation_gradient(perturbations, attributions, differences, weights)
    # Residuals 1 and 4.
    assert gradient.tolist() == [[[3.0 + 2.0, 2.0]]]
    assert loss.tolist() == [[3.0 + 8.0]]
