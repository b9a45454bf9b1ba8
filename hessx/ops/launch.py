"""Launching a CUDA kernel on tensors: whose kernels, on which device and stream."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from hessx import backends

# The largest x dimension of a grid that CUDA accepts.
MAX_GRID = 2**31 - 1


def launch(
    kernel: str, like: Tensor, grid: int, block: int, shared: int, *args: Tensor | int | float
) -> None:
    """Launch a kernel on the device of a tensor and the current stream of that device.

    Args:
        kernel: Name of the kernel, as ``csrc/cuda_kernels.h`` declares it.
        like: A tensor on the device that the kernel runs on.
        grid: Number of blocks, <= 2**31 - 1; nothing is launched for 0.
        block: Threads of a block.
        shared: Bytes of dynamic shared memory of a block.
        *args: What the kernel takes, in its order; a tensor stands for its address.

    Raises:
        ValueError: If the grid is out of its range, the kernels do not take tensors of this device,
            or a tensor is on another one.
        RuntimeError: If there are no CUDA kernels, or CUDA refuses the launch; the message says
            why.
    """
    if not 0 <= grid <= MAX_GRID:
        raise ValueError(f"{kernel}: grid must be in [0, {MAX_GRID}], got {grid}")
    kernels = backends.cuda()
    if like.device.type != kernels.device:
        raise ValueError(
            f"{kernel}: these kernels take {kernels.device} tensors, got a tensor on {like.device}"
        )
    for arg in args:
        if isinstance(arg, Tensor) and arg.device != like.device:
            raise ValueError(f"{kernel}: tensors must be on {like.device}, got one on {arg.device}")
    if grid == 0:
        return
    device, stream = 0, 0
    if like.is_cuda:
        device = like.get_device()
        stream = torch.cuda.current_stream(device).cuda_stream
    values = (arg.data_ptr() if isinstance(arg, Tensor) else arg for arg in args)
    # The launch makes its device the current one, of the whole thread: torch's must come back.
    with torch.cuda.device(device) if like.is_cuda else nullcontext():
        getattr(kernels, kernel)(grid, block, shared, device, stream, *values)
