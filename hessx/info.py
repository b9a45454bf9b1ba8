"""What is installed and which backends are there."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hessx import backends


@dataclass(frozen=True)
class Info:
    """Versions and backends of this installation; ``str`` gives them as a table.

    Attributes:
        versions: Version of each package, or "not installed".
        backends: For each backend what it runs with, or "missing: " and the reason.
    """

    versions: Mapping[str, str]
    backends: Mapping[str, str]

    def __str__(self) -> str:
        rows = [*self.versions.items(), *self.backends.items()]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in self.versions.items()]
        lines += ["", "backends"]
        lines += [f"{name:<{width}}  {value}" for name, value in self.backends.items()]
        return "\n".join(lines)


def info() -> Info:
    """Report versions and backends, and for each missing backend the reason.

    Returns:
        The report; print it, or read its two mappings.

    Example:
        >>> import hessx
        >>> hessx.info().backends["reference"]
        'plain torch, any device'
    """
    versions = {"hessx": _version("hessx"), "python": platform.python_version()}
    versions |= {name: _version(name) for name in ("torch", "numpy", "scipy", "triton")}
    versions["cupy"] = _cupy_version()
    return Info(versions, {name: _describe(name) for name in backends.BACKENDS})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cupy_version() -> str:
    # The distribution's name has the CUDA version in it, or nothing when built from source.
    distributions = importlib.metadata.packages_distributions().get("cupy", ())
    return ", ".join(_version(name) for name in distributions) or "not installed"


def _level() -> str:
    try:
        return backends.cpu_level()
    except (RuntimeError, ValueError) as error:
        # A backend that cannot be forced is what somebody reads this report for.
        return f"undecided ({error})"


def _describe(name: str) -> str:
    reason = backends.missing(name)
    if name == "cuda":
        kernels = _cuda_kernels()
        return f"missing: {'; '.join(filter(None, [reason, kernels]))}" if reason else kernels
    if reason:
        return f"missing: {reason}"
    if name == "native":
        levels = backends.levels()
        return (
            f"C++, CPU, level {_level()} of {', '.join(levels)}, {torch.get_num_threads()} threads"
        )
    if name == "triton":
        interpreted = backends.missing(name, "cpu") is None
        return "Triton, interpreted on the CPU" if interpreted else "Triton, CUDA tensors"
    return "plain torch, any device"


def _cuda_kernels() -> str:
    """Say where the CUDA kernels come from, whether or not there is a GPU for them."""
    try:
        kernels = backends.cuda()
    except RuntimeError:
        return ""
    architectures = getattr(kernels, "architectures", None)
    if architectures is None:
        said = "CUDA C++, CUDA tensors, compiled by CuPy when first used"
        reason = backends.passed_over()
        return f"{said} ({reason})" if reason else said
    return f"CUDA C++, CUDA tensors, compiled for sm_{', sm_'.join(map(str, architectures))}"
