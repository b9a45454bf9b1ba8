"""Arithmetic rounded once, as the device rounds it, out of NumPy operations.

NumPy has no fused multiply-add. One is made here from the exact product and a sum rounded to odd,
which a second rounding to fewer bits cannot spoil (Boldo and Melquiond, "Emulation of FMA and
correctly rounded sums", IEEE Transactions on Computers, 2008).
"""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

_SMALLEST_NORMAL_32 = 2.0**-126
# The bits of a float64 that float32 has no room for, and the one pattern of them that is halfway.
_LOST_BITS = np.int64(2**29 - 1)
_HALFWAY = np.int64(2**28)
_SPLIT = 2.0**27 + 1
# Magnitudes for which no part of a product overflows or leaves the normal numbers.
_SAFE_LARGE = 2.0**480
_SAFE_SMALL = 2.0**-400

_libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_libm.fma.restype = ctypes.c_double
_libm.fma.argtypes = [ctypes.c_double] * 3


def fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c of float32, rounded once to nearest even."""
    # 48 bits: the product is exact.
    product = a.astype(np.float64) * b
    addend = c.astype(np.float64)
    total = product + addend
    magnitude = np.abs(total)
    # Two roundings go wrong only where the first one lands halfway between two neighbours.
    suspect = (total.view(np.int64) & _LOST_BITS) == _HALFWAY
    suspect |= (magnitude < _SMALLEST_NORMAL_32) & (magnitude > 0)
    if suspect.any():
        product, addend = np.broadcast_arrays(product, addend)
        total[suspect] = _sum_to_odd(product[suspect], addend[suspect])
    return total.astype(np.float32)


def fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c of float64, rounded once to nearest even."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    high, low = product, _product_error(a, b, product)
    sum_high, sum_low = _two_sum(c, low)
    total_high, total_low = _two_sum(high, sum_high)
    result = total_high + _sum_to_odd(sum_low, total_low)
    unsafe = ~(_is_safe(a) & _is_safe(b) & _is_safe(product) & (np.abs(c) < _SAFE_LARGE))
    # Exact without the splitting: zeros, which masked loads bring in numbers.
    zero = (a == 0) | (b == 0)
    if unsafe.any():
        result = np.where(unsafe, product + c, result)
        for at in np.argwhere(unsafe & ~zero):
            place = tuple(at)
            result[place] = _libm.fma(a[place], b[place], c[place])
    return result


def _is_safe(x: np.ndarray) -> np.ndarray:
    magnitude = np.abs(x)
    return (magnitude < _SAFE_LARGE) & (magnitude > _SAFE_SMALL)


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product_error(a: np.ndarray, b: np.ndarray, product: np.ndarray) -> np.ndarray:
    """What rounding took from a product (Dekker)."""
    scaled = a * _SPLIT
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = b * _SPLIT
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _sum_to_odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, where inexact the neighbour whose last bit is 1."""
    total, error = _two_sum(a, b)
    bits = total.view(np.int64)
    even = (bits & 1) == 0
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where((error != 0) & even, bits + step, bits).view(np.float64)


def flushed(x: np.ndarray) -> np.ndarray:
    """Subnormal numbers of float32 made zeros of their sign."""
    return np.where(np.abs(x) < np.float32(_SMALLEST_NORMAL_32), np.copysign(np.float32(0), x), x)


def saturated(x: np.ndarray) -> np.ndarray:
    """Clamped to [0, 1]; NaN becomes 0."""
    return np.where(np.isnan(x), x.dtype.type(0), np.clip(x, 0, 1) + x.dtype.type(0))


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 numbers of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits of float32 numbers rounded to bfloat16, to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    # The carry of a NaN's payload could turn it into an infinity.
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to the 10 bits of tf32, ties away from zero."""
    bits = x.view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def narrowed(x: np.ndarray, mode: str) -> np.ndarray:
    """float64 numbers as float32, rounded to nearest even, to zero, down or up (rn rz rm rp)."""
    nearest = x.astype(np.float32)
    if mode == "rn":
        return nearest
    too_far = {
        "rz": np.abs(nearest.astype(np.float64)) > np.abs(x),
        "rm": nearest > x,
        "rp": nearest < x,
    }[mode]
    towards = {"rz": np.float32(0), "rm": np.float32(-np.inf), "rp": np.float32(np.inf)}[mode]
    return np.where(too_far, np.nextafter(nearest, towards), nearest)
