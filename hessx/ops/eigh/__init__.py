"""Eigenproblems: eigenvalues and eigenvectors of many small symmetric matrices."""

from __future__ import annotations

import torch

from hessx.ops.eigh.rules import DTYPES


def eigh(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Decompose symmetric matrices: ``a = V diag(values) V^T`` with orthonormal columns of V.

    The lower triangle of each matrix is read, as `torch.linalg.eigh` does. Up to 64 rows, batches
    go through Jacobi rotations, all matrices in step; elsewhere a library decomposes them
    (docs/ops.md says where each is faster). Numbers of any size are fine: each matrix is scaled by
    a power of two. The sign of an eigenvector, and the basis of the eigenvectors of equal
    eigenvalues, are open.

    A matrix whose lower triangle has NaN or infinity gets NaN throughout, and no other does.

    Differentiable. The gradient is symmetric. That of the eigenvalues exists for distinct ones;
    that of the eigenvectors is unbounded where two eigenvalues come close and NaN or infinite where
    they are equal.

    Args:
        a: Matrices (k, k) or (B, k, k), float32 or float64.

    Returns:
        Eigenvalues (B, k), ascending, and eigenvectors (B, k, k), in columns, of a's dtype; without
        the batch dimension if a has none.

    Raises:
        TypeError: If a is not a tensor of float32 or float64.
        ValueError: If a does not have the shape of square matrices.

    Source: Golub and Van Loan, "Matrix Computations", section 8.5; Brent and Luk (1985) for the
    order of the rotations.

    Example:
        >>> import hessx, torch
        >>> values, vectors = hessx.ops.eigh(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> values
        tensor([1., 3.])
    """
    if not isinstance(a, torch.Tensor):
        raise TypeError(f"a must be a tensor, got {type(a).__name__}")
    if a.dtype not in DTYPES:
        raise TypeError(f"a must have a dtype of {DTYPES}, got {a.dtype}")
    if a.ndim not in (2, 3) or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"a must have shape (k, k) or (B, k, k), got {tuple(a.shape)}")
    values, vectors = torch.ops.hessx.eigh.default(a if a.ndim == 3 else a[None])
    return (values, vectors) if a.ndim == 3 else (values[0], vectors[0])
