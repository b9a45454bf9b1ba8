"""The backends that CPU tensors can take, each instruction-set level on its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hessx
from hessx import backends

NATIVE = [("native", level) for level in backends.levels()]


def _name(choice: tuple[str, str | None]) -> str:
    return choice[1] or choice[0]


@pytest.fixture(params=[("reference", None), *NATIVE], ids=_name)
def cpu_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test under every CPU backend in turn."""
    name, level = request.param
    with hessx.backend(name, level):
        yield name


@pytest.fixture(params=NATIVE, ids=_name)
def native_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test under every instruction-set level of the compiled kernels."""
    name, level = request.param
    with hessx.backend(name, level):
        yield level
