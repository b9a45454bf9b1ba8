"""The types of PTX, and how NumPy holds them."""

from __future__ import annotations

import numpy as np

WIDTHS = {
    "pred": 1,
    **{f"{kind}{width}": width for kind in "bus" for width in (8, 16, 32, 64)},
    "f16": 16,
    "bf16": 16,
    "f16x2": 32,
    "bf16x2": 32,
    "tf32": 32,
    "f32": 32,
    "f64": 64,
}

_UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def storage(type_name: str) -> type[np.generic]:
    """What a register of this type is held as: unsigned bits, or booleans."""
    return np.bool_ if type_name == "pred" else _UNSIGNED[WIDTHS[type_name]]


def arithmetic(type_name: str) -> type[np.generic]:
    """What an operation on this type computes with; types unknown to NumPy stay bits."""
    if type_name in _FLOATS:
        return _FLOATS[type_name]
    if type_name[0] == "s":
        return _SIGNED[WIDTHS[type_name]]
    return storage(type_name)


def unsigned(width: int) -> type[np.generic]:
    """The unsigned integer of a width in bits."""
    return _UNSIGNED[width]


def signed(width: int) -> type[np.generic]:
    """The signed integer of a width in bits."""
    return _SIGNED[width]


def is_float(type_name: str) -> bool:
    return type_name in _FLOATS or type_name in ("bf16", "tf32", "f16x2", "bf16x2")


def is_signed(type_name: str) -> bool:
    return type_name[0] == "s"


def bytes_of(type_name: str) -> int:
    return WIDTHS[type_name] // 8
