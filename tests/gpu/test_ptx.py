"""What the PTX machine computes, instruction by instruction, against exact arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.snippets import compute, run
from tests.gpu.ptx.truth import dtype_of, nearest

EDGES = {
    32: [0, 1, 2, 3, 5, 31, 32, 33, 255, 0x12345678, 2**31 - 1, 2**31, 2**32 - 7, 2**32 - 1],
    64: [
        0,
        1,
        3,
        63,
        64,
        65,
        0x123456789ABCDEF0,
        2**32 - 1,
        2**63 - 1,
        2**63,
        2**64 - 5,
        2**64 - 1,
    ],
    16: [0, 1, 7, 255, 2**15 - 1, 2**15, 2**16 - 1],
}


def _edges(type_name: str) -> np.ndarray:
    width = int(type_name[1:])
    return np.array(EDGES[width], f"u{width // 8}").view(dtype_of(type_name))


def _bit(x: int, place: int) -> int:
    return x >> place & 1


def _field(x: int, position: int, length: int, *, signed: bool) -> int:
    """bfe on 32 bits, as PTX spells it out."""
    position, length, x = position & 255, length & 255, x & 2**32 - 1
    fill = _bit(x, min(position + length - 1, 31)) if signed and length else 0
    inside = [i < length and position + i <= 31 for i in range(32)]
    return sum((_bit(x, position + i) if inside[i] else fill) << i for i in range(32))


def _inserted(field: int, into: int, position: int, length: int) -> int:
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i <= 31:
            into = into & ~(1 << position + i) | _bit(field, i) << position + i
    return into


def _permuted(a: int, b: int, selector: int) -> int:
    both = (a | b << 32).to_bytes(8, "little")
    result = 0
    for place in range(4):
        choice = selector >> 4 * place & 15
        byte = both[choice & 7]
        result |= ((255 if byte & 128 else 0) if choice & 8 else byte) << 8 * place
    return result


def _quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _funnel(low: int, high: int, by: int, *, left: bool, wrap: bool) -> int:
    by = by & 31 if wrap else min(by, 32)
    both = low | high << 32
    return both << by >> 32 if left else both >> by


# Instruction, types of result and operands, what it means for Python's integers.
INTEGERS: list[tuple[str, str, str, Callable[..., int]]] = [
    ("add.s32", "s32", "s32 s32", lambda a, b: a + b),
    ("sub.s64", "s64", "s64 s64", lambda a, b: a - b),
    ("mul.lo.s32", "s32", "s32 s32", lambda a, b: a * b),
    ("mul.hi.u32", "u32", "u32 u32", lambda a, b: a * b >> 32),
    ("mul.hi.s32", "s32", "s32 s32", lambda a, b: a * b >> 32),
    ("mul.hi.u64", "u64", "u64 u64", lambda a, b: a * b >> 64),
    ("mul.hi.s64", "s64", "s64 s64", lambda a, b: a * b >> 64),
    ("mul.wide.s32", "s64", "s32 s32", lambda a, b: a * b),
    ("mul.wide.u32", "u64", "u32 u32", lambda a, b: a * b),
    ("mul.wide.s16", "s32", "s16 s16", lambda a, b: a * b),
    ("mad.lo.s64", "s64", "s64 s64 s64", lambda a, b, c: a * b + c),
    ("mad.wide.u32", "u64", "u32 u32 u64", lambda a, b, c: a * b + c),
    ("div.s32", "s32", "s32 s32", _quotient),
    ("div.u64", "u64", "u64 u64", _quotient),
    ("rem.s32", "s32", "s32 s32", lambda a, b: a - _quotient(a, b) * b),
    ("rem.u32", "u32", "u32 u32", lambda a, b: a % b),
    ("min.s32", "s32", "s32 s32", min),
    ("max.u32", "u32", "u32 u32", max),
    ("abs.s32", "s32", "s32", abs),
    ("neg.s64", "s64", "s64", lambda a: -a),
    ("not.b64", "u64", "u64", lambda a: ~a),
    ("xor.b32", "u32", "u32 u32", lambda a, b: a ^ b),
    ("shl.b32", "u32", "u32 u32", lambda a, b: a << b if b < 32 else 0),
    ("shl.b64", "u64", "u64 u32", lambda a, b: a << b if b < 64 else 0),
    ("shr.u32", "u32", "u32 u32", lambda a, b: a >> b),
    ("shr.s32", "s32", "s32 u32", lambda a, b: a >> min(b, 99)),
    ("shr.s64", "s64", "s64 u32", lambda a, b: a >> min(b, 99)),
    ("shf.l.wrap.b32", "u32", "u32 u32 u32", lambda *x: _funnel(*x, left=True, wrap=True)),
    ("shf.l.clamp.b32", "u32", "u32 u32 u32", lambda *x: _funnel(*x, left=True, wrap=False)),
    ("shf.r.wrap.b32", "u32", "u32 u32 u32", lambda *x: _funnel(*x, left=False, wrap=True)),
    ("shf.r.clamp.b32", "u32", "u32 u32 u32", lambda *x: _funnel(*x, left=False, wrap=False)),
    ("bfe.u32", "u32", "u32 u32 u32", lambda *x: _field(*x, signed=False)),
    ("bfe.s32", "s32", "s32 u32 u32", lambda *x: _field(*x, signed=True)),
    ("bfi.b32", "u32", "u32 u32 u32 u32", _inserted),
    ("prmt.b32", "u32", "u32 u32 u32", _permuted),
    ("popc.b64", "u32", "u64", lambda a: a.bit_count()),
    ("clz.b32", "u32", "u32", lambda a: 32 - a.bit_length()),
    ("clz.b64", "u32", "u64", lambda a: 64 - a.bit_length()),
    ("brev.b32", "u32", "u32", lambda a: int(f"{a:032b}"[::-1], 2)),
    ("bfind.u32", "u32", "u32", lambda a: a.bit_length() - 1),
    ("bfind.s32", "u32", "s32", lambda a: (a if a >= 0 else ~a).bit_length() - 1),
]


@pytest.mark.parametrize(("name", "out", "of", "meaning"), INTEGERS, ids=lambda x: str(x)[:15])
def test_integers(name, out, of, meaning):
    rows = np.array(list(itertools.product(*(range(len(_edges(x))) for x in of.split()[:3]))))
    if len(of.split()) == 4:
        rows = np.column_stack((rows, rows[:, 0]))
    inputs = [_edges(x)[row] for x, row in zip(of.split(), rows.T, strict=True)]
    if name.startswith(("div", "rem")):
        inputs = [x[inputs[1] != 0] for x in inputs]
    operands = ", ".join(f"%{letter}" for letter in "abcd"[: len(inputs)])
    result = compute(f"{name} %y, {operands};", inputs, dtype_of(out))
    width = int(out[1:])
    expected = [meaning(*row) % 2**width for row in zip(*(x.tolist() for x in inputs), strict=True)]
    assert [int(x) % 2**width for x in result] == expected


@pytest.mark.parametrize("table", [0x96, 0xE8, 0xCA, 0x01, 0xFE])
def test_lop3_reads_its_table(table):
    a, b, c = (np.array([bits], np.uint32) for bits in (0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA))
    result = compute(f"lop3.b32 %y, %a, %b, %c, {table};", [a, b, c], np.uint32)
    assert result[0] == table * 0x01010101


FORMATS = {np.float32: (24, -126, "f32"), np.float64: (53, -1022, "f64")}


def _hard_sums(dtype: type[np.floating]) -> list[np.ndarray]:
    """Products halfway between two numbers, moved off it by an addend far below; and others."""
    bits, least, _ = FORMATS[dtype]
    generator = np.random.default_rng(0)
    tie = 1 + 2.0 ** -(bits // 2)
    tiny = 2.0 ** (-3 * bits)
    rows = [(tie, tie, sign * tiny) for sign in (-1, 0, 1)]
    rows += [(-tie, tie, sign * tiny) for sign in (-1, 0, 1)]
    smallest = 2.0 ** (least - bits + 1)
    rows += [
        (3 * smallest, 0.5, 0.0),
        (3 * smallest, 0.5, smallest / 2 if dtype is np.float32 else smallest),
        (2.0 ** (least // 2 - 5), 2.0 ** (least // 2 - 3) * tie, smallest),
        (0.0, -1.0, -0.0),
    ]
    random = generator.standard_normal((400, 3)) * 2.0 ** generator.integers(-30, 30, (400, 3))
    # Cancellation: the addend is the rounded product with the other sign.
    random[:200, 2] = -(random[:200, 0].astype(dtype) * random[:200, 1].astype(dtype))
    far = generator.standard_normal((200, 3)) * 2.0 ** generator.integers(least // 2, 60, (200, 3))
    return list(np.concatenate((rows, random, far)).astype(dtype).T)


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_fma_rounds_once(dtype):
    bits, least, name = FORMATS[dtype]
    inputs = _hard_sums(dtype)
    result = compute(f"fma.rn.{name} %y, %a, %b, %c;", inputs, dtype)
    for row, value in zip(zip(*inputs, strict=True), result, strict=True):
        a, b, c = (Fraction(float(x)) for x in row)
        assert Fraction(float(value)) == nearest(a * b + c, bits, least), row


def test_products_and_sums_would_round_twice():
    a, b, c = _hard_sums(np.float32)
    plain = compute("mul.rn.f32 %y, %a, %b; add.rn.f32 %y, %y, %c;", [a, b, c], np.float32)
    fused = compute("fma.rn.f32 %y, %a, %b, %c;", [a, b, c], np.float32)
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert (plain != fused).any()
    assert (twice != fused).any(), "no case where a sum in float64 is not enough"


def test_fma_of_what_is_not_finite():
    inf, nan, big = np.inf, np.nan, 1e308
    rows = [(inf, 0, 1), (inf, 1, -inf), (nan, 0, 0), (0, 1, nan), (big, 10, -inf), (big, 10, 1)]
    result = compute("fma.rn.f64 %y, %a, %b, %c;", list(np.array(rows, float).T), np.float64)
    expected = np.array([nan, nan, nan, nan, -inf, inf])
    assert np.array_equal(result, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_division_is_rounded_tonearest(dtype):
    bits, least, name = FORMATS[dtype]
    a, b, _ = _hard_sums(dtype)
    a, b = a[b != 0], b[b != 0]
    result = compute(f"div.rn.{name} %y, %a, %b;", [a, b], dtype)
    for x, y, value in zip(a, b, result, strict=True):
        if np.isfinite(value):
            exact = Fraction(float(x)) / Fraction(float(y))
            assert Fraction(float(value)) == nearest(exact, bits, least)


def test_flushing_and_saturation():
    small, x = np.float32(1e-40), np.array([1e-40, -1e-40, 0.5, 3.0, -2.0, np.nan], np.float32)
    assert compute("add.ftz.f32 %y, %a, %b;", [x[:1], x[:1]], np.float32)[0] == 0
    assert compute("add.f32 %y, %a, %b;", [x[:1], x[:1]], np.float32)[0] == 2 * small
    flushed = compute("mul.ftz.f32 %y, %a, 0f3F800000;", [x[:2]], np.float32)
    assert np.signbit(flushed).tolist() == [False, True]
    clamped = compute("add.sat.f32 %y, %a, 0f00000000;", [x[2:]], np.float32)
    assert clamped.tolist() == [0.5, 1, 0, 0]


def test_extremes_prefer_numbers_and_know_signed_zeros():
    a = np.array([np.nan, 1, 0.0, -0.0], np.float32)
    b = np.array([2, np.nan, -0.0, 0.0], np.float32)
    smallest = compute("min.f32 %y, %a, %b;", [a, b], np.float32)
    largest = compute("max.f32 %y, %a, %b;", [a, b], np.float32)
    assert smallest[:2].tolist() == largest[:2].tolist() == [2, 1]
    assert np.signbit(smallest[2:]).all()
    assert not np.signbit(largest[2:]).any()
    assert np.isnan(compute("min.NaN.f32 %y, %a, %b;", [a, b], np.float32)[:2]).all()


def test_approximations_are_within_their_bounds():
    x = np.linspace(0.01, 8, 500, dtype=np.float32)
    wide = x.astype(np.float64)
    for name, truth in (
        ("rcp.approx.f32", 1 / wide),
        ("rsqrt.approx.f32", 1 / np.sqrt(wide)),
        ("sqrt.approx.f32", np.sqrt(wide)),
        ("ex2.approx.f32", 2**wide),
        ("sin.approx.f32", np.sin(wide)),
    ):
        result = compute(f"{name} %y, %a;", [x], np.float32)
        # Correctly rounded: within half a unit, which is at most 2^-24 of the number.
        assert (np.abs(result - truth) <= 2.0**-24 * np.abs(truth)).all(), name


def test_coarse_reciprocal_has_an_empty_lower_half():
    x = np.array([3.0, -7.5, 1e300])
    result = compute("rcp.approx.ftz.f64 %y, %a;", [x], np.float64)
    assert (result.view(np.uint64) & np.uint64(0xFFFFFFFF) == 0).all()
    assert np.abs(result * x - 1).max() <= 2.0**-18


def test_unreached_code_must_be_known_too():
    with pytest.raises(UnsupportedError, match="frobnicate"):
        run("bra END; frobnicate.b32 %r1, %r2; END:", [])
