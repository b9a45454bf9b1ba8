"""Whose CUDA kernels the ops launch in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from hessx import backends


@contextmanager
def use(provider: Any) -> Iterator[None]:
    """Within it, ops launch the kernels of `provider`, on tensors of the device that it names.

    Args:
        provider: An object with a function a kernel, as hessx._cuda has them, and the attribute
            `device`. It may have a context manager `watching`, which is entered too.
    """
    watching = getattr(provider, "watching", nullcontext)
    with pytest.MonkeyPatch.context() as patch, watching():
        patch.setattr(backends, "_cuda", lambda: (provider, None))
        yield
