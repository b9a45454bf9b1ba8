"""Numbers as people read them: no more digits than the standard error supports."""

from __future__ import annotations

import math

_MINUS = "\N{MINUS SIGN}"


def decimals(error: float) -> int:
    """Return the decimal places that leave two digits of a standard error, 0 to 6.

    Example:
        >>> decimals(0.034), decimals(12.0)
        (3, 0)
    """
    if not error > 0 or not math.isfinite(error):
        return 2
    return min(6, max(0, 1 - math.floor(math.log10(error))))


def signed(value: float, places: int) -> str:
    """Return the value with its sign, a real minus.

    Example:
        >>> signed(-1.234, 2), signed(0.5, 1)
        ('−1.23', '+0.5')
    """
    return f"{value:+.{places}f}".replace("-", _MINUS)


def with_error(value: float, error: float, places: int) -> str:
    """Return ``value ± error``.

    Example:
        >>> with_error(-1.2345, 0.034, 3)
        '−1.234 ± 0.034'
    """
    return f"{signed(value, places)} ± {error:.{places}f}"
