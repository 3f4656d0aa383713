"""Tests of :mod:`palyra.mcp.token`."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.errors import McpTokenUnusable
from palyra.mcp.token import token_of


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """256 bits, mode 0600; the next start reads the same."""
    file = tmp_path / "token"
    made = token_of(file)
    assert len(made) == 43 and file.stat().st_mode & 0o777 == 0o600
    assert token_of(file) == made == file.read_bytes().strip()


@pytest.mark.parametrize(
    "content", [b"", b"short", b"x" * 31, b"a b" * 20, b"\xff" * 40, b"x" * 999]
)
def test_what_is_no_token(tmp_path: Path, content: bytes) -> None:
    """It is refused, and not shown."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(McpTokenUnusable) as refused:
        token_of(file)
    assert not content or content.decode("latin-1") not in refused.value.problem


def test_others_may_read_it(tmp_path: Path) -> None:
    """Then it is no secret."""
    file = tmp_path / "token"
    token_of(file)
    file.chmod(0o644)
    with pytest.raises(McpTokenUnusable, match="others may read it"):
        token_of(file)


def test_it_cannot_be_written(tmp_path: Path) -> None:
    """The system's reason is told."""
    with pytest.raises(McpTokenUnusable, match="No such file"):
        token_of(tmp_path / "missing" / "token")
