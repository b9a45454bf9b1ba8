"""Products with the covariance of a categorical distribution: the Hessian of the cross-entropy."""

from __future__ import annotations

import torch

from hessx.ops.softmax.rules import check_softmax_product


def softmax_product(probabilities: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Multiply vectors by ``A = diag(p) - p p^T``, the Hessian of the cross-entropy in the logits.

    ``w = p * (v - <p, v>)`` with ``v = u - u_k``, k the (first) class of the largest probability,
    in float64, rounded once. For probabilities that add up to 1 every shift of u gives the same
    product; this one takes the likeliest class as the origin, whose rounding then does no harm:
    ``w_k`` comes out as ``-p_k sum_{i != k} p_i (u_i - u_k)`` with all its digits, however close
    p_k is to 1. A row with NaN or infinity becomes NaN, and no other row.

    A row gives the same bits alone and in company, and for any number of threads. Differentiable
    in both arguments; in the probabilities along the simplex, up to a constant over the classes,
    which a softmax before it removes.

    Args:
        probabilities: Probabilities of the classes (B, c), each row adding up to 1; float32 or
            float64.
        vectors: m vectors for each of them, (B, m, c), of the same dtype.

    Returns:
        Tensor (B, m, c).

    Raises:
        TypeError: If an argument is not a tensor of float32 or float64, or the dtypes differ.
        ValueError: If the shapes or the devices do not fit.

    Source: Singla et al. (2019), "Understanding impacts of high-order loss approximations and
    features in deep learning interpretation" (CASO), Proposition 1 and Theorem 2.

    Example:
        >>> import hessx, torch
        >>> p, u = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[[4.0, 0.0, 8.0]]])
        >>> hessx.ops.softmax_product(p, u)
        tensor([[[ 0., -1.,  1.]]])
    """
    check_softmax_product(probabilities, vectors)
    return torch.ops.hessx.softmax_product.default(probabilities, vectors)
