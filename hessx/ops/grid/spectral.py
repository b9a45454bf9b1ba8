"""Powers of the grid's Laplacian by the discrete cosine transform, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from hessx.ops.grid.rules import DTYPES

# Along an axis of up to this length a product with the matrix of the transform is quicker than a
# fast Fourier transform and the shuffling around it: docs/ops.md has the measurements.
DENSE_UP_TO = 384


def grid_spectral(grid: torch.Tensor, power: float, constant: float) -> torch.Tensor:
    """Apply a power of the Laplacian D^T D of grids: ``V diag(lambda^power) V^T b``.

    V is the orthonormal DCT-II along both axes, and

        lambda_ij = (2 - 2 cos(pi i / p1)) + (2 - 2 cos(pi j / p2)).

    lambda_00 = 0 belongs to the constant grids: its power is replaced by ``constant``. With
    Sigma = D^T D + 1 1^T / p, the covariance of LEG-TV, p = p1 p2:

    * power -1 and constant 0: the pseudo-inverse (D^T D)^+ b,
    * power -1 and constant 1: Sigma^-1 b,
    * power 1 and constant 1: Sigma b,
    * power 0.5 and constant 1: the symmetric root of Sigma times b.

    Axes of up to 384 numbers are multiplied by the matrix of the transform, longer ones go through
    torch.fft. Matrices and eigenvalues are computed in float64, and kept for the next call. Under
    autocast as without it. Differentiable any number of times; NaN stays in its grid.

    Args:
        grid: Numbers b on the pixels (..., p1, p2), float32 or float64; p1, p2 >= 1.
        power: Power of the eigenvalues that are not 0, a finite number.
        constant: What lambda_00^power is taken for, a finite number.

    Returns:
        Tensor (..., p1, p2).

    Raises:
        TypeError: If grid is not a tensor of float32 or float64, or a number is not one.
        ValueError: If grid has fewer than two axes, or p1 or p2 is 0, or a number is not finite.

    Source: Strang (1999), "The discrete cosine transform", for the eigenvectors; "Statistically
    consistent saliency estimation" (LEG-TV, 2019), Section 4.2, for Sigma.

    Example:
        >>> import hessx, torch
        >>> g = torch.tensor([[1.0, -1.0], [3.0, -3.0]])
        >>> torch.allclose(hessx.ops.grid_spectral(hessx.ops.grid_laplacian(g[None]), -1, 0), g)
        True
    """
    _check(grid, power, constant)
    if grid.numel() == 0:
        return grid.clone()
    p1, p2 = grid.shape[-2:]
    like = grid.dtype, grid.device
    with torch.autocast(grid.device.type, enabled=False):
        scale = _constant(_scale, p2, p1, float(power), float(constant), *like)
        # Both axes are transformed as the last one: their coefficients come out transposed.
        coefficients = _forward(_forward(grid).mT) * scale
        return _inverse(_inverse(coefficients).mT)


def _check(grid: torch.Tensor, power: float, constant: float) -> None:
    if not isinstance(grid, torch.Tensor):
        raise TypeError(f"grid must be a tensor, got {type(grid).__name__}")
    if grid.dtype not in DTYPES:
        raise TypeError(f"grid must have a dtype of {DTYPES}, got {grid.dtype}")
    if grid.ndim < 2:
        raise ValueError(f"grid must have shape (..., p1, p2), got {tuple(grid.shape)}")
    if grid.shape[-2] < 1 or grid.shape[-1] < 1:
        raise ValueError(f"grid must have p1 >= 1 and p2 >= 1, got {tuple(grid.shape)}")
    for name, number in (("power", power), ("constant", constant)):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{name} must be a number, got {type(number).__name__}")
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, got {number}")


def _forward(x: torch.Tensor) -> torch.Tensor:
    """Orthonormal DCT-II along the last axis."""
    if x.shape[-1] <= DENSE_UP_TO:
        return x @ _constant(_matrix, x.shape[-1], x.dtype, x.device).mT
    return _forward_fourier(x)


def _inverse(x: torch.Tensor) -> torch.Tensor:
    """Its inverse and adjoint."""
    if x.shape[-1] <= DENSE_UP_TO:
        return x @ _constant(_matrix, x.shape[-1], x.dtype, x.device)
    return _inverse_fourier(x)


def _forward_fourier(x: torch.Tensor) -> torch.Tensor:
    """Makhoul (1980): a Fourier transform of the even numbers and the odd ones backwards."""
    n = x.shape[-1]
    folded = torch.cat((x[..., ::2], x[..., 1::2].flip(-1)), dim=-1)
    turned = torch.fft.rfft(folded, norm="ortho") * _constant(_twiddle, n, x.dtype, x.device)
    return torch.cat((turned.real, -turned.imag[..., 1 : (n + 1) // 2].flip(-1)), dim=-1)


def _inverse_fourier(x: torch.Tensor) -> torch.Tensor:
    """The same way back; the twiddle factors have length sqrt(2) but for the first."""
    n = x.shape[-1]
    half = n // 2
    mirrored = torch.cat((torch.zeros_like(x[..., :1]), x.flip(-1)[..., :half]), dim=-1)
    turned = torch.complex(x[..., : half + 1], -mirrored)
    spectrum = turned / _constant(_twiddle, n, x.dtype, x.device)
    folded = torch.fft.irfft(spectrum, n, norm="ortho")
    even, odd = folded[..., : n - half], folded[..., n - half :].flip(-1)
    odd = torch.nn.functional.pad(odd, (0, n % 2))
    return torch.stack((even, odd), dim=-1).flatten(-2)[..., :n]


def _constant(build: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
    # A compiler's tensors are not to be kept, and it makes constants of what is built.
    return build(*args) if torch.compiler.is_compiling() else _kept(build, *args)


@lru_cache(maxsize=32)
def _kept(build: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
    # A tensor made in inference mode could not take part in a gradient later.
    with torch.inference_mode(False):
        return build(*args)


def _matrix(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Orthonormal DCT-II (n, n): sqrt(2 / n) cos(pi i (2 j + 1) / (2 n)), sqrt(1 / n) for i = 0."""
    i = torch.arange(n, device="cpu")
    # Whole turns are taken off in integers: an angle of many turns has lost digits.
    turns = i[:, None] * (2 * i + 1) % (4 * n)
    matrix = math.sqrt(2 / n) * torch.cos(turns.double() * (math.pi / (2 * n)))
    matrix[0] = math.sqrt(1 / n)
    return matrix.to(device, dtype)


def _twiddle(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """sqrt(2) exp(-i pi k / (2 n)) for k in [0, n / 2], and 1 for k = 0."""
    k = torch.arange(n // 2 + 1, device="cpu", dtype=torch.float64)
    factors = torch.polar(torch.full_like(k, math.sqrt(2)), k * (-math.pi / (2 * n)))
    factors[0] = 1
    return torch.complex(factors.real.to(device, dtype), factors.imag.to(device, dtype))


def _scale(
    p1: int, p2: int, power: float, constant: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """lambda^power (p1, p2), with constant in the place of lambda_00^power."""
    first, second = (
        # 2 - 2 cos t, without the cancellation for small t.
        4 * torch.sin(torch.arange(n, device="cpu").double() * (math.pi / (2 * n))).square()
        for n in (p1, p2)
    )
    eigenvalues = first[:, None] + second
    eigenvalues[0, 0] = 1
    scale = eigenvalues**power
    scale[0, 0] = constant
    return scale.to(device, dtype)
