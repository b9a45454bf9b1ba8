"""Conversions and comparisons of the PTX machine, against exact arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.gpu.ptx.snippets import compute
from tests.gpu.ptx.truth import dtype_of, nearest

FLOATS = [0.5, 1.5, 2.5, -0.5, -1.5, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf, np.nan, 2147483520.0]


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@pytest.mark.parametrize("to", ["s32", "u32", "s64", "u64", "s16"])
@pytest.mark.parametrize("of", ["f32", "f64"])
def test_conversion_to_integers_clamps(mode, to, of):
    x = np.array(FLOATS, dtype_of(of))
    width = int(to[1:])
    # Narrow results are extended into a register of 32 bits.
    held = np.dtype(f"{'i' if to[0] == 's' else 'u'}{max(4, width // 8)}").type
    result = compute(f"cvt.{mode}.{to}.{of} %y, %a;", [x], held)
    integral = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](x)
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if to[0] == "s" else (0, 2**width - 1)
    of_nan = 2 ** (width - 1) if width == 64 or of == "f64" else 0
    if to[0] == "s":
        of_nan = -of_nan

    def clamped(v: float) -> int:
        if np.isnan(v):
            return of_nan
        return low if v <= low else high if v >= high else int(v)

    assert result.tolist() == [clamped(v) for v in integral.tolist()]


@pytest.mark.parametrize(
    ("name", "of", "to", "expected"),
    [
        ("cvt.s64.s32", [-1, 5], "s64", [-1, 5]),
        ("cvt.u64.u32", [2**32 - 1], "u64", [2**32 - 1]),
        ("cvt.u32.u64", [2**40 + 3], "u32", [3]),
        ("cvt.sat.s32.s64", [2**40, -(2**40), 7], "s32", [2**31 - 1, -(2**31), 7]),
        ("cvt.sat.u32.s64", [-5, 2**40], "u32", [0, 2**32 - 1]),
        ("cvt.s32.s8", [200, 100], "s32", [-56, 100]),
        ("cvt.u32.u16", [2**16 + 9], "u32", [9]),
    ],
)
def test_conversion_between_integers(name, of, to, expected):
    source = {"cvt.u32.u16": "u32", "cvt.s32.s8": "u32"}.get(name, name.split(".")[-1])
    result = compute(f"{name} %y, %a;", [np.array(of, dtype_of(source))], dtype_of(to))
    assert result.tolist() == expected


def test_conversion_of_integers_rounds_once():
    x = np.array([2**24 + 1, 2**24 + 3, 2**53 + 1, 2**62 + 2**38 + 1, -(2**60) - 1], np.int64)
    result = compute("cvt.rn.f32.s64 %y, %a;", [x], np.float32)
    assert [Fraction(float(v)) for v in result] == [
        nearest(Fraction(v), 24, -126) for v in x.tolist()
    ]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_conversion_to_float32_rounds_as_asked(mode):
    x = np.array([1 + 2.0**-24, -1 - 2.0**-24, 1 + 3 * 2.0**-24, 0.1, -0.1, 2.0**-150, 1.5])
    result = compute(f"cvt.{mode}.f32.f64 %y, %a;", [x], np.float32).astype(np.float64)
    if mode == "rn":
        assert np.array_equal(result, [float(nearest(Fraction(v), 24, -126)) for v in x])
        return
    assert (np.abs(result - x) < np.spacing(np.abs(x).astype(np.float32))).all()
    assert {
        "rz": np.abs(result) <= np.abs(x),
        "rm": result <= x,
        "rp": result >= x,
    }[mode].all()


def test_halves_are_torchs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, generator=generator) * 2.0 ** torch.linspace(-20, 15, 500)
    x[:2] = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8])
    bits = compute("cvt.rn.bf16.f32 %y, %a;", [x.numpy()], np.uint16)
    assert np.array_equal(bits, x.bfloat16().view(torch.uint16).numpy())
    bits = compute("cvt.rn.f16.f32 %y, %a;", [x.numpy()], np.uint16)
    assert np.array_equal(bits, x.half().view(torch.uint16).numpy())
    wide = compute("cvt.f32.bf16 %y, %a;", [x.bfloat16().view(torch.uint16).numpy()], np.float32)
    assert np.array_equal(wide, x.bfloat16().float().numpy())
    pairs = compute("cvt.rn.bf16x2.f32 %y, %a, %b;", [x.numpy(), -x.numpy()], np.uint32)
    halves = pairs.view(np.uint16).reshape(-1, 2)
    # The first operand becomes the upper half.
    assert np.array_equal(halves[:, 1], x.bfloat16().view(torch.uint16).numpy())
    assert np.array_equal(halves[:, 0], (-x).bfloat16().view(torch.uint16).numpy())


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _compared(name: str, type_name: str, a: np.ndarray, b: np.ndarray) -> list[bool]:
    body = f"setp.{name}.{type_name} %q1, %a, %b; selp.b32 %y, 1, 0, %q1;"
    return compute(body, [a, b], np.uint32).astype(bool).tolist()


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    values = [np.nan, -1.0, 0.0, 2.0]
    a, b = np.array(list(itertools.product(values, values)), np.float32).T
    unordered = [x != x or y != y for x, y in zip(a, b, strict=True)]
    holds = [bool(COMPARISONS[name](x, y)) for x, y in zip(a, b, strict=True)]
    plain = [h and not u for h, u in zip(holds, unordered, strict=True)]
    assert _compared(name, "f32", a, b) == plain
    either = [h or u for h, u in zip(holds, unordered, strict=True)]
    assert _compared(f"{name}u", "f32", a, b) == either
    for type_name in ("s32", "u32"):
        a, b = np.array(list(itertools.product([-1, 0, 5], repeat=2)), np.int32).T
        a, b = a.view(dtype_of(type_name)), b.view(dtype_of(type_name))
        assert _compared(name, type_name, a, b) == COMPARISONS[name](a, b).tolist()


def test_comparisons_of_unordered_numbers():
    a, b = np.array([np.nan, 1, np.nan]), np.array([1, 2, np.nan])
    assert _compared("nan", "f64", a, b) == [True, False, True]
    assert _compared("num", "f64", a, b) == [False, True, False]


def test_comparison_with_both_results_and_another_predicate():
    a = np.arange(6, dtype=np.int32)
    body = """setp.gt.s32 %q3, %a, 1;
        setp.lt.and.s32 %q1|%q2, %a, 4, %q3;
        selp.b32 %y, 1, 0, %q1;
        @%q2 add.s32 %y, %y, 10;"""
    # Second result: the opposite comparison, with the same predicate.
    assert compute(body, [a], np.int32).tolist() == [0, 0, 1, 1, 10, 10]
