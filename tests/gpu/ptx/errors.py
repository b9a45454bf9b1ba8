"""What the PTX machine reports."""

from __future__ import annotations

import numpy as np


class PtxError(Exception):
    """Base of everything the machine reports."""


class UnsupportedError(PtxError):
    """PTX that the machine does not know: never a pass."""


class LaunchError(PtxError):
    """A launch that contradicts the kernel: its block, its arguments, their alignment."""


class KernelError(PtxError):
    """Something a running kernel did that it must not do."""


class OutOfBoundsError(KernelError):
    """An access outside the elements of every tensor of the launch, or outside shared memory.

    Attributes:
        addresses: The addresses at fault.
    """

    def __init__(self, message: str, addresses: np.ndarray) -> None:
        super().__init__(message)
        self.addresses = addresses


class MisalignedError(KernelError):
    """An address that is no multiple of the size of the access."""


class UndefinedValueError(KernelError):
    """A value that nobody wrote decides a branch, an address or something stored globally."""


class DataRaceError(KernelError):
    """Two accesses to one address, one of them a write, that nothing orders."""


class PendingCopyError(KernelError):
    """Shared memory used while an asynchronous copy into it has not been waited for."""


class ConvergenceError(KernelError):
    """An instruction of a whole warp that some of its lanes do not reach together."""


class BarrierError(KernelError):
    """A barrier that some threads of the block do not reach."""
