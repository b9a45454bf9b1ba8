"""Which implementation of an op runs: what is installed, what was forced, and why one is missing.

Without a ``with backend(...)`` block the environment decides, read when the first op is called:
``HESSX_BACKEND`` (auto, reference, native, triton or cuda) and ``HESSX_CPU_LEVEL`` (x86-64,
x86-64-v3 or x86-64-v4).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch

BACKENDS = ("reference", "native", "triton", "cuda")

# The first one that is there serves tensors of that device; any other device takes the reference.
_PREFERENCE = {"cpu": ("native", "reference"), "cuda": ("triton", "reference")}


@dataclass(frozen=True)
class _Choice:
    name: str
    level: str | None


_choice: ContextVar[_Choice | None] = ContextVar("hessx_backend", default=None)


@contextmanager
def backend(name: str, level: str | None = None) -> Iterator[None]:
    """Force the backend of every op that is called inside the ``with`` block, in this context only.

    Args:
        name: ``"auto"``, ``"reference"`` (plain torch), ``"native"`` (C++, CPU tensors),
            ``"triton"`` (CUDA tensors; CPU tensors too under ``TRITON_INTERPRET=1``) or
            ``"cuda"``.
        level: Instruction-set level of the native kernels, one of ``hessx.backends.levels()``;
            the best that this processor has when not given.

    Raises:
        ValueError: If the name or the level does not exist.
        RuntimeError: If the backend or the level is not available here; the message says why.

    Example:
        >>> import hessx
        >>> with hessx.backend("reference"):
        ...     draws = hessx.ops.normal(2, 3, seed=0)
    """
    if level is None and name in ("auto", "native"):
        level = _environment_level()
    token = _choice.set(_checked(name, level, argument="name"))
    try:
        yield
    finally:
        _choice.reset(token)


def choose(device: str) -> str:
    """Name the backend that serves tensors of a device type now.

    Args:
        device: Device type, ``tensor.device.type``.

    Returns:
        One of ``BACKENDS``.

    Raises:
        RuntimeError: If the forced backend is missing or cannot serve this device.
    """
    name = _current().name
    if name == "auto":
        return _automatic(device)
    if reason := missing(name, device):
        raise RuntimeError(f"backend {name!r} was forced for a {device} tensor, but {reason}")
    return name


def missing(name: str, device: str | None = None) -> str | None:
    """Say why a backend cannot be used.

    Args:
        name: One of ``BACKENDS``.
        device: Device type it should serve; any device when not given.

    Returns:
        The reason, or None if the backend is available.
    """
    if name == "native":
        return _wrong_device("cpu", device) or _native()[1]
    if name == "triton":
        return _triton_missing(device)
    if name == "cuda":
        return _wrong_device("cuda", device) or "this version has no CUDA C++ kernels"
    return None


def native() -> ModuleType:
    """Return the compiled module.

    Raises:
        RuntimeError: If it is not there; the message says why.
    """
    module, reason = _native()
    if module is None:
        raise RuntimeError(f"backend 'native' is missing: {reason}")
    return module


def levels() -> tuple[str, ...]:
    """List the instruction-set levels of the native kernels that run here, the best one last."""
    module, _ = _native()
    return () if module is None else tuple(module.levels())


def cpu_level() -> str:
    """Name the instruction-set level that the native kernels use now."""
    return _current().level or _best_level()


@cache
def _best_level() -> str:
    return levels()[-1]


def _current() -> _Choice:
    return _choice.get() or _environment()


@cache
def _environment() -> _Choice:
    # Read once: looking it up at each call would cost more than a small op.
    name = os.environ.get("HESSX_BACKEND", "auto")
    return _checked(name, _environment_level(), argument="HESSX_BACKEND")


def _environment_level() -> str | None:
    return os.environ.get("HESSX_CPU_LEVEL") or None


def _checked(name: str, level: str | None, *, argument: str) -> _Choice:
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"{argument} must be 'auto' or one of {BACKENDS}, got {name!r}")
    if level is not None and name not in ("auto", "native"):
        raise ValueError(f"level belongs to the native backend, got level={level!r} with {name!r}")
    if name != "auto" and (reason := missing(name)):
        raise RuntimeError(f"backend {name!r} is missing: {reason}")
    if level is not None and level not in (known := native().all_levels()):
        raise ValueError(f"level must be one of {tuple(known)}, got {level!r}")
    if level is not None and level not in levels():
        raise RuntimeError(f"level {level!r} is not supported by this processor, only {levels()}")
    return _Choice(name, level)


def _automatic(device: str) -> str:
    for name in _PREFERENCE.get(device, ("reference",)):
        reason = missing(name, device)
        if reason is None:
            return name
        _warn_once(name, reason)
    return "reference"


@cache
def _warn_once(name: str, reason: str) -> None:
    warnings.warn(
        f"hessx runs without its {name} kernels: {reason}; see hessx.info()",
        RuntimeWarning,
        stacklevel=2,
    )


@cache
def _native() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("hessx._native"), None
    except ImportError as error:
        return None, (
            "the compiled module hessx._native cannot be imported "
            f"(it is not built with HESSX_BUILD_NATIVE=0): {error}"
        )


def _triton_missing(device: str | None) -> str | None:
    if not _triton_installed():
        return "the package triton is not installed"
    # Triton decides when it decorates a kernel whether to interpret it, from this variable.
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device == "cpu":
        return "Triton runs CPU tensors only under TRITON_INTERPRET=1"
    if not torch.cuda.is_available():
        return "torch finds no GPU (TRITON_INTERPRET=1 interprets the kernels on the CPU)"
    return _wrong_device("cuda", device)


@cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _wrong_device(served: str, device: str | None) -> str | None:
    if device is None or device == served:
        return None
    return f"it serves {served} tensors only"
