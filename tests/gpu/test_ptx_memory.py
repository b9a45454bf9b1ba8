"""The memories of the PTX machine: widths, local and constant memory, generic addresses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.errors import OutOfBoundsError, UndefinedValueError
from tests.gpu.ptx.snippets import compute, run


def test_numbers_taken_apart_and_put_together():
    x = np.array([0x1122334455667788], np.uint64)
    body = "mov.b64 {%r1, %r2}, %a; mov.b64 %y, {%r2, %r1};"
    assert compute(body, [x], np.uint64)[0] == 0x5566778811223344
    body = "mov.b32 {%h1, _}, %a; cvt.s32.s16 %y, %h1;"
    assert compute(body, [np.array([0x1234FFFE], np.uint32)], np.int32)[0] == -2


def test_loads_extend_and_stores_truncate():
    data = torch.tensor([200, 0, 0, 0], dtype=torch.uint8)
    out = torch.zeros(3, dtype=torch.int32)
    run(
        """setp.ne.u32 %q0, %tid, 0;
        @%q0 ret;
        ld.global.s8 %r1, [%p0];
        st.global.b32 [%p1], %r1;
        ld.global.u8 %r1, [%p0];
        st.global.b32 [%p1+4], %r1;
        st.global.u8 [%p1+8], -2;""",
        [data, out],
    )
    assert out.tolist() == [-56, 200, 254]


def test_local_memory_belongs_to_its_thread():
    out = torch.zeros(32, dtype=torch.int32)
    body = """mov.u64 %d1, stack;
        cvta.local.u64 %d2, %d1;
        st.u32 [%d2+4], %tid;
        ld.local.u32 %r1, [stack+4];
        mul.wide.u32 %d0, %tid, 4;
        add.s64 %d0, %p0, %d0;
        st.global.u32 [%d0], %r1;"""
    stack = ".local .align 8 .b8 stack[8];"
    run(body, [out], registers=stack)
    assert out.tolist() == list(range(32))
    with pytest.raises(UndefinedValueError):
        run(body.replace("[stack+4]", "[stack]"), [out], registers=stack)
    with pytest.raises(OutOfBoundsError):
        run(body.replace("[stack+4]", "[stack+8]"), [out], registers=stack)


def test_generic_addresses_find_their_memory():
    data, out = torch.arange(32, dtype=torch.int32) * 3, torch.zeros(32, dtype=torch.int32)
    # Even lanes read shared memory, odd ones global memory, by one instruction.
    body = """mov.u64 %d1, buffer;
        cvta.shared.u64 %d1, %d1;
        mul.wide.u32 %d0, %tid, 4;
        add.s64 %d1, %d1, %d0;
        st.u32 [%d1], %tid;
        add.s64 %d2, %p0, %d0;
        and.b32 %r1, %tid, 1;
        setp.eq.u32 %q1, %r1, 1;
        selp.b64 %d3, %d2, %d1, %q1;
        ld.u32 %r2, [%d3];
        add.s64 %d4, %p1, %d0;
        st.u32 [%d4], %r2;"""
    run(body, [data, out], shared=128)
    assert out.tolist() == [3 * i if i % 2 else i for i in range(32)]


def test_generic_atomics_find_their_memory():
    total, out = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    body = """setp.eq.u32 %q1, %tid, 0;
        @%q1 st.shared.b32 [buffer], 0;
        bar.sync 0;
        mov.u64 %d1, buffer;
        cvta.shared.u64 %d1, %d1;
        setp.lt.u32 %q2, %tid, 20;
        selp.b64 %d2, %d1, %p0, %q2;
        atom.add.u32 %r1, [%d2], %tid;
        bar.sync 0;
        ld.shared.b32 %r2, [buffer];
        @%q1 st.global.b32 [%p1], %r2;"""
    run(body, [total, out], shared=4)
    assert out.item() == sum(range(20))
    assert total.item() == sum(range(20, 32))


def test_variables_of_the_module_hold_what_they_were_given():
    out = torch.zeros(2, dtype=torch.int32)
    body = """setp.ne.u32 %q0, %tid, 0;
        @%q0 ret;
        ld.const.b32 %r1, [table+4];
        ld.global.u16 %r2, [names];
        st.global.v2.b32 [%p0], {%r1, %r2};"""
    variables = ".const .align 8 .b32 table[2] = {5, -6};\n.global .b16 names[1] = {258};"
    run(body, [out], variables=variables)
    assert out.tolist() == [-6, 258]
    with pytest.raises(OutOfBoundsError):
        run(body.replace("table+4", "table+8"), [out], variables=variables)
