"""What CASO and CAFO return."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class SparseSaliency:
    """Sparse perturbations that raise the loss most, to second or first order.

    Attributes:
        delta: ``(B, *shape)``, the solution; ``hessx.saliency_map(result.delta)`` is its picture.
        gradient: ``(B, *shape)``, of the cross-entropy (its mean over noise, if smoothed).
        lambda1: ``(B,)``, weight of ``|delta|_1``.
        lambda2: ``(B,)``, weight of ``|delta|_2^2``.
        sparsity: ``(B,)``, zero pixels / pixels; a pixel is zero when all its channels are.
        objective: ``(B,)`` float64, what was maximised, at ``delta``.
        gap: ``(B,)`` float64, relative: no perturbation has an objective above
            ``(1 + gap) objective``, for the gradient and Hessian as the model computes them.
        loss_change: ``(B,)`` float64, cross-entropy at ``inputs + delta`` less that at ``inputs``,
            asked of the model.
        curvature_bound: ``(B,)``, the upper bound of the largest eigenvalue of H that was used;
            nan where none was needed.
        target: ``(B,)``, the class whose cross-entropy it is.
        method: ``"cafo"`` or ``"caso"``.
        hessian: ``"none"``, ``"gauss-newton"``, or ``"exact"`` (for piecewise-linear models both
            are one).
        seconds: Wall clock of the whole call.
        model_seconds: Of it, the host's time inside the model.
    """

    delta: Tensor
    gradient: Tensor
    lambda1: Tensor
    lambda2: Tensor
    sparsity: Tensor
    objective: Tensor
    gap: Tensor
    loss_change: Tensor
    curvature_bound: Tensor
    target: Tensor
    method: str
    hessian: str
    seconds: float
    model_seconds: float

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.method}, delta={tuple(self.delta.shape)}, "
            f"hessian={self.hessian}, lambda1={_some(self.lambda1)}, "
            f"sparsity={_some(self.sparsity)}, gap={_some(self.gap)})"
        )

    def _repr_html_(self) -> str:
        names = ("lambda1", "sparsity", "objective", "gap", "loss_change")
        columns = [getattr(self, name).flatten().tolist() for name in names]
        head = "".join(f"<th>{name}</th>" for name in names)
        rows = "".join(
            "<tr>" + "".join(f"<td>{value:.4g}</td>" for value in row) + "</tr>"
            for row in zip(*columns, strict=True)
        )
        return (
            f"<p>{self.method.upper()}, {tuple(self.delta.shape)}, Hessian: {self.hessian}</p>"
            f"<table><tr>{head}</tr>{rows}</table>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class SparsePath(SparseSaliency):
    """Solutions for M values of lambda1: fields as in `SparseSaliency`, with ``(B, M)`` in front.

    ``gradient``, ``lambda2``, ``curvature_bound`` and ``target`` have no M.
    """

    def __len__(self) -> int:
        """Return the number of values of lambda1."""
        return self.lambda1.shape[1]

    def __getitem__(self, index: int) -> SparseSaliency:
        """Return the solutions for one value of lambda1."""
        if not isinstance(index, int):
            raise TypeError(f"index must be an integer, got {index!r}")
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"index must be below {len(self)}, the number of lambda1s, got {index}"
            )
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("delta", "lambda1", "sparsity", "objective", "gap", "loss_change"):
            values[name] = values[name][:, index]
        return SparseSaliency(**values)


def _some(values: Tensor) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values.flatten()[:4].tolist())
    return f"[{shown}{', ...' if values.numel() > 4 else ''}]"


def zero_share(delta: Tensor, n_channels: int) -> Tensor:
    """Return the share of pixels whose channels are all zero: ``(..., d)`` to ``(...)`` float64."""
    zero = (delta == 0).unflatten(-1, (n_channels, -1)).all(-2)
    return zero.to(torch.float64).mean(-1)
