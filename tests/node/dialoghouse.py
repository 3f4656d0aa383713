"""A desktop made of recording programs, and a mediator that asks on it without a reactor."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred

from palyra.capability.desktopsession import DesktopSession
from palyra.node.dialogs import DialogMediator
from palyra.node.dialogwindow import Desktop
from palyra.node.mediation import Answer, Question

URL = "https://example.org/"


def question(**given: Any) -> Question:
    """ana, who asks to open a page."""
    facts: dict[str, Any] = {
        "question_id": "A",
        "requested_by": "ana",
        "capability": "desktop.open_url",
        "risk": "medium",
        "argument": f'{{"url":"{URL}"}}',
        "opens": URL,
    }
    return Question(**facts | given)


class House:
    """A directory of programs that record how they were called, and the mediator."""

    def __init__(self, root: Path, platform: str = "linux", systemd_run: bool = False) -> None:
        self.root = root
        self.now_s = 100.0
        self.stopped_units: list[str] = []
        self.answers: list[Answer] = []
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self.variables = {"DISPLAY": ":9"}
        if systemd_run:
            self.program("systemd-run", 'until [ "$1" = -- ]; do shift; done; shift; "$@"')
        self._systemd_run = str(root / "systemd-run") if systemd_run else ""
        self.desktop = Desktop(
            platform=platform,
            environ={"PATH": "/usr/bin:/bin", "LANG": "xx"},
            session=lambda _: DesktopSession(self.variables, self._systemd_run),
            which=lambda name: str(path) if (path := root / name).exists() else None,
            stop_unit=self._stop_unit,
        )
        self.mediator = DialogMediator(
            call_from_thread=lambda function, *given: self._calls.put((function, given)),
            elapsed_s=lambda: self.now_s,
            desktop=self.desktop,
            person=lambda: "bo",
        )

    def _stop_unit(self, unit: str, environ: Mapping[str, str]) -> None:
        self.stopped_units.append(unit)

    def program(self, name: str, script: str) -> None:
        """Put a program there: it records its arguments, input and locale, then does ``script``."""
        at = shlex.quote(str(self.root / name))
        path = self.root / name
        path.write_text(
            f'#!/bin/sh\nfor each in "$@"; do printf "%s\\0" "$each"; done >{at}.argv\n'
            f'echo "$LC_ALL,$DISPLAY" >{at}.env\n{script}\n'
        )
        path.chmod(0o755)

    def argv(self, name: str) -> list[str]:
        """What it was called with last."""
        return (self.root / f"{name}.argv").read_text().split("\0")[:-1]

    def ask(self, **given: Any) -> Deferred[Answer]:
        """Ask; the answer is among :attr:`answers` later."""
        answer = self.mediator.ask(question(**given))
        answer.addCallbacks(self.answers.append, lambda _: None)
        return answer

    def turn(self) -> None:
        """Wait for one call of a thread to the reactor, and make it."""
        function, given = self._calls.get(timeout=30)
        function(*given)

    def answer(self, **given: Any) -> Answer:
        """The answer to one question."""
        self.ask(**given)
        self.turn()
        return self.answers[-1]

    def close(self) -> None:
        """Stop the mediator and see that it did."""
        stopped = self.mediator.stop()
        while not stopped.called:
            self.turn()
