"""What every GPU implementation must compute: cases that any machine can be asked to run.

A case calls the GPU implementation of an op on CPU tensors, which the active machine (Triton's
interpreter, the CUDA emulator, the PTX machine) executes, and compares with a float64 reference.
"""

from __future__ import annotations

from collections.abc import Callable

Cases = dict[str, Callable[[], None]]
