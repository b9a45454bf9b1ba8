"""Instructions of whole warps: what the machine computes, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.snippets import run


def _store(register: str, *, at: str = "%p0") -> str:
    return f"""mul.wide.u32 %d0, %tid, 4;
        add.s64 %d0, {at}, %d0;
        st.global.b32 [%d0], {register};"""


def _shuffled(mode: str, by: int, clamp: int) -> list[tuple[int, bool]]:
    """The lane that each lane reads, by the text of the PTX manual."""
    lanes = []
    segment, last_of = clamp >> 8 & 31, clamp & 31
    for lane in range(32):
        most, least = lane & segment | last_of & ~segment, lane & segment
        source, fits = {
            "up": (lane - by, lane - by >= most),
            "down": (lane + by, lane + by <= most),
            "bfly": (lane ^ by, (lane ^ by) <= most),
            "idx": (least | by & ~segment, (least | by & ~segment) <= most),
        }[mode]
        lanes.append((source if fits else lane, fits))
    return lanes


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("by", [0, 1, 5, 16, 31])
@pytest.mark.parametrize("segment", [0, 16, 24])
def test_shuffles(mode, by, segment):
    clamp = segment << 8 | (0 if mode == "up" else 31)
    values, fits = torch.zeros(2, 32, dtype=torch.int32)
    body = f"""shfl.sync.{mode}.b32 %r1|%q1, %tid, {by}, {clamp}, -1;
        selp.b32 %r2, 1, 0, %q1;"""
    run(body + _store("%r1") + _store("%r2", at="%p1"), [values, fits])
    expected = _shuffled(mode, by, clamp)
    assert list(zip(values.tolist(), fits.bool().tolist(), strict=True)) == expected


@pytest.mark.parametrize("threshold", [0, 7, 32])
def test_votes(threshold):
    out = torch.zeros(4, 32, dtype=torch.int32)
    body = f"setp.lt.u32 %q1, %tid, {threshold};"
    for place, mode in enumerate(("all", "any", "uni")):
        body += f"vote.sync.{mode}.pred %q2, %q1, -1; selp.b32 %r1, 1, 0, %q2;"
        body += _store("%r1", at=f"%p{place}")
    body += "vote.sync.ballot.b32 %r1, %q1, -1;" + _store("%r1", at="%p3")
    run(body, list(out))
    every, some, same, ballot = (set(row) for row in out.tolist())
    assert every == {int(threshold == 32)}
    assert some == {int(threshold > 0)}
    assert same == {int(threshold in (0, 32))}
    assert {x % 2**32 for x in ballot} == {2**threshold - 1}


def test_reductions_of_part_of_a_warp():
    out = torch.zeros(32, dtype=torch.int32)
    body = """mov.u32 %r1, 99;
        setp.lt.u32 %q1, %tid, 8;
        @%q1 redux.sync.add.s32 %r1, %tid, 255;"""
    run(body + _store("%r1"), [out])
    assert out.tolist() == [28] * 8 + [99] * 24


def _bits(x: torch.Tensor) -> np.ndarray:
    """The bits of each number as an unsigned integer of 32."""
    same = {2: torch.int16, 4: torch.int32}[x.element_size()]
    return x.view(same).numpy().astype(np.int64) & (2 ** (8 * x.element_size()) - 1)


FORMS = {
    "m16n8k16.row.col.f32.f16.f16.f32": (torch.float16, 16),
    "m16n8k16.row.col.f32.bf16.bf16.f32": (torch.bfloat16, 16),
    "m16n8k8.row.col.f32.bf16.bf16.f32": (torch.bfloat16, 8),
    "m16n8k8.row.col.f32.tf32.tf32.f32": (torch.float32, 8),
}


@pytest.mark.parametrize("form", FORMS)
def test_matrix_products(form):
    """Fragments as the PTX manual numbers them: row or column of each register of a lane."""
    dtype, k = FORMS[form]
    packed = 4 // dtype.itemsize
    generator = torch.Generator().manual_seed(0)
    # Small integers: every type holds them and their products exactly.
    a, b, c = (
        torch.randint(-8, 8, shape, generator=generator).float()
        for shape in ((16, k), (k, 8), (16, 8))
    )
    a_bits, b_bits, c_bits = _bits(a.to(dtype)), _bits(b.to(dtype)), _bits(c)
    registers: list[list[int]] = []
    for lane in range(32):
        group, within = lane // 4, lane % 4
        mine = []
        for i in range(k * 16 // 32 // packed):
            row = group + 8 * (i % 2)
            columns = [packed * within + e + 4 * packed * (i // 2) for e in range(packed)]
            mine.append(sum(int(a_bits[row, x]) << 16 * e for e, x in enumerate(columns)))
        for i in range(k * 8 // 32 // packed):
            rows = [packed * within + e + 4 * packed * i for e in range(packed)]
            mine.append(sum(int(b_bits[x, group]) << 16 * e for e, x in enumerate(rows)))
        mine += [int(c_bits[group + 8 * (i // 2), 2 * within + i % 2]) for i in range(4)]
        registers.append(mine)
    inputs = torch.from_numpy(np.array(registers, np.uint32).view(np.int32)).T.contiguous()
    out = torch.zeros(4, 32)
    n_b = k * 8 // 32 // packed
    body = "".join(f"ld.global.b32 %x{i}, [%at+{128 * i}];" for i in range(len(inputs)))
    names = [f"%x{i}" for i in range(len(inputs))]
    factors = ", ".join(
        "{" + ", ".join(part) + "}" for part in (names[: 2 * n_b], names[2 * n_b : 3 * n_b])
    )
    body += f"mma.sync.aligned.{form} {{%y0, %y1, %y2, %y3}}, {factors}, "
    body += "{" + ", ".join(names[3 * n_b :]) + "};"
    body += "".join(f"st.global.b32 [%to+{128 * i}], %y{i};" for i in range(4))
    addresses = "mul.wide.u32 %d0, %tid, 4; add.s64 %at, %p0, %d0; add.s64 %to, %p1, %d0;"
    run(
        addresses + body,
        [inputs, out],
        registers=".reg .b32 %x<16>; .reg .b32 %y<4>; .reg .b64 %at; .reg .b64 %to;",
    )
    expected = a @ b + c
    for lane in range(32):
        for i in range(4):
            assert out[i, lane] == expected[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2]


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_loaded_from_shared_memory(transposed):
    data = torch.arange(4 * 64, dtype=torch.int16).reshape(4, 8, 8)
    out = torch.zeros(4, 32, 2, dtype=torch.int16)
    trans = ".trans" if transposed else ""
    body = f"""mul.wide.u32 %d0, %tid, 16;
        add.s64 %d1, %p0, %d0;
        mov.u32 %r0, buffer;
        mad.lo.s32 %r5, %tid, 16, %r0;
        cp.async.cg.shared.global [%r5], [%d1], 16;
        cp.async.wait_all;
        bar.sync 0;
        ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r1, %r2, %r3, %r4}}, [%r5];
        mul.wide.u32 %d0, %tid, 4;
        add.s64 %d0, %p1, %d0;"""
    body += "".join(f"st.global.b32 [%d0+{128 * i}], %r{i + 1};" for i in range(4))
    run(body, [data, out], shared=512)
    expected = data.mT if transposed else data
    assert torch.equal(out.reshape(4, 8, 8), expected)
