"""Standard normal vectors by number: sample ``i`` is the same in every chunk of every run."""

from __future__ import annotations

import torch
from torch import Tensor

from hessx import ops

SAMPLINGS = ("iid", "antithetic", "frames")
_DIRECTIONS, _RADII = 0, 1


class NormalDraws:
    """Standard normal vectors in R^m, drawn by sample number.

    Args:
        dim: The dimension ``m``.
        seed: Key of the generator.
        sampling: ``"iid"``; ``"antithetic"`` draws the same vectors (the caller queries both signs
            of each); ``"frames"`` draws blocks of ``m`` orthogonal vectors, uniformly rotated
            (Haar), with independent chi-distributed lengths: each vector is standard normal, the
            vectors of a block are exactly orthogonal.
        dtype: float32 or float64.
        device: Where the draws are made.
    """

    def __init__(
        self, dim: int, seed: int, sampling: str, dtype: torch.dtype, device: torch.device
    ):
        self.dim = dim
        self._seed = seed
        self._frames = sampling == "frames"
        self._dtype = dtype
        self._device = device
        self._last_frame: tuple[int, Tensor] = (-1, torch.empty(0, dim))

    def draw(self, first: int, count: int) -> Tensor:
        """Return samples ``first .. first + count - 1`` as ``(count, dim)``."""
        if not self._frames:
            return self._normal(first, count, _DIRECTIONS)
        radii = self._normal(first, count, _RADII).norm(dim=1, keepdim=True)
        parts = []
        while count > 0:
            frame, row = divmod(first, self.dim)
            taken = min(count, self.dim - row)
            parts.append(self._directions(frame, row + taken)[row : row + taken])
            first, count = first + taken, count - taken
        return torch.cat(parts) * radii if parts else radii.expand(0, self.dim)

    def covariance_noise(self, count: int) -> float:
        """Return how far the sample covariance of the first draws strays from 1.

        Its variance as a share of that of ``count`` independent draws: whole frames have none
        (nearly: their lengths vary), the first ``q`` vectors of a frame miss a random subspace.
        """
        if not self._frames:
            return 1.0
        partial = count % self.dim
        return partial * (1 - partial / self.dim) / count

    def _directions(self, frame: int, rows: int) -> Tensor:
        """Return the first ``rows`` (or more) unit vectors of a frame.

        Orthogonalisation goes through the rows in order, so the first rows of a frame do not
        depend on how many are asked for.
        """
        if self._last_frame[0] != frame or len(self._last_frame[1]) < rows:
            normal = self._normal(frame * self.dim, rows, _DIRECTIONS)
            q, r = torch.linalg.qr(normal.mT)
            # Householder's signs are arbitrary; a positive diagonal makes the frame Haar.
            self._last_frame = (frame, (q * r.diagonal().sign()).mT)
        return self._last_frame[1]

    def _normal(self, first: int, count: int, stream: int) -> Tensor:
        return ops.normal(
            count,
            self.dim,
            seed=self._seed,
            first_sample=first,
            stream=stream,
            dtype=self._dtype,
            device=self._device,
        )
