"""Putting a mutated source in the place of a module of the package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def name_of(path: str) -> str:
    """Name of the module of a file, which is given relative to the root."""
    return ".".join(Path(path).with_suffix("").parts)


def install(path: str, source: str, folder: Path) -> None:
    """Make `source` the module of `path`, for all that import it from now on.

    Args:
        path: The module's file, relative to the root.
        source: What it is to contain.
        folder: Where to write it: Triton reads kernels from the file they came from.
    """
    name = name_of(path)
    file = folder / Path(path).name
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    parent, _, attribute = name.rpartition(".")
    setattr(importlib.import_module(parent), attribute, module)
    spec.loader.exec_module(module)
