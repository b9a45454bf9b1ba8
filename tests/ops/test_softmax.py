"""The softmax product on every CPU backend: values, digits, gradients, NaN, threads, arguments."""

from __future__ import annotations

import pytest
import torch

import hessx
from hessx.ops import softmax_product
from tests.references.softmax import arguments, assert_close

DTYPES = (torch.float32, torch.float64)
# Around the lanes of the dot product (16), and more classes than one task has numbers.
CLASSES = (1, 2, 3, 10, 15, 16, 17, 31, 32, 33, 1000, 9001)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(cpu_backend, dtype):
    for classes in CLASSES:
        p, u = arguments(3, 2, classes, dtype)
        assert_close(softmax_product(p, u), p, u)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_match_the_reference(cpu_backend, dtype):
    """Two roundings of float64 sums in another order, or the last bit of float32."""
    for classes in CLASSES:
        p, u = arguments(5, 7, classes, dtype)
        result = softmax_product(p, u)
        with hessx.backend("reference"):
            expected = softmax_product(p, u)
        eps = torch.finfo(dtype).eps
        bound = p[:, None] * u.abs().amax(2, keepdim=True)
        assert ((result - expected).abs() <= 4 * eps * bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_probability_near_one_keeps_its_digits(cpu_backend, dtype):
    """1 - p has no digit left in the type, but the product depends on the other classes alone."""
    rest = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64) * 1e-20
    p = torch.cat((rest[:1], torch.ones(1, dtype=torch.float64), rest[1:])).to(dtype)
    u = torch.tensor([5.0, 7.0, -2.0, 11.0], dtype=dtype)
    (w,) = softmax_product(p[None], u[None, None])[0]
    others = torch.tensor([0, 2, 3])
    differences = p.double()[others] * (u.double()[others] - 7)
    expected = torch.empty(4, dtype=torch.float64)
    expected[others], expected[1] = differences, -differences.sum()
    torch.testing.assert_close(w.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_equal_vectors_and_sure_predictions_give_zero(cpu_backend):
    p, u = arguments(4, 3, 10)
    assert (softmax_product(p, torch.full_like(u, 1e30)) == 0).all()
    sure = torch.eye(10, dtype=torch.float64)[:4]
    assert (softmax_product(sure, u) == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0), (0, 0, 0)])
def test_empty(cpu_backend, shape):
    p = torch.ones(shape[0], shape[2])
    assert softmax_product(p, torch.ones(shape)).shape == shape


def test_strided(cpu_backend):
    p, u = arguments(3, 4, 20)
    strided_p, strided_u = torch.zeros(20, 6).double().T[::2], torch.zeros(20, 3, 8).double()
    strided_u = strided_u.permute(1, 2, 0)[:, ::2]
    strided_p.copy_(p)
    strided_u.copy_(u)
    # torch orders the sums of the reference by strides.
    torch.testing.assert_close(
        softmax_product(strided_p, strided_u), softmax_product(p, u), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_only_what_it_touches(cpu_backend, bad):
    p, u = arguments(4, 3, 40, torch.float32)
    wrong_u, wrong_p = u.clone(), p.clone()
    wrong_u[1, 2, 33] = wrong_p[2, 5] = bad
    clean = softmax_product(p, u)
    by_vector, by_probability = softmax_product(p, wrong_u), softmax_product(wrong_p, u)
    assert by_vector[1, 2].isnan().any()
    assert by_probability[2].isnan().all(0).any()
    by_vector[1, 2], by_probability[2] = clean[1, 2], clean[2]
    assert torch.equal(by_vector, clean)
    assert torch.equal(by_probability, clean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_threads_do_not_change_a_bit(native_level, dtype):
    p, u = arguments(70, 9, 37, dtype)
    torch.set_num_threads(1)
    alone = softmax_product(p, u)
    for n_threads in (2, 5):
        torch.set_num_threads(n_threads)
        assert torch.equal(softmax_product(p, u), alone)
    assert torch.equal(softmax_product(p[40:41], u[40:41, 3:5]), alone[40:41, 3:5])


# The gradients are written in torch: one level stands for all.
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_gradient(backend):
    """Through a softmax, as the probabilities lie on the simplex."""
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    u = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def product(logits, u):
        return softmax_product(logits.softmax(1), u)

    with hessx.backend(backend):
        assert torch.autograd.gradcheck(product, (logits, u))
        assert torch.autograd.gradgradcheck(product, (logits, u))


def test_gradient_of_no_vectors(cpu_backend):
    p = torch.ones(2, 3, requires_grad=True)
    softmax_product(p, torch.ones(2, 0, 3)).sum().backward()
    assert torch.equal(p.grad, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("p", "u", "error", "message"),
    [
        ([[1.0]], torch.ones(1, 1, 1), TypeError, "probabilities must be a tensor, got list"),
        (torch.ones(1, 2).int(), torch.ones(1, 1, 2), TypeError, "probabilities must have a dtype"),
        (torch.ones(1, 2), torch.ones(1, 1, 2).double(), TypeError, "dtype of probabilities"),
        (torch.ones(1, 2), torch.ones(1, 1, 2, device="meta"), ValueError, "on the device of"),
        (torch.ones(2), torch.ones(1, 1, 2), ValueError, r"shape \(B, c\), got \(2,\)"),
        (torch.ones(1, 2), torch.ones(1, 2), ValueError, r"vectors must have shape \(B, m, c\)"),
        (torch.ones(1, 2), torch.ones(2, 1, 2), ValueError, r"B = 1 and c = 2, got \(2, 1, 2\)"),
        (torch.ones(1, 2), torch.ones(1, 2, 1), ValueError, r"B = 1 and c = 2, got \(1, 2, 1\)"),
    ],
)
def test_wrong_arguments(p, u, error, message):
    with pytest.raises(error, match=message):
        softmax_product(p, u)


def test_raw_op_refuses_what_would_read_out_of_bounds(cpu_backend):
    with pytest.raises(ValueError, match="vectors must have shape"):
        torch.ops.hessx.softmax_product(torch.ones(2, 3), torch.ones(3, 1, 3))
