"""Eigenproblems on every CPU backend: residuals, hard matrices, gradients, NaN, lanes."""

from __future__ import annotations

import pytest
import torch

from hessx.ops import eigh
from hessx.ops.eigh import native
from hessx.ops.eigh.rules import MAX_K

DTYPES = (torch.float32, torch.float64)
# Odd and even around the vector widths (2 to 16 lanes) and rows taken at once, and the largest.
SIZES = (1, 2, 3, 4, 5, 8, 9, 17, 31, 33, 64)
# Relative residual and departure from orthogonality: what the library promises. About 10 times
# what Jacobi reaches at k = 64, 1.5e-6 and 3e-15 (the rounding of some 400 rotations a column).
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


@pytest.fixture
def always_jacobi(monkeypatch):
    """Run the kernel at every size, also where LAPACK is faster."""
    monkeypatch.setattr(native, "jacobi_wins", lambda batch, k, dtype: True)


def symmetric(a):
    return a.tril() + a.tril(-1).mT


def norm(a):
    return torch.linalg.matrix_norm(a, 2)


def check(a):
    """Check a batch against its own matrices and against LAPACK in float64."""
    values, vectors = eigh(a)
    assert values.dtype == vectors.dtype == a.dtype
    assert values.shape == a.shape[:-1]
    assert vectors.shape == a.shape
    tolerance = TOLERANCE[a.dtype]
    exact, found, vectors = symmetric(a).double(), values.double(), vectors.double()
    # Denormal eigenvalues are rounded to multiples of the smallest number.
    size = norm(exact) * tolerance + torch.finfo(a.dtype).smallest_normal * 1e-5
    assert (norm(exact @ vectors - vectors * found[..., None, :]) <= size).all()
    assert (norm(vectors.mT @ vectors - torch.eye(a.shape[-1])) <= tolerance).all()
    assert (values.diff() >= 0).all()
    expected = torch.linalg.eigvalsh(exact)
    assert ((found - expected).abs().amax(-1) <= size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", SIZES)
def test_random_matrices(cpu_backend, always_jacobi, k, dtype):
    check(torch.randn(19, k, k, dtype=dtype))


def with_spectrum(values):
    """Give a symmetric matrix with these eigenvalues."""
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return q @ torch.diag(values.double()) @ q.mT


def hard_matrices(k):
    """Spectra and sizes that algorithms stumble over, by name."""
    ones = torch.ones(k, dtype=torch.float64)
    a = with_spectrum(torch.randn(k))
    v = torch.randn(k, dtype=torch.float64)
    powers = 10.0 ** -torch.linspace(0, 20, k, dtype=torch.float64)
    return {
        "zero": torch.zeros(k, k, dtype=torch.float64),
        "identity": torch.eye(k, dtype=torch.float64),
        "all equal entries": torch.ones(k, k, dtype=torch.float64),
        "diagonal": torch.diag(torch.randn(k)),
        "diagonal with ties": torch.diag(torch.arange(k) // 3 - 1.0),
        "rank one": torch.outer(v, v),
        "negative rank one": -torch.outer(v, v),
        "repeated": with_spectrum(torch.arange(k) % 2),
        "clustered": with_spectrum(ones + 1e-6 * torch.randn(k)),
        "clustered below rounding": with_spectrum(ones + 1e-15 * torch.randn(k)),
        "equal and opposite": with_spectrum(torch.where(torch.arange(k) % 2 == 0, 1.0, -1.0)),
        "graded": with_spectrum(powers),
        "graded from below": powers.sqrt() * a * powers.sqrt()[:, None],
        "graded from above": powers.flip(0).sqrt() * a * powers.flip(0).sqrt()[:, None],
        "tridiagonal": torch.diag(2 * ones) - torch.diag(ones[1:], 1) - torch.diag(ones[1:], -1),
        "huge": 1e30 * a,
        "tiny": 1e-30 * a,
        "near the largest number": 3e38 * a / norm(a),
        "denormal": 1e-40 * a,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [2, 5, 13, 64])
def test_hard_matrices(cpu_backend, always_jacobi, k, dtype):
    """All of them in one batch: none may disturb another."""
    check(torch.stack(list(hard_matrices(k).values())).to(dtype))


def test_extreme_float64(cpu_backend, always_jacobi):
    a = with_spectrum(torch.randn(9))
    check(torch.stack([1e300 * a, 1e-300 * a, 1e-310 * a]))


def test_only_the_lower_triangle_is_read(cpu_backend, always_jacobi):
    a = torch.randn(5, 7, 7)
    upper = torch.ones(7, 7, dtype=torch.bool).triu(1)
    for found, expected in zip(eigh(a.masked_fill(upper, torch.nan)), eigh(a), strict=True):
        assert torch.equal(found, expected)


def test_one_matrix_has_no_batch(cpu_backend):
    a = torch.randn(6, 6)
    for single, batched in zip(eigh(a), eigh(a[None]), strict=True):
        assert torch.equal(single, batched[0])


@pytest.mark.parametrize("shape", [(0, 5, 5), (3, 0, 0), (0, 0, 0)])
def test_empty(cpu_backend, shape):
    values, vectors = eigh(torch.randn(shape))
    assert values.shape == shape[:2]
    assert vectors.shape == shape


def test_strided_inputs(cpu_backend, always_jacobi):
    base = torch.randn(9, 14, 11)
    for a in (base.permute(2, 0, 1)[::2, :, 1:10], base[:7, 3:].permute(1, 0, 2)[:, :, ::2][:, :6]):
        assert not a.is_contiguous()
        expected = eigh(a.contiguous())
        for found, exact in zip(eigh(a), expected, strict=True):
            assert torch.equal(found, exact)
            assert found.is_contiguous()
    check(torch.randn(6, 6).expand(4, 6, 6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 5, 12, 33])
def test_a_matrix_gets_the_same_bits_alone_and_in_company(native_level, always_jacobi, k, dtype):
    """Companions converge sooner (zero, diagonal) and later; the lane and the group differ."""
    a = torch.randn(35, k, k, dtype=dtype)
    a[::4] = 0
    a[1::8] = torch.eye(k, dtype=dtype)
    values, vectors = eigh(a)
    for i in (0, 1, 2, 3, 18, 34):
        alone = eigh(a[i])
        assert torch.equal(alone[0], values[i])
        assert torch.equal(alone[1], vectors[i])


@pytest.mark.parametrize("k", [3, 24])
def test_threads_do_not_change_a_bit(native_level, always_jacobi, k):
    a = torch.randn(70, k, k)
    torch.set_num_threads(1)
    alone = eigh(a)
    for n_threads in (2, 5):
        torch.set_num_threads(n_threads)
        for found, expected in zip(eigh(a), alone, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("k", [1, 6, 33])
@pytest.mark.parametrize("wins", [True, False])
def test_not_finite_stays_in_its_matrix(cpu_backend, monkeypatch, bad, k, wins):
    monkeypatch.setattr(native, "jacobi_wins", lambda batch, k, dtype: wins)
    a = torch.randn(20, k, k)
    expected = eigh(a)
    a[7, k - 1, 0] = bad
    a[11, k // 2, k // 2] = bad
    touched = torch.zeros(20, dtype=torch.bool)
    touched[[7, 11]] = True
    for found, without in zip(eigh(a), expected, strict=True):
        assert found[touched].isnan().all()
        torch.testing.assert_close(found[~touched], without[~touched])


@pytest.mark.parametrize("wins", [True, False])
def test_kernel_and_library_keep_one_contract(native_level, monkeypatch, wins):
    """The crossover changes the time only; above MAX_K rows the library always runs."""
    monkeypatch.setattr(native, "jacobi_wins", lambda batch, k, dtype: wins)
    for k in (3, MAX_K, MAX_K + 1):
        check(torch.randn(2, k, k, dtype=torch.float64))
        assert eigh(torch.randn(2, k, k))[1].is_contiguous()


def test_the_rule_takes_jacobi_for_many_small_matrices_only(native_level):
    assert native.jacobi_wins(1000, 8, torch.float32)
    assert native.jacobi_wins(1000, 2, torch.float64)
    assert not native.jacobi_wins(1, 8, torch.float32)
    assert not native.jacobi_wins(1000, MAX_K, torch.float64)


def signless(a):
    """Functions of the eigenvectors that do not depend on their signs."""
    values, vectors = eigh(a + a.mT)
    return values, vectors.square(), vectors[..., :1, :] * vectors


def test_gradient(cpu_backend, always_jacobi):
    a = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(signless, a)
    torch.autograd.gradgradcheck(signless, a)


def test_gradient_is_that_of_torch(cpu_backend):
    a = symmetric(torch.randn(3, 6, 6, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(6, 6, dtype=torch.float64)
    gradients = []
    for decompose in (eigh, torch.linalg.eigh):
        values, vectors = decompose(a)
        loss = (values.exp() * (vectors.square() * weight).sum(1)).sum()
        (gradient,) = torch.autograd.grad(loss, a)
        gradients.append((gradient + gradient.mT) / 2)
        assert decompose is torch.linalg.eigh or torch.equal(gradient, gradient.mT)
    torch.testing.assert_close(*gradients)


def test_eigenvalues_alone_have_a_gradient_where_they_are_equal(cpu_backend):
    a = torch.eye(3).requires_grad_()
    eigh(a)[0].sum().backward()
    assert torch.equal(a.grad, torch.eye(3))


@pytest.mark.parametrize(
    ("a", "error", "message"),
    [
        ([[1.0]], TypeError, "a must be a tensor, got list"),
        (torch.ones(2, 2).half(), TypeError, "a must have a dtype of"),
        (torch.ones(2, 2, dtype=torch.complex64), TypeError, "a must have a dtype of"),
        (torch.ones(2, 3), ValueError, r"\(k, k\) or \(B, k, k\), got \(2, 3\)"),
        (torch.ones(4), ValueError, "a must have shape"),
        (torch.ones(2, 2, 3, 3), ValueError, "a must have shape"),
    ],
)
def test_wrong_arguments(a, error, message):
    with pytest.raises(error, match=message):
        eigh(a)


def test_raw_op_refuses_what_would_read_out_of_bounds(cpu_backend):
    with pytest.raises(ValueError, match=r"a must have shape \(B, k, k\)"):
        torch.ops.hessx.eigh(torch.ones(2, 3, 4))


def test_results_stay_on_the_tensors_device():
    """A default device for new tensors must not reach the outputs of kernels."""
    a = torch.randn(2, 5, 5)
    expected = eigh(a)
    with torch.device("meta"):
        found = eigh(a)
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x, y)
