"""Programs of macOS and Windows, as far as a node host speaks with them: they note what they were
asked, and answer as the real ones do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

PRINTED = """\
gui/501/org.palyra.node = {
	active count = 1
	path = /Users/ana/Library/LaunchAgents/org.palyra.node.plist
	type = LaunchAgent
	state = running

	program = /usr/bin/python3
	arguments = {
		/usr/bin/python3
		-P
	}

	environment = {
		XPC_SERVICE_NAME => org.palyra.node
		state = mad
		pid = 7
	}

	domain = gui/501 [100015]
	umask = 77
	minimum runtime = 30
	exit timeout = 30
	runs = 3
	pid = 4312
	immediate reason = speculative
	last exit code = 78: EX_CONFIG

	spawn type = daemon (3)
	properties = keepalive | runatload
}
"""

_LAUNCHCTL = """\
case $1 in
bootstrap) touch loaded ;;
bootout)
    [ -e loaded ] || { echo "Boot-out failed: 3: No such process" >&2; exit 3; }
    [ -e stays ] || rm loaded ;;
print)
    case $2 in
    */org.palyra.node)
        [ -e loaded ] || { printf 'Bad request.\\nCould not find service.\\n' >&2; exit 113; }
        cat printed ;;
    *) echo "$2 = {" ;;
    esac ;;
print-disabled) cat disabled ;;
esac
"""

_SCHTASKS = """\
case $1 in
/Create) cp "$5" task.xml ;;
/Delete) rm task.xml ;;
/Query)
    [ -e task.xml ] || { echo "FEHLER: Das System kann die Datei nicht finden." >&2; exit 1; }
    iconv -f UTF-16 -t UTF-8 task.xml ;;
/Run) touch running ;;
/End) [ -e stays ] || rm -f running ;;
esac
"""

_WHOAMI = r"""
echo '"device\zoë","S-1-5-21-1004336348-1177238915-682003330-1001"'
"""


class StandIn:
    """One such program, first on the path; its state is files of a directory."""

    def __init__(self, directory: Path, name: str, script: str) -> None:
        self.directory = directory / f"{name}.state"
        self.directory.mkdir()
        program = directory / name
        program.write_text(
            f"#!/bin/sh\ncd {self.directory}\n"
            'echo "$*" >> calls\n'
            'verb=fail.$(basename "$1")\n'
            "if [ -s $verb ]; then\n"
            "    code=$(head -n 1 $verb); sed -i 1d $verb\n"
            '    if [ "$code" != 0 ]; then\n'
            '        echo "Failed: $code: because" >&2\n'
            '        echo "Try re-running the command as root for richer errors." >&2\n'
            "        exit $code\n"
            "    fi\n"
            "fi\n" + textwrap.dedent(script)
        )
        program.chmod(0o755)

    def fails(self, verb: str, *codes: int) -> None:
        """With these codes at the next calls; 0 is no failure."""
        lines = "".join(f"{code}\n" for code in codes)
        (self.directory / f"fail.{verb}").write_text(lines)

    def has(self, name: str, text: str = "") -> Path:
        """Make a file of its state."""
        file = self.directory / name
        file.write_text(text)
        return file

    def calls(self) -> list[str]:
        """What it was asked since the last time."""
        noted = self.directory / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        noted.unlink(missing_ok=True)
        return lines


def _first_on_path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


def launchctl(directory: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """launchctl, with nothing loaded and nothing disabled."""
    made = StandIn(_first_on_path(directory, monkeypatch), "launchctl", _LAUNCHCTL)
    made.has("printed", PRINTED)
    made.has("disabled", 'disabled services = {\n\t"com.example.other" => disabled\n}\n')
    return made


def schtasks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """schtasks without a task, and whoami."""
    programs = _first_on_path(directory, monkeypatch)
    StandIn(programs, "whoami", _WHOAMI)
    return StandIn(programs, "schtasks", _SCHTASKS)
