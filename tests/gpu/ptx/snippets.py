"""Kernels of a few instructions, for tests of the machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tests.gpu.ptx import machine
from tests.gpu.ptx.kernel import load

_HEADER = ".version 8.7\n.target sm_80\n.address_size 64\n"


def run(
    body: str,
    tensors: Sequence[torch.Tensor],
    *,
    grid: int = 1,
    block: int = 32,
    registers: str = "",
    variables: str = "",
    shared: int = 0,
) -> None:
    """Run a body of instructions whose tensors' addresses are in %p0, %p1, ...

    %tid and %cta hold the numbers of the thread and its block; %r0-%r9 are of 32 bits, %d0-%d9 of
    64, %h0-%h9 of 16 and %q0-%q9 predicates. `buffer` is the shared memory of the launch.
    Further declarations stand in the body (`registers`) or before the kernel (`variables`).
    """
    parameters = ", ".join(f".param .u64 p{i}" for i in range(len(tensors)))
    addresses = "\n".join(f"ld.param.u64 %p{i}, [p{i}];" for i in range(len(tensors)))
    text = f"""{_HEADER}
{variables}
.extern .shared .align 16 .b8 buffer[];
.visible .entry kernel({parameters})
{{
.reg .pred %q<10>; .reg .b16 %h<10>; .reg .b32 %r<10>; .reg .b64 %d<10>;
.reg .b64 %p<{max(1, len(tensors))}>; .reg .b32 %tid, %cta;
{registers}
mov.u32 %tid, %tid.x;
mov.u32 %cta, %ctaid.x;
{addresses}
{body}
ret;
}}
"""
    pointers = [x.data_ptr() for x in tensors]
    machine.launch(load(text), (grid,), (block,), pointers, tensors, dynamic_shared=shared)


def compute(body: str, inputs: Sequence[np.ndarray], out: type[np.generic]) -> np.ndarray:
    """Run instructions that make %y of %a, %b, ..., one thread for each number.

    Registers are as wide as the numbers they hold.
    """
    inputs = [np.ascontiguousarray(x) for x in np.broadcast_arrays(*inputs)]
    size = inputs[0].size
    names = "abcdef"[: len(inputs)]
    result = np.zeros(size, out)
    declared, loads = [], []
    for place, (name, x) in enumerate(zip((*names, "y"), (*inputs, result), strict=True)):
        width = 8 * x.itemsize
        held = max(16, width)
        declared.append(f".reg .b{held} %{name}; .reg .b64 %at_{name};")
        loads.append(f"mad.wide.u32 %at_{name}, %r0, {x.itemsize}, %p{place};")
        if name != "y":
            loads.append(f"ld.global.b{width} %{name}, [%at_{name}];")
    threads = 128
    body = "\n".join(
        [
            "mad.lo.s32 %r0, %cta, 128, %tid;",
            f"setp.ge.u32 %q0, %r0, {size};",
            "@%q0 ret;",
            *loads,
            body,
            f"st.global.b{8 * result.itemsize} [%at_y], %y;",
        ]
    )
    tensors = [torch.from_numpy(x.view(f"i{x.itemsize}")) for x in (*inputs, result)]
    run(body, tensors, grid=-(-size // threads), block=threads, registers=" ".join(declared))
    return result
