"""Compiling and loading kernels before the first request."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from hessx import ops
from hessx.ops.eigh.rules import MAX_K
from hessx.ops.noise.rules import DTYPES


def warmup(
    shapes: Iterable[tuple[int, int, int]],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> None:
    """Run each op once at the given sizes, so that later calls at them compile and load nothing.

    On a GPU this is what takes seconds: Triton compiles a kernel for each dtype and each tile,
    which follow from the sizes, and for sizes that are multiples of 16 and those that are not;
    CUDA kernels are loaded, or compiled by CuPy where the module ``hessx._cuda`` was not built.
    Both keep what they compiled on disk, for the next process. Tensors that are strided otherwise
    than contiguous ones can still need a compilation. It returns when the GPU is done.
    On a CPU it loads the compiled module and starts its threads.

    Args:
        shapes: Sizes to come, each (examples of a batch, samples, features), all >= 1. Ops on
            grids take them for square pictures.
        dtype: float32, float64, bfloat16 or float16; where an op does not take the half types
            (eigenproblems, trust-region problems, softmax products, thresholds, grids and their
            edges, squares) it is float32.
        device: Device of the inputs to come; torch's default when not given.

    Raises:
        TypeError: If the dtype is not one of the four, or a size is not an integer.
        ValueError: If a shape does not have three sizes, a size is below 1, or the device is a
            GPU and torch finds none.
        RuntimeError: If a backend was forced and is missing.

    Example:
        >>> import hessx
        >>> hessx.warmup([(8, 64, 49)])
    """
    shapes = [_checked(shape) for shape in shapes]
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be one of {DTYPES}, got {dtype}")
    device = torch.get_default_device() if device is None else torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be there, got {str(device)!r}, but torch finds no GPU")
    for batch, samples, features in shapes:
        _run_ops(batch, samples, features, dtype, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _checked(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = tuple(shape)
    if len(sizes) != 3:
        raise ValueError(f"shapes must be (batch, samples, features), got {sizes}")
    if any(isinstance(size, bool) or not isinstance(size, int) for size in sizes):
        raise TypeError(f"shapes must have integer sizes, got {sizes}")
    if min(sizes) < 1:
        raise ValueError(f"shapes must have sizes >= 1, got {sizes}")
    return sizes


def _run_ops(
    batch: int, samples: int, features: int, dtype: torch.dtype, device: torch.device
) -> None:
    draws = ops.normal(samples, features, seed=0, dtype=dtype, device=device)
    weight = ops.uniform(1, samples, seed=0, dtype=dtype, device=device)[0]
    gradients = draws.new_ones(batch, samples, features)
    ops.cross_moments(draws, gradients)
    ops.cross_moments(draws, gradients, weight)
    ops.normal_moments(gradients, features, seed=0)
    ops.normal_moments(gradients, features, seed=0, weight=weight)
    ops.core_moments(gradients, gradients)
    solved = torch.float64 if dtype == torch.float64 else torch.float32
    ones = torch.ones(batch, features, dtype=solved, device=device)
    ops.trust_region(ones, ones, 1.0)
    # Classes of a prediction and numbers of an input are counted by the features.
    vectors = torch.ones(batch, 1, features, dtype=solved, device=device)
    numbers = vectors[..., 0]
    ops.softmax_product(ones, vectors)
    ops.soft_threshold(ones, ones[:, 0])
    ops.fista_step(ones, *[vectors] * 3, *[numbers] * 4)
    # The two tiles of Gram matrices that low ranks take.
    for rank in {min(samples, 16), min(samples, 17)}:
        basis = gradients[:, :rank].to(solved)
        point = basis.new_ones(batch, 1, rank)
        ops.prox_pass(basis, ones, point, ones[:, :1])
        ops.gram(basis)
    # Square pictures of at most so many pixels.
    side = math.isqrt(features)
    grid = ones[:, : side * side].reshape(batch, side, side)
    edges = ops.grid_difference(grid)
    ops.grid_difference_adjoint(edges, side, side)
    ops.grid_laplacian(grid)
    ops.grid_curl_adjoint(ops.grid_curl(edges, side, side))
    ops.grid_normal(samples, side, side, seed=0, dtype=dtype, device=device)
    box = (ones[:, 0], ones[:, 0])
    ops.edge_prox(edges, edges, *box)
    potential = ops.edge_divergence(edges, edges, *box, side, side)
    ops.edge_update(edges, edges, edges, potential, *box, ones[:, 0])
    ops.tv_flow(grid.double(), 1.0)
    ops.box_sums_adjoint(ops.box_sums(grid, [side]), [side], side, side)
    # The kernel, and the library that solves what is larger.
    for k in {min(features, MAX_K), min(features, MAX_K + 1)}:
        ops.eigh(torch.diag_embed(ones[:, :k]))
