"""Tests of :mod:`palyra.supervision.grace`."""

from __future__ import annotations

from pathlib import Path

from palyra.supervision.grace import LONGEST_S, grace_s


def test_what_is_configured(tmp_path: Path) -> None:
    """Counts, up to the longest; settings that nobody can read keep nothing from being stopped."""
    file = tmp_path / "palyra.toml"
    assert grace_s(tmp_path) == 10.0
    for text, seconds in (
        (f"[node]\nshutdown_grace_s = {LONGEST_S}\n", LONGEST_S),
        (f"[node]\nshutdown_grace_s = {LONGEST_S + 1}\n", 10.0),
        ("[node", 10.0),
    ):
        file.write_text(text)
        assert grace_s(tmp_path) == seconds
    file.unlink()
    file.mkdir()
    assert grace_s(tmp_path) == 10.0
