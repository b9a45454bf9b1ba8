"""Packages that only the demo needs."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


class MissingExtraError(ImportError):
    """A package of the extra ``demo`` is not installed."""


def _missing(name: str) -> MissingExtraError:
    return MissingExtraError(
        f"the demo needs the package {name!r}, which is not installed: pip install hessx[demo]"
    )


def require(name: str) -> ModuleType:
    """Import a module of the extra ``demo``.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise _missing(package)
    return importlib.import_module(name)


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        MissingExtraError: If it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(name)
    return Path(spec.submodule_search_locations[0])
