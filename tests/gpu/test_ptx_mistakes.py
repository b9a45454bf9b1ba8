"""Mistakes planted in PTX, which the machine must report; their correct twins must pass."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from tests.gpu.ptx import errors, machine
from tests.gpu.ptx.snippets import run

# Each thread stores its number and reads its neighbour's in the next warp.
EXCHANGE = """
    mov.u32 %r0, buffer;
    shl.b32 %r1, %tid, 2;
    add.s32 %r2, %r0, %r1;
    st.shared.b32 [%r2], %tid;
    bar.sync 0;
    xor.b32 %r1, %r1, 128;
    add.s32 %r2, %r0, %r1;
    ld.shared.b32 %r3, [%r2];
    mul.wide.u32 %d0, %tid, 4;
    add.s64 %d0, %p0, %d0;
    st.global.b32 [%d0], %r3;
"""

# A copy in two groups, waited for one after the other.
COPY = """
    mov.u32 %r0, buffer;
    shl.b32 %r1, %tid, 2;
    add.s32 %r2, %r0, %r1;
    mul.wide.u32 %d0, %tid, 4;
    add.s64 %d1, %p0, %d0;
    cp.async.ca.shared.global [%r2], [%d1], 4;
    cp.async.commit_group;
    cp.async.ca.shared.global [%r2+256], [%d1], 4;
    cp.async.commit_group;
    cp.async.wait_group 1;
    bar.sync 0;
    ld.shared.b32 %r3, [buffer];
    cp.async.wait_group 0;
    bar.sync 0;
    ld.shared.b32 %r4, [buffer+260];
    add.s32 %r3, %r3, %r4;
    add.s64 %d1, %p1, %d0;
    st.global.b32 [%d1], %r3;
"""


def _exchange(body: str = EXCHANGE) -> torch.Tensor:
    out = torch.zeros(64, dtype=torch.int32)
    run(body, [out], block=64, shared=256)
    return out


def _copy(body: str = COPY) -> torch.Tensor:
    data, out = torch.arange(7, 71, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    run(body, [data, out], block=64, shared=512)
    return out


def _without(body: str, line: str) -> str:
    lines = [x for x in body.split("\n") if x.strip() != line]
    assert len(lines) < len(body.split("\n")), line
    return "\n".join(lines)


def _changed(body: str, pattern: str, replacement: str) -> str:
    changed, times = re.subn(pattern, replacement, body)
    assert times, pattern
    return changed


def test_good_kernels_raise_no_alarm():
    assert _exchange().tolist() == [*range(32, 64), *range(32)]
    assert _copy().tolist() == [7 + 8] * 64


EXCHANGE_MISTAKES: dict[str, tuple[str, type[errors.PtxError]]] = {
    "no-barrier": (_without(EXCHANGE, "bar.sync 0;"), errors.DataRaceError),
    "barrier-in-a-branch": (
        EXCHANGE + "setp.lt.u32 %q1, %tid, 40; @%q1 bar.sync 0;",
        errors.BarrierError,
    ),
    "leaving-before-a-barrier": (
        _changed(EXCHANGE, "bar.sync 0;", "setp.eq.u32 %q1, %tid, 5; @%q1 ret; bar.sync 0;"),
        errors.BarrierError,
    ),
    "two-barriers-for-one": (
        _changed(
            EXCHANGE,
            "bar.sync 0;",
            "setp.lt.u32 %q1, %tid, 32; @%q1 bar.sync 0; @!%q1 bar.sync 0;",
        ),
        errors.BarrierError,
    ),
    "nobody-wrote-shared-memory": (
        _changed(EXCHANGE, r"st\.shared", "setp.lt.u32 %q1, %tid, 63; @%q1 st.shared"),
        errors.UndefinedValueError,
    ),
    "two-threads-write-one-place": (
        _changed(EXCHANGE, r"st\.shared\.b32 \[%r2\]", "st.shared.b32 [%r0]"),
        errors.DataRaceError,
    ),
    "shared-memory-too-small": (
        _changed(EXCHANGE, r"st\.shared\.b32 \[%r2\]", "st.shared.b32 [%r2+4]"),
        errors.OutOfBoundsError,
    ),
    "shared-misaligned": (
        _changed(EXCHANGE, r"ld\.shared\.b32 %r3, \[%r2\]", "ld.shared.b64 %d1, [%r2]"),
        errors.MisalignedError,
    ),
    "global-out-of-bounds": (
        _changed(EXCHANGE, r"\[%d0\]", "[%d0+4]"),
        errors.OutOfBoundsError,
    ),
    "address-of-32-bits": (
        _changed(EXCHANGE, r"add\.s64 %d0, %p0, %d0;", "cvt.u32.u64 %r4, %p0; mov.u32 %r3, %r4;"),
        errors.OutOfBoundsError,
    ),
    "unwritten-register": (_changed(EXCHANGE, r"\], %r3;", "], %r7;"), errors.UndefinedValueError),
    "unwritten-on-one-path": (
        _changed(
            EXCHANGE,
            r"\], %r3;",
            "], %r8;",
        ).replace("bar.sync 0;", "setp.ne.u32 %q1, %tid, 9; @%q1 mov.u32 %r8, 1; bar.sync 0;"),
        errors.UndefinedValueError,
    ),
    "unwritten-guard": (
        _changed(EXCHANGE, r"st\.global", "@%q7 st.global"),
        errors.UndefinedValueError,
    ),
    "unwritten-address": (_changed(EXCHANGE, r"\[%d0\]", "[%d7]"), errors.UndefinedValueError),
    "unknown-opcode": (_changed(EXCHANGE, "xor", "frob"), errors.UnsupportedError),
    "unknown-modifier": (
        _changed(EXCHANGE, r"st\.global", "st.global.frob"),
        errors.UnsupportedError,
    ),
    "unknown-rounding": (
        EXCHANGE + "mov.b32 %r5, 0; add.rz.f32 %r5, %r5, %r5;",
        errors.UnsupportedError,
    ),
    "wrong-width": (_changed(EXCHANGE, r"xor\.b32", "xor.b64"), errors.UnsupportedError),
    "undeclared-register": (_changed(EXCHANGE, "%r3", "%r33"), errors.UnsupportedError),
    "unknown-label": (EXCHANGE + "bra.uni HERE;", errors.UnsupportedError),
}


@pytest.mark.parametrize("name", EXCHANGE_MISTAKES)
def test_mistakes_are_caught(name):
    body, error = EXCHANGE_MISTAKES[name]
    with pytest.raises(error):
        _exchange(body)


COPY_MISTAKES: dict[str, tuple[str, type[errors.PtxError]]] = {
    "no-wait": (_without(COPY, "cp.async.wait_group 1;"), errors.PendingCopyError),
    "waits-for-too-few": (
        _changed(COPY, "wait_group 1", "wait_group 2"),
        errors.PendingCopyError,
    ),
    "no-commit": (_without(COPY, "cp.async.commit_group;"), errors.PendingCopyError),
    "no-barrier-after-the-wait": (_without(COPY, "bar.sync 0;"), errors.DataRaceError),
    "reads-the-later-copy": (
        _changed(COPY, r"%r3, \[buffer\]", "%r3, [buffer+256]"),
        errors.PendingCopyError,
    ),
    "copies-past-the-end": (
        _changed(COPY, r"\[%r2\+256\], \[%d1\]", "[%r2+256], [%d1+4]"),
        errors.OutOfBoundsError,
    ),
    "copies-over-what-is-read": (
        _changed(
            COPY,
            "ld.shared.b32 %r4",
            "cp.async.ca.shared.global [%r2], [%d1], 4; ld.shared.b32 %r4",
        ),
        errors.DataRaceError,
    ),
}


@pytest.mark.parametrize("name", COPY_MISTAKES)
def test_mistakes_with_copies_are_caught(name):
    body, error = COPY_MISTAKES[name]
    if name == "copies-over-what-is-read":
        # Without the barrier between the read and the copy over it.
        body = _changed(body, r"wait_group 0;\s*bar\.sync 0;", "wait_group 0;")
    with pytest.raises(error):
        _copy(body)


def test_a_loop_without_end_is_caught(monkeypatch):
    monkeypatch.setattr(machine, "_MOST_STEPS", 1000)
    with pytest.raises(errors.KernelError, match="no end"):
        run("HERE: bra.uni HERE;", [])


def test_copy_of_nothing_leaves_zeros_and_reads_nothing():
    body = _changed(COPY, r"\[%r2\], \[%d1\], 4;", "[%r2], [%d7], 4, %r9;")
    out = _copy("mov.u64 %d7, 64; mov.u32 %r9, 0;" + body)
    assert out.tolist() == [0 + 8] * 64


# Blocks of 32 threads, one number each.
BLOCKS = """
    mad.lo.s32 %r0, %cta, 32, %tid;
    mul.wide.u32 %d0, %r0, 4;
    add.s64 %d0, %p0, %d0;
    st.global.b32 [%d0], %r0;
"""


def test_races_between_blocks_are_caught():
    def blocks(body: str) -> torch.Tensor:
        out = torch.zeros(128, dtype=torch.int32)
        run(body, [out], grid=4)
        return out

    assert blocks(BLOCKS).tolist() == list(range(128))
    with pytest.raises(errors.DataRaceError, match="block"):
        blocks(_changed(BLOCKS, "%cta, 32", "%cta, 31"))
    with pytest.raises(errors.DataRaceError, match="read"):
        blocks(BLOCKS + "ld.global.b32 %r1, [%p0];")
    # Even of equal numbers: which of the blocks is last is open.
    with pytest.raises(errors.DataRaceError):
        blocks("st.global.b32 [%p0], 1;")


def test_atomics_race_with_plain_accesses_only():
    def count(body: str) -> int:
        out = torch.zeros(1, dtype=torch.int32)
        run(body, [out], grid=3)
        return out.item()

    assert count("red.global.add.u32 [%p0], 1;") == 96
    assert count("atom.global.add.u32 %r1, [%p0], 1;") == 96
    assert count("atom.global.max.s32 %r1, [%p0], %tid;") == 31
    with pytest.raises(errors.DataRaceError):
        count("ld.global.b32 %r1, [%p0]; add.s32 %r1, %r1, 1; st.global.b32 [%p0], %r1;")
    with pytest.raises(errors.DataRaceError):
        count("red.global.add.u32 [%p0], 1; ld.global.b32 %r1, [%p0];")


def test_lanes_of_a_warp_need_a_warp_barrier():
    body = EXCHANGE.replace("128", "4")
    # Neighbours within a warp, ordered by less than a barrier of the block.
    assert _exchange(_changed(body, "bar.sync 0", "bar.warp.sync -1"))[:2].tolist() == [1, 0]
    with pytest.raises(errors.DataRaceError):
        _exchange(_without(body, "bar.sync 0;"))
    with pytest.raises(errors.DataRaceError):
        _exchange(_changed(EXCHANGE, "bar.sync 0", "bar.warp.sync -1"))


SHUFFLE = """
    shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1;
    mul.wide.u32 %d0, %tid, 4;
    add.s64 %d0, %p0, %d0;
    st.global.b32 [%d0], %r1;
"""


@pytest.mark.parametrize(
    "mistake",
    [
        # The mask leaves out a lane that executes; one reads a lane that does not.
        lambda body: _changed(body, "31, -1", "31, 65535"),
        lambda body: _changed(body, "shfl", "mov.u32 %r1, 0; setp.ne.u32 %q1, %tid, 3; @%q1 shfl"),
        lambda body: _changed(
            body, "(shfl.*)-1;", r"setp.ne.u32 %q1, %tid, 3; @%q1 \g<1>-9; @!%q1 mov.u32 %r1, 0;"
        ),
        lambda body: "setp.eq.u32 %q1, %tid, 30; @%q1 ret;" + body,
    ],
)
def test_shuffles_outside_their_mask_are_caught(mistake: Callable[[str], str]):
    out = torch.zeros(32, dtype=torch.int32)
    run(SHUFFLE, [out])
    assert out[:4].tolist() == [1, 0, 3, 2]
    with pytest.raises(errors.ConvergenceError):
        run(mistake(SHUFFLE), [out])


def test_lanes_wait_for_each_other():
    out = torch.zeros(32, dtype=torch.int32)
    # The lanes part, and those that go the long way come to the shuffle later.
    body = """setp.lt.u32 %q1, %tid, 7;
        @%q1 bra LONG;
        BACK:
    """
    run(body + SHUFFLE + "ret; LONG: mov.u32 %r5, 1; bra BACK;", [out])
    assert out.tolist() == [lane ^ 1 for lane in range(32)]


def test_matrices_need_the_whole_warp():
    body = """setp.lt.u32 %q1, %tid, 16;
        mov.b32 %r1, 0;
        @%q1 mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32
            {%r2, %r3, %r4, %r5}, {%r1, %r1}, {%r1}, {%r1, %r1, %r1, %r1};"""
    run(_changed(body, "@%q1 ", ""), [])
    with pytest.raises(errors.ConvergenceError):
        run(body, [])


def test_gaps_of_a_strided_tensor_are_out_of_bounds():
    base = torch.zeros(64, dtype=torch.int32)
    body = "mul.wide.u32 %d0, %tid, 8; add.s64 %d0, %p0, %d0; st.global.b32 [%d0], 1;"
    run(body, [base[::2]])
    assert base.tolist() == [1, 0] * 32
    with pytest.raises(errors.OutOfBoundsError) as caught:
        run(_changed(body, r"\[%d0\]", "[%d0+4]"), [base[::2]])
    assert caught.value.addresses[0] == base.data_ptr() + 4
    with pytest.raises(errors.OutOfBoundsError):
        run(body, [base[:63:2][1:]])


def test_misaligned_vectors_are_caught():
    data, out = torch.arange(5, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    body = """setp.ne.u32 %q1, %tid, 0; @%q1 ret;
        ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%p0];
        st.global.v2.b32 [%p1], {%r3, %r4};"""
    run(body, [data[:4], out])
    assert out.tolist() == [2, 3, 0, 0]
    with pytest.raises(errors.MisalignedError):
        run(body, [data[1:], out])


def test_offsets_have_64_bits():
    far = torch.zeros(1, dtype=torch.int32)
    body = "mul.wide.s32 %d0, 65536, 65536; add.s64 %d0, %p0, %d0; ld.global.b32 %r1, [%d0];"
    with pytest.raises(errors.OutOfBoundsError) as caught:
        run(body, [far])
    assert caught.value.addresses[0] == far.data_ptr() + 2**32
