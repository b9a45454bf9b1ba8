"""Which implementation of an op runs: what is installed, what was forced, and why one is missing.

Without a ``with backend(...)`` block the environment decides, read when the first op is called:
``HESSX_BACKEND`` (auto, reference, native, triton or cuda) and ``HESSX_CPU_LEVEL`` (x86-64,
x86-64-v3 or x86-64-v4).

A forced backend serves every op that it implements. An op that it does not implement in any
installation takes its automatic backend, so that a whole pipeline can run with one forced; an op
that it implements, but not here or not for this device, is an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

BACKENDS = ("reference", "native", "triton", "cuda")

# The first one that implements the op and is there serves tensors of that device; any other device
# takes the reference. What streams is written in Triton, what is irregular in CUDA C++ (few ops
# are both).
_PREFERENCE = {"cpu": ("native", "reference"), "cuda": ("triton", "cuda", "reference")}


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
            ``"cuda"`` (CUDA C++, CUDA tensors). Ops that it does not implement in any
            installation take their automatic backend.
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


def choose(device: str, implemented: Collection[str] = BACKENDS) -> str:
    """Name the backend that serves an op on tensors of a device type now.

    Args:
        device: Device type, ``tensor.device.type``.
        implemented: The backends that implement the op.

    Returns:
        One of ``BACKENDS``.

    Raises:
        RuntimeError: If the forced backend is missing or cannot serve this device.
    """
    name = _current().name
    if name not in implemented:
        return _automatic(device, implemented)
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
        return _cuda_missing(device)
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


def cuda() -> Any:
    """Return the CUDA kernels: the compiled module, or CuPy's compilation of the same sources.

    Either has one function a kernel, ``kernel(grid, block, shared, device, stream, *arguments)``,
    and the attribute ``device``, the type of the tensors that it takes.

    Raises:
        RuntimeError: If there is neither; the message says why.
    """
    kernels, reason = _cuda()
    if kernels is None:
        raise RuntimeError(f"backend 'cuda' is missing: {reason}")
    return kernels


def passed_over() -> str | None:
    """Say why the compiled module ``hessx._cuda``, though it is there, does not serve here.

    Returns:
        The reason, or None if it serves or was not built.
    """
    module, _ = _compiled_cuda()
    return None if module is None else _without_code(module.architectures)


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


def _automatic(device: str, implemented: Collection[str]) -> str:
    for name in _PREFERENCE.get(device, ("reference",)):
        if name not in implemented:
            continue
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


def _cuda() -> tuple[Any | None, str | None]:
    module, reason = _compiled_cuda()
    if module is not None:
        reason = passed_over()
        if reason is None:
            return module, None
    kernels, no_cupy = _cupy_kernels()
    return kernels, None if kernels is not None else f"{reason}; {no_cupy}"


@cache
def _compiled_cuda() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("hessx._cuda"), None
    except ImportError as error:
        return None, (
            "the compiled module hessx._cuda cannot be imported "
            f"(it is built with HESSX_BUILD_CUDA=1): {error}"
        )


@cache
def _cupy_kernels() -> tuple[Any | None, str | None]:
    try:
        return importlib.import_module("hessx.nvrtc").CupyKernels(), None
    except (ImportError, FileNotFoundError) as error:
        return None, str(error)


def _without_code(architectures: tuple[int, ...]) -> str | None:
    # Only where torch has started CUDA already: a child process could not use it after a fork.
    if not torch.cuda.is_initialized():
        return None
    for major, minor in _capabilities():
        capability = 10 * major + minor
        # Machine code runs on later GPUs of the same major version; PTX, of the last, on all.
        same = any(a // 10 == major and a <= capability for a in architectures)
        if not same and capability < architectures[-1]:
            return (
                f"hessx._cuda was built for {architectures}, not for compute capability "
                f"{major}.{minor} (HESSX_CUDA_ARCHITECTURES)"
            )
    return None


@cache
def _capabilities() -> tuple[tuple[int, int], ...]:
    return tuple(map(torch.cuda.get_device_capability, range(torch.cuda.device_count())))


def _cuda_missing(device: str | None) -> str | None:
    kernels, reason = _cuda()
    if kernels is None:
        return reason
    if kernels.device == "cuda" and not torch.cuda.is_available():
        return "torch finds no GPU"
    return _wrong_device(kernels.device, device)


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
