"""Tests of :mod:`palyra.cli.main`: the whole command, as a process and in this one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import palyra
from palyra.cli import main
from palyra.cli.client import Console
from tests.cli.conftest import FakeConsole
from tests.cli.things import node, node_list, problem

HEAVY = ("grpc", "twisted", "rich", "cryptography", "sqlalchemy", "psutil", "segno")
VERBS = [
    "quickstart",
    "pairing",
    "approvals",
    "node",
    "nodes",
    "jobs",
    "capability",
    "console",
    "operators",
    "context",
    "mcp",
    "ca",
    "audit",
    "state",
    "doctor",
]
IMPORTED = f"""
import sys
from palyra.cli import main
status = main(["nodes", "list", "--state-root", sys.argv[1]])
print([name for name in {HEAVY!r} if name in sys.modules], status)
"""


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_client_command_imports_little(tmp_path: Path) -> None:
    """Asking the gateway needs neither its libraries nor, without a terminal, those of tables."""
    assert python("-c", IMPORTED, str(tmp_path)).stdout == "[] 3\n"


def test_python_dash_m() -> None:
    """``python -m palyra`` is the command."""
    done = python("-m", "palyra", "--version")
    assert done.stdout == f"palyra {palyra.__version__}\n", done.stderr


def test_alone_it_lists_the_verbs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The groups in the order of use; the first hint only where there is no state root."""
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(tmp_path / "none"))
    assert main([]) == 0
    first = capsys.readouterr()
    verbs = [line.split()[0] for line in first.out.split("Commands:\n")[1].splitlines()]
    assert verbs == VERBS
    assert first.err == "hint  palyra quickstart\n"
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(tmp_path))
    assert main([]) == 0
    assert capsys.readouterr().err == ""


def test_a_group_alone_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of use, exit 0."""
    assert main(["nodes"]) == 0
    out = capsys.readouterr().out
    assert out.index("  list ") < out.index("  show ") < out.index("  revoke ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them is where the top group says it is."""
    assert main([verb, "--help"]) == 0
    assert f"Usage: palyra {verb}" in capsys.readouterr().out


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, one sentence, and the help that says more."""
    assert main(["nodes", "frob"]) == 2
    assert capsys.readouterr().err == (
        "error: No such command 'frob'.\nhint:  palyra nodes --help\n"
    )
    assert main(["pairing", "code", "--ttl", "soon", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)
    assert error["code"] == "usage"
    assert "'soon' is not a duration such as 30s, 10m or 1h" in error["error"]


def test_no_gateway(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit 3, and how to start one."""
    assert main(["nodes", "list", "--state-root", str(tmp_path)]) == 3
    assert capsys.readouterr() == (
        "",
        f"error: No gateway runs on state root {tmp_path}.\n"
        "hint:  twistd -n palyra, or set PALYRA_STATE_ROOT\n",
    )


def test_a_refusal(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the gateway's own words."""
    console.on("GET", "nodes/pi", problem(), status=412)
    assert console.run(capsys, "nodes", "show", "pi") == (
        1,
        "",
        "error: pi is offline, last heard 3h ago; nothing was queued.\n"
        "hint:  palyra nodes show pi\n",
    )


def test_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ctrl-C is 130 and only ends the line."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "get", interrupt)
    assert main(["nodes", "show", "pi", "--state-root", str(tmp_path)]) == 130
    assert capsys.readouterr() == ("", "\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/srv/x"), "/srv/x cannot be used (read-on"),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/x"), "No space left on /srv/x;"),
    ],
)
def test_what_the_system_refuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: OSError,
    sentence: str,
) -> None:
    """Of a file is a sentence, whoever used it; without a file it is a fault of the program."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Console, "get", fail)
    assert main(["nodes", "show", "pi", "--state-root", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    error.filename = None
    with pytest.raises(OSError, match=error.strerror):
        main(["nodes", "show", "pi", "--state-root", str(tmp_path)])


def test_the_state_root_of_the_environment(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PALYRA_STATE_ROOT names the gateway where no option does."""
    console.on("GET", "nodes", node_list(node()))
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(console.root))
    assert main(["nodes", "list"]) == 0
    assert "\tpi\tonline\t" in capsys.readouterr().out


def test_a_reader_that_goes_away(console: FakeConsole) -> None:
    """``palyra nodes list | head -1`` ends without a stack trace."""
    console.on("GET", "nodes", node_list(*[node(name="x" * 900)] * 100))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "palyra", "nodes", "list", "--state-root", str(console.root)],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, b"")
