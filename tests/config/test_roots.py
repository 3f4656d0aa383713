"""Where state lives when nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.config.roots import ENVIRONMENT, default_state_root


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``PALYRA_STATE_ROOT`` overrides; a relative one is taken from here, ~ from home."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert default_state_root() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, "here")
    assert default_state_root() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(ENVIRONMENT, "~/there")
    assert default_state_root() == tmp_path / "there"


@pytest.mark.parametrize("value", [None, ""])
def test_the_platform_decides(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Without it, or with an empty one, the user's data directory; nothing is made there."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    if value is not None:
        monkeypatch.setenv(ENVIRONMENT, value)
    assert default_state_root().name == "palyra"
    assert default_state_root().is_absolute()
