"""Tests of :mod:`palyra.cli.node`."""

from __future__ import annotations

import io
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from palyra.cli import main
from palyra.cli.nodepairing import pairing_line
from palyra.config.addresses import HostPort
from palyra.core.pin import PinCode
from palyra.core.transports import Preference
from palyra.errors import InsecureCodeArgument, Malformed
from palyra.node.files import NodeFiles
from palyra.node.identity import PairingFile
from tests.cli.terminal import Terminal

ALLOW = "--allow-insecure-pairing-code-arg"
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
            "gateway": None,
            "pin": None,
            "pin_typed": False,
            "name": "pi",
            "device_id": "ID",
            "grpc_url": ("h:1",),
            "transport": Preference.GRPC,
            "ca_file": tmp_path / "ca.pem",
        }
    ]


def test_a_pairing_that_is_left(
    started: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while an operator is waited for: it is said that it waits, and how to go on."""
    files = NodeFiles(tmp_path)
    files.identity.open(1, os.urandom)
    files.identity.keep_waiting(PairingFile(1, "ab" * 16, "R", "gw:7443", "PEM"))
    assert main(["node", "run", "--state-root", str(tmp_path)]) == 7
    said = "note  the pairing still waits for an operator\nhint  palyra node run\n"
    assert capsys.readouterr().err == said


def test_a_paired_device_needs_no_option(started: list[dict[str, Any]], tmp_path: Path) -> None:
    """Nothing is asked."""
    assert main(["node", "run", "--state-root", str(tmp_path)]) == 7
    assert started[0]["pairing_uri"] is None
    assert started[0]["gateway"] is None
    assert started[0]["transport"] is None


def test_the_line_as_an_argument_is_refused(
    started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 2, and nothing of it is repeated."""
    assert main(["node", "run", "--pairing-uri", LINE, "--state-root", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: A code as an argument stays in the shell history.\n")
    assert "palyra://" not in err
    assert started == []


@pytest.mark.parametrize("gateway", [["--gateway", "gw"], []])
def test_the_pin_as_an_argument_is_refused(
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    gateway: list[str],
) -> None:
    """Exit 2, nothing of it is repeated, and what to do instead is told."""
    for verb in ("run", "install"):
        args = ["node", verb, *gateway, "--pairing-code", "418207", "--state-root", str(tmp_path)]
        assert main(args) == 2
        err = capsys.readouterr().err
        assert err == (
            "error: A code as an argument stays in the shell history.\n"
            f"hint:  palyra node {verb} --gateway HOST (it asks), or --pairing-code-stdin\n"
        )
    assert started == []


@pytest.mark.parametrize(
    ("gateway", "address"),
    [
        ("home.example.org", HostPort("home.example.org", 7443)),
        ("home.example.org:9443", HostPort("home.example.org", 9443)),
        ("[2001:db8::9]", HostPort("2001:db8::9", 7443)),
    ],
)
def test_a_pin_from_stdin(
    started: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gateway: str,
    address: HostPort,
) -> None:
    """Its first line, for one try: a program cannot be asked again."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(" 2-530 946 \n111111\n"))
    args = ["--gateway", gateway, "--pairing-code-stdin", "--state-root", str(tmp_path)]
    assert main(["node", "run", *args]) == 7
    assert started[0]["gateway"] == address
    assert started[0]["pin"] == PinCode(2, "530946")
    assert (started[0]["pin_typed"], started[0]["pairing_uri"]) == (False, None)


def test_a_pin_as_an_argument_that_is_allowed(
    started: list[dict[str, Any]], tmp_path: Path
) -> None:
    """For tests and for those who know; it is one try too."""
    args = ["--gateway", "gw", "--pairing-code", "418207", ALLOW]
    assert main(["node", "run", *args, "--state-root", str(tmp_path)]) == 7
    assert started[0]["pin"] == PinCode(1, "418207")
    assert started[0]["pin_typed"] is False


@pytest.mark.parametrize("typed", ["", "12345\n", "palyra://x\n"])
def test_a_pin_on_stdin_that_is_none(
    started: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
) -> None:
    """Is refused without being repeated."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    args = ["--gateway", "gw", "--pairing-code-stdin", "--state-root", str(tmp_path)]
    assert main(["node", "run", *args]) == 1
    err = capsys.readouterr().err
    assert "must be six digits" in err
    assert "12345" not in err and "palyra://" not in err
    assert started == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--gateway", "gw", "--pairing-uri", "-"], "give one of them"),
        (["--pairing-code-stdin"], "a PIN goes with --gateway"),
        (
            ["--gateway=gw", "--pairing-code-stdin", "--pairing-code=1", ALLOW],
            "give the PIN once",
        ),
        (["--gateway", "gw"], "--pairing-code-stdin"),
    ],
)
def test_options_that_do_not_go_together(
    started: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    words: str,
) -> None:
    """And a PIN that nobody can be asked for: a service never pairs."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("418207\n"))
    assert main(["node", "run", *args, "--state-root", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
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
    made.type_hidden("palyra://secret")
    made.type("\x03")
    status, seen = made.end()
    assert status == 130
    assert "secret" not in seen


def test_a_person_is_asked_for_the_pin_without_echo(tmp_path: Path) -> None:
    """Until it can be one; nothing was tried with what cannot."""
    made = Terminal(tmp_path, "node", "run", "--gateway", "127.0.0.1:1")
    made.read_until("PIN shown by the gateway:")
    made.type_hidden("4182\n")
    made.read_until("must be six digits, as the gateway shows them.\r\nPIN shown by the gateway:")
    made.type_hidden("418 207\n")
    status, seen = made.end()
    assert status == 3
    assert "4182" not in seen and "418 207" not in seen
    assert seen.endswith(
        "error: Cannot reach 127.0.0.1:1: connection refused.\n"
        "hint:  on the gateway: palyra doctor\n"
    )
