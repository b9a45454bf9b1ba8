"""Exact arithmetic to compare the machine with."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def dtype_of(type_name: str) -> type[np.generic]:
    """The NumPy type of a PTX type."""
    kinds = {"u": "u", "s": "i", "b": "u", "f": "f"}
    return np.dtype(f"{kinds[type_name[0]]}{int(type_name[1:]) // 8}").type


def nearest(x: Fraction, bits: int, least_exponent: int) -> Fraction:
    """x rounded to nearest even, to `bits` bits, or fewer below the least exponent."""
    if x == 0:
        return x
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    while abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (max(exponent, least_exponent) - bits + 1)
    return round(x / unit) * unit
