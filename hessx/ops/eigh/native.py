"""Eigenproblems on the CPU: Jacobi across the batch where it wins, LAPACK elsewhere."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.eigh.rules import MAX_K, eigh_fake, with_nan_kept

_REGISTER_BYTES = {"baseline": 16, "x86-64": 16, "x86-64-v3": 32, "x86-64-v4": 64}
_SMALLEST_BATCH = 16
# By the number of lanes.
_LARGEST_K = {2: 8, 4: 16, 8: 32, 16: 40}


def eigh(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors; see `hessx.ops.eigh`."""
    batch, k = a.shape[:2]
    if 0 < k <= MAX_K and jacobi_wins(batch, k, a.dtype):
        return _jacobi(a)
    return with_nan_kept(torch.linalg.eigh, a)


def jacobi_wins(batch: int, k: int, dtype: torch.dtype) -> bool:
    """Say whether the Jacobi kernel beats LAPACK on a batch.

    From the figures in docs/ops.md; ``python -m bench.eigh --crossover`` checks it. The kernel
    takes as many matrices at once as a vector register has lanes: fewer waste it, and the fewer
    lanes there are, the sooner LAPACK's smaller number of operations wins as matrices grow.
    """
    lanes = _REGISTER_BYTES[backends.cpu_level()] // dtype.itemsize
    return batch >= (_SMALLEST_BATCH if k >= 8 else 4 * _SMALLEST_BATCH) and k <= _LARGEST_K[lanes]


def _jacobi(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = eigh_fake(a)
    kernels = backends.native()
    solve = kernels.eigh_double if a.dtype == torch.float64 else kernels.eigh_float
    solve(
        a.data_ptr(),
        a.stride(),
        *values.shape,
        values.data_ptr(),
        vectors.data_ptr(),
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return values, vectors
