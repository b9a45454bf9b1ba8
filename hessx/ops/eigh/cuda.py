"""Eigenproblems by CUDA C++: one block a matrix, in shared memory."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import torch

from hessx.nvrtc import TorchStream, find_cupy
from hessx.ops.eigh.rules import MAX_K, eigh_fake, with_nan_kept
from hessx.ops.launch import MAX_GRID, launch

_WARP = 32
# The largest block that csrc/eigh.cu is compiled for.
_MAX_THREADS = 256


def eigh(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors; see `hessx.ops.eigh`."""
    values, vectors = eigh_fake(a)
    k = a.shape[1]
    if k > MAX_K:
        # torch decomposes a batch of large matrices one by one (pytorch issue 174674: 500 of
        # 100 x 100 in 914 ms, in 8 ms by CuPy).
        cupy = find_cupy()[0] if a.is_cuda and len(a) > 1 else None
        return with_nan_kept(partial(_by_cupy, cupy) if cupy else torch.linalg.eigh, a)
    if k == 0:
        return values, vectors
    double = a.dtype == torch.float64
    for start in range(0, len(a), MAX_GRID):
        part = slice(start, start + MAX_GRID)
        launch(
            "hessx_eigh_double" if double else "hessx_eigh_float",
            a,
            len(a[part]),
            _threads(k),
            _shared_bytes(k, a.element_size()),
            a[part],
            *a.stride(),
            k,
            values[part],
            vectors[part],
        )
    return values, vectors


def _threads(k: int) -> int:
    """Choose the size of a block: a warp for the smallest, then some 8 entries a thread."""
    warps = (k * k // 8 + _WARP - 1) // _WARP
    return _WARP * min(max(warps, 1), _MAX_THREADS // _WARP)


def _shared_bytes(k: int, itemsize: int) -> int:
    """Size of the workspace in csrc/eigh.cu; 66 KB for 64 rows of float64."""
    n = k + k % 2
    reals = n * n + k * n + 2 * (n // 2) + _MAX_THREADS // _WARP
    return reals * itemsize + (k + 1) * 4


def _by_cupy(cupy: ModuleType, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Decompose a batch by cusolverDn<t>syevjBatched, which is what CuPy's eigh calls for one."""
    stream = TorchStream(torch.cuda.current_stream(a.device).cuda_stream)
    with cupy.cuda.Device(a.get_device()), cupy.cuda.Stream.from_external(stream):
        values, vectors = cupy.linalg.eigh(cupy.from_dlpack(a.detach()), UPLO="L")
        return torch.from_dlpack(values), torch.from_dlpack(vectors)
