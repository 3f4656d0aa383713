"""A program of the operating system, as far as a test needs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SCRIPT = """\
#!/bin/sh
echo "$*" >> '{calls}'
for word in "$@"; do
    if [ -f '{answers}'/"$word" ]; then
        . '{answers}'/"$word"
        exit
    fi
done
"""


class StandIn:
    """The first program of its name on PATH.  It notes its arguments, and ends with 0."""

    def __init__(self, name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls = directory / f"{name}.calls"
        self._answers = directory / f"{name}.answers"
        self._answers.mkdir()
        programs = directory / "bin"
        programs.mkdir(exist_ok=True)
        script = programs / name
        script.write_text(_SCRIPT.format(calls=self._calls, answers=self._answers))
        script.chmod(0o755)
        if not os.environ["PATH"].startswith(f"{programs}:"):
            monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def answer(self, argument: str, *, out: str = "", err: str = "", code: int = 0) -> None:
        """What it does from now on when ``argument`` is among its arguments; the first that has an
        answer decides."""
        text = self._answers.parent / f"{argument}.{{}}"
        for stream, said in (("out", out), ("err", err)):
            Path(str(text).format(stream)).write_text(said)
        (self._answers / argument).write_text(
            f"cat '{text}'\ncat '{text}' >&2\nexit {code}\n".format("out", "err")
        )

    def calls(self) -> list[str]:
        """The arguments of every call until now, and forget them."""
        said = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return said
