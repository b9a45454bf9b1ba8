"""The softmax product through the compiled kernels, CPU tensors."""

from __future__ import annotations

import torch

from hessx import backends
from hessx.ops.softmax.rules import softmax_product_fake


def softmax_product(probabilities: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(diag p - p p^T) u; see `hessx.ops.softmax_product`."""
    probabilities, vectors = probabilities.contiguous(), vectors.contiguous()
    out = softmax_product_fake(probabilities, vectors)
    kernels = backends.native()
    double = vectors.dtype == torch.float64
    product = kernels.softmax_product_double if double else kernels.softmax_product_float
    product(
        probabilities.data_ptr(),
        vectors.data_ptr(),
        out.data_ptr(),
        *vectors.shape,
        torch.get_num_threads(),
        backends.cpu_level(),
    )
    return out
