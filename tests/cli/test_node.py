"""Tests of :mod:`palyra.cli.node`."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from palyra.cli import main
from palyra.cli.node import pairing_line
from palyra.errors import InsecureCodeArgument, Malformed
from tests.cli.terminal import Terminal

LINE = "palyra://home.example.org:7443/?ca=abc&t=def"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options with which a node host would have been started."""
    seen: list[dict[str, Any]] = []
    fake = types.ModuleType("palyra.node.foreground")

    def options(**given: Any) -> dict[str, Any]:
        return given

    def run(given: dict[str, Any]) -> int:
        seen.append(given)
        return 7

    fake.NodeRunOptions = options  # type: ignore[attr-defined]
    fake.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "palyra.node.foreground", fake)
    return seen


def test_options_reach_the_node_host(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, with the line from stdin; its exit status is ours."""
    (tmp_path / "ca.pem").touch()
    monkeypatch.setattr(sys, "stdin", io.StringIO(LINE + "\nmore\n"))
    args = ["--pairing-uri", "-", "--name", "pi", "--device-id", "ID", "--grpc-url", "h:1"]
    args += ["--transport", "grpc", "--gateway-ca-file", str(tmp_path / "ca.pem")]
    assert main(["node", "run", *args, "--state-root", str(tmp_path)]) == 7
    assert started == [
        {
            "state_root": tmp_path,
            "pairing_uri": LINE,
            "name": "pi",
            "device_id": "ID",
            "grpc_url": "h:1",
            "transport": "grpc",
            "ca_file": tmp_path / "ca.pem",
        }
    ]


def test_a_paired_device_needs_no_option(started: list[dict[str, Any]], tmp_path: Path) -> None:
    """Nothing is asked."""
    assert main(["node", "run", "--state-root", str(tmp_path)]) == 7
    assert started[0]["pairing_uri"] is None
    assert started[0]["transport"] == "auto"


def test_the_line_as_an_argument_is_refused(
    started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 2, and nothing of it is repeated."""
    assert main(["node", "run", "--pairing-uri", LINE, "--state-root", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: A code as an argument stays in the shell history.\n")
    assert "palyra://" not in err
    assert started == []


def test_where_the_line_comes_from(tmp_path: Path) -> None:
    """A file, or the argument where that is allowed; nothing is nothing."""
    (tmp_path / "line").write_text(f"  {LINE}\n")
    assert pairing_line(f"@{tmp_path / 'line'}", allow_insecure=False) == LINE
    assert pairing_line(LINE, allow_insecure=True) == LINE
    assert pairing_line(None, allow_insecure=False) is None
    with pytest.raises(InsecureCodeArgument):
        pairing_line(LINE, allow_insecure=False)


def test_a_file_that_is_away(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is named."""
    args = ["--pairing-uri", f"@{tmp_path / 'none'}", "--state-root", str(tmp_path)]
    assert main(["node", "run", *args]) == 2
    assert f"{tmp_path / 'none'} cannot be read" in capsys.readouterr().err


def test_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of stdin is no code."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(Malformed, match="is empty"):
        pairing_line("-", allow_insecure=False)


def test_a_person_is_asked_without_echo(tmp_path: Path) -> None:
    """What is pasted is not on the screen; Ctrl-C is 130."""
    made = Terminal(tmp_path, "node", "run", "--pairing-uri", "-")
    made.read_until("Pairing line:")
    made.type("palyra://secret")
    made.type("\x03")
    status, seen = made.end()
    assert status == 130
    assert "secret" not in seen
