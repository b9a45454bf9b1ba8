"""What every command of bench/ answers."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


def assert_shows_help(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that ``--help`` prints how the command is used and leaves with 0."""
    monkeypatch.setattr(sys, "argv", [command.__name__, "--help"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out
