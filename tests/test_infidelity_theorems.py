"""Theorems 4.1, 4.2 and C.1 of the infidelity paper, exact on finite samples.

Every integral of the theorems is over a kernel, over perturbations or over a ball. On the finite
samples that the library draws, shared by all inputs, the theorems hold as they stand: for the
empirical kernel, the empirical law of perturbations and the largest over the sampled points.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hessx

D = 5
X = torch.randn(4, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PERTURBATION = hessx.perturb.Gaussian(0.6)
N_KERNEL, N_POINTS, N_PERTURBATIONS = 30, 25, 200


def net(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(D, 16), activation, nn.Linear(16, 1)).double()


SOFT, SHARP = net(nn.Softplus()), net(nn.Tanh())


def gradient_of(f: nn.Module) -> Any:
    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]

    return gradient


def kernel_points(x: Tensor, radius: float, kernel: str) -> Tensor:
    """The points that smooth_explanation averages over, ``(B, N_KERNEL, D)``."""
    draw = hessx.ops.uniform if kernel == "uniform" else hessx.ops.normal
    e = draw(N_KERNEL, D, seed=0, stream=211, dtype=torch.float64)
    return x[:, None] + radius * (2 * e - 1 if kernel == "uniform" else e)


def near(radius: float, stream: int) -> Tensor:
    """Displacements in the ball as sensitivity (210) and robust infidelity (212) draw them."""
    e = hessx.ops.uniform(N_POINTS, D, seed=0, stream=stream, dtype=torch.float64)
    return radius * (2 * e - 1)


def perturbations(n: int = N_PERTURBATIONS) -> Tensor:
    return PERTURBATION.bind(X, None, 0).draw(0, n)


def differences(f: nn.Module, x: Tensor, perturbation: Tensor) -> Tensor:
    """``f(x) - f(x - I)``, ``(..., n)`` for ``x (..., D)``."""
    with torch.no_grad():
        return f(x) - f(x[..., None, :] - perturbation)[..., 0]


@pytest.mark.parametrize("normalize", [None, "unit"])
@pytest.mark.parametrize("kernel", ["uniform", "gaussian"])
@pytest.mark.parametrize("f", [SOFT, SHARP], ids=["softplus", "tanh"])
def test_theorem_4_1(f: nn.Module, kernel: Any, normalize: Any):
    """SENS_MAX(Phi_k, x) <= sum over j of k_j SENS_MAX(Phi, z_j), z_j = x + e_j.

    The theorem is about a difference, so it holds for the explanation as it is and not for one that
    is divided by a norm of its own after smoothing: "unit" norm has to come before.
    """
    radius, r = 0.5, 0.2
    gradient = gradient_of(f)

    def explain(x: Tensor) -> Tensor:
        found = gradient(x)
        return nn.functional.normalize(found) if normalize else found

    def smoothed(x: Tensor) -> Tensor:
        return hessx.smooth_explanation(
            explain, x, kernel=kernel, radius=radius, n_samples=N_KERNEL
        )

    arguments: dict[str, Any] = dict(
        perturb_radius=r, n_perturb_samples=N_POINTS, normalize=None, seed=0
    )
    left = hessx.sensitivity_max(smoothed, X, **arguments)
    z = kernel_points(X, radius, kernel)
    right = hessx.sensitivity_max(explain, z.flatten(0, 1), **arguments)
    right = right.reshape(len(X), N_KERNEL).mean(1)
    # Rounding only: both sides are sums of the same float64 gradients.
    assert (left <= right * (1 + 1e-9)).all()
    assert (left > 0.02 * right).all()


@pytest.mark.parametrize("f", [SOFT, SHARP], ids=["softplus", "tanh"])
@pytest.mark.parametrize("kernel", ["uniform", "gaussian"])
@pytest.mark.parametrize("radius", [0.05, 0.2])
def test_theorem_4_2(f: nn.Module, kernel: Any, radius: float):
    """INFD(Phi_k, x) <= C2 / (1 - 2 sqrt C1) times the kernel average of INFD(Phi, z), C1 < 1/4.

    The appendix uses its Eqs. (6) and (7) without printing them. Its steps say what they are. Write
    a(I, z) = I^T Phi(z) - (f(x) - f(x - I)) for the errors of the neighbour's explanation at x,
    c(I, z) = (f(z) - f(z - I)) - (f(x) - f(x - I)) for what the model's own answers differ by, and
    b = a - c, whose mean square is the kernel average of INFD(Phi, z). Means are over z and I.

    Cauchy and Schwarz in Eq. (18) need (6): E[c^2] <= C1 E[a^2]. As b^2 = a^2 - 2 a c + c^2,
    E[a^2] <= E[b^2] + 2 E|a c| <= E[b^2] + 2 sqrt(C1) E[a^2], so that
    E[a^2] <= E[b^2] / (1 - 2 sqrt(C1)) where C1 < 1/4 (printed: 1 / sqrt 2, where the right side is
    negative). The first line of Eq. (20) needs (7): E_I[(E_z a)^2] <= C2 E[a^2], C2 <= 1 by Jensen.
    The smallest C1 and C2 are taken.
    """
    explain = gradient_of(f)
    smooth = hessx.smooth_explanation(explain, X, kernel=kernel, radius=radius, n_samples=N_KERNEL)
    arguments: dict[str, Any] = dict(n_perturb_samples=N_PERTURBATIONS, seed=0)
    left = hessx.infidelity(f, PERTURBATION, X, smooth, **arguments)
    z = kernel_points(X, radius, kernel)
    phi = explain(z.flatten(0, 1))
    average = hessx.infidelity(f, PERTURBATION, z.flatten(0, 1), phi, **arguments)
    average = average.reshape(len(X), N_KERNEL).mean(1)

    u = perturbations()
    at_x = differences(f, X, u)[:, None]
    a = phi.reshape(len(X), N_KERNEL, D) @ u.mT - at_x
    c = differences(f, z, u) - at_x
    C1 = c.square().mean((1, 2)) / a.square().mean((1, 2))
    C2 = a.mean(1).square().mean(1) / a.square().mean((1, 2))
    torch.testing.assert_close(a.mean(1).square().mean(1), left)
    torch.testing.assert_close((a - c).square().mean((1, 2)), average)
    assert (C2 <= 1).all()
    holds = C1 < 1 / 4
    assert holds.any()
    bound = (C2 / (1 - 2 * C1.sqrt()) * average)[holds]
    assert (left[holds] <= bound * (1 + 1e-9)).all()


def test_smoothing_can_raise_infidelity():
    """Theorem 4.2 bounds; it does not say that smoothing lowers the score."""

    def f(x: Tensor) -> Tensor:
        return x.square().sum(1)

    noise = hessx.perturb.Gaussian(0.05)
    arguments: dict[str, Any] = dict(n_perturb_samples=500, seed=0)
    # The mean of the gradient over a kernel that is not centred at 0 is off.
    smooth = hessx.smooth_explanation(lambda x: 2 * x, X, radius=2.0, n_samples=3)
    exact = hessx.infidelity(f, noise, X, 2 * X, **arguments)
    assert (hessx.infidelity(f, noise, X, smooth, **arguments) > exact).all()


@pytest.mark.parametrize("explanation", ["gradient", "unfaithful", "restless"])
@pytest.mark.parametrize("f", [SOFT, SHARP], ids=["softplus", "tanh"])
def test_theorem_c_1_corrected(f: nn.Module, explanation: str):
    """max(0, A(x) - B(x) - B(x - I))^2 / 4 <= RINFD(x), all maxima over the sampled u and u = 0.

    A = max_u E|I^T Phi(x + u) - I^T Phi(x)|, B(x) = max_u E|f(x + u) - f(x)| and B(x - I) =
    max_u E|f(x + u - I) - f(x - I)|. The proof squares A - B(x) - B(x - I), which is allowed where
    it is positive.
    """
    gradient = gradient_of(f)
    explain = {
        "gradient": gradient,
        "unfaithful": lambda x: 3 * gradient(x).flip(1),
        "restless": lambda x: torch.sin(40 * x),
    }[explanation]
    r = 0.1
    found = hessx.robust_infidelity(
        f,
        PERTURBATION,
        X,
        explain,
        n_perturb_samples=N_PERTURBATIONS,
        radius=r,
        n_points=N_POINTS,
    )
    A, B_at, B_away = _changes(f, explain, near(r, stream=212))
    bound = (A - B_at - B_away).clamp(min=0).square() / 4
    assert (bound <= found * (1 + 1e-9)).all()
    if explanation == "restless":
        assert (bound > 0).all()


def test_theorem_c_1_as_printed_is_wrong():
    """For a linear f and its own weights RINFD is 0, and the square of -B(x) - B(x - I) is not."""
    f = nn.Linear(D, 1).double()

    def explain(x: Tensor) -> Tensor:
        return f.weight.detach().expand(len(x), D)

    found = hessx.robust_infidelity(f, PERTURBATION, X, explain, radius=0.1, n_points=N_POINTS)
    A, B_at, B_away = _changes(f, explain, near(0.1, stream=212))
    assert (found < 1e-25).all()
    assert (A == 0).all()
    printed = ((A - B_at - B_away) / 2).square()
    assert (printed > 1e-3).all()


def _changes(f: nn.Module, explain: Any, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A(x), B(x) and B(x - I) over some displacements."""
    perturbation = perturbations()
    at, moved = X[:, None], X[:, None] + u
    phi = explain(moved.flatten(0, 1)).reshape(moved.shape) - explain(X)[:, None]
    with torch.no_grad():
        A = (phi @ perturbation.mT).abs().mean(2).amax(1)
        B_at = (f(moved) - f(at))[..., 0].abs().amax(1)
        away = f(moved[:, :, None] - perturbation) - f(at[:, :, None] - perturbation)
        B_away = away[..., 0].abs().mean(2).amax(1)
    return A, B_at, B_away
