"""Several input tensors as one, for models and functions of more than one input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from hessx.query.black_box import BlackBoxQuery
from hessx.query.model import check_mode
from hessx.run import Run


class Joined:
    """Tensors that share their first dimension, laid side by side as ``(N, D)``.

    Args:
        tensors: Examples ``(B, *shape)`` of each input.
    """

    def __init__(self, tensors: tuple[Tensor, ...]):
        self._shapes = [t.shape[1:] for t in tensors]
        self._dtypes = [t.dtype for t in tensors]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._dtype = reduce(torch.promote_types, self._dtypes)

    def join(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return the tensors ``(N, *shape)`` as one, in a type that holds all of theirs."""
        return torch.cat([t.reshape(len(t), -1).to(self._dtype) for t in tensors], 1)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that ``x (N, D)`` was joined from."""
        parts = x.split(self._sizes, 1)
        return tuple(
            part.reshape(len(x), *shape).to(dtype)
            for part, shape, dtype in zip(parts, self._shapes, self._dtypes, strict=True)
        )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the joined tensor that calls ``function`` with the tensors."""
        return lambda x, *args: function(*self.split(x), *args)


def black_box_of(
    forward_func: Callable[..., Any], tensors: tuple[Tensor, ...], target: Any, run: Run
) -> BlackBoxQuery:
    """Return a query of the model, of joined inputs where there are several."""
    if len(tensors) == 1:
        return BlackBoxQuery(forward_func, tensors[0], target, run)
    check_mode(forward_func)
    joined = Joined(tensors)
    return BlackBoxQuery(joined.wrap(forward_func), joined.join(tensors), target, run)
