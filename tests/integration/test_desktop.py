"""Real windows: what desktop.* opens is on a screen, and dialogs are answered by a keyboard."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from palyra_capabilities import desktop
from palyra_capabilities.opener import SystemOpener

from palyra.capability.desktopsession import DesktopSession
from palyra.node.dialogs import DialogMediator
from palyra.node.dialogwindow import Desktop
from palyra.node.mediation import Answer
from tests.capabilities.running import run
from tests.integration.xserver import MISSING, Screen, screen
from tests.node.dialoghouse import question

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} on this machine")
URL = "https://xn--bcher-kva.example/a?b=%24%7BHOME%7D"
BROWSER = '#!/bin/sh\nzenity --info --no-markup --title="$1" --text="$1" &\necho $! >"$0.pid"\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A screen for the tests of this file."""
    with screen(tmp_path_factory.mktemp("home")) as made:
        yield made


def session(made: Screen) -> DesktopSession:
    return DesktopSession({"DISPLAY": made.display})


@pytest.mark.parametrize("name", ["xdg-open", "gio"])
def test_an_opened_page_is_on_the_screen(shared: Screen, tmp_path: Path, name: str) -> None:
    """desktop.open_url hands the checked URL to the desktop's program, whose window shows it and
    stays when the run has ended."""
    browser = tmp_path / name
    browser.write_text(BROWSER if name == "xdg-open" else BROWSER.replace("$1", "$3"))
    browser.chmod(0o755)
    opener = SystemOpener(
        platform="linux",
        environ=shared.environ(),
        session=lambda _: session(shared),
        which=lambda wanted: str(browser) if wanted == name else None,
    )
    open_url, _ = desktop.capabilities(opener)
    url = {"url": "https://bücher.example/a?b=%24%7BHOME%7D"}
    outcome = run(open_url, json.dumps(url).encode())
    pid = int((tmp_path / f"{name}.pid").read_text())
    try:
        assert json.loads(outcome.output) == {"opened": True, "url": URL}
        window = shared.window("^https://")
        assert shared.xdotool("getwindowname", window).stdout.strip() == URL
    finally:
        os.kill(pid, signal.SIGKILL)


class Asking:
    """A mediator whose dialogs are on a screen."""

    def __init__(self, made: Screen, program: str) -> None:
        self._calls: SimpleQueue[Any] = SimpleQueue()
        self.mediator = DialogMediator(
            call_from_thread=lambda *call: self._calls.put(call),
            person=lambda: "bo",
            desktop=Desktop(
                platform="linux",
                environ=made.environ(),
                session=lambda _: session(made),
                which=lambda name: shutil.which(name) if name == program else None,
            ),
        )
        self.answers: list[Answer] = []

    def turn(self) -> None:
        function, *given = self._calls.get(timeout=60)
        function(*given)

    def close(self) -> None:
        stopped = self.mediator.stop()
        while not stopped.called:
            self.turn()


KDIALOG = pytest.param("kdialog", marks=pytest.mark.skipif(
    shutil.which("kdialog") is None, reason="no kdialog on this machine"
))  # fmt: skip
ONCE = {"zenity": ("Tab", "Return"), "kdialog": ("Down", "space", "Return")}


@pytest.mark.parametrize("program", ["zenity", KDIALOG])
@pytest.mark.parametrize(
    ("keys", "choice"),
    [(("Escape",), "no"), (("Return",), "no"), (None, "once")],
    ids=["escape", "return", "button"],
)
def test_a_dialog_by_keyboard(
    shared: Screen, program: str, keys: tuple[str, ...] | None, choice: str
) -> None:
    """Escape and a quick Return are no; yes takes the way to its button."""
    asking = Asking(shared, program)
    try:
        hostile = '<b>x</b>&amp; \\n "é" --no-markup'
        asked = asking.mediator.ask(question(opens=hostile, scope="https://example.org"))
        asked.addCallback(asking.answers.append)
        shared.press(shared.window("^Palyra"), *(ONCE[program] if keys is None else keys))
        asking.turn()
        (answer,) = asking.answers
        assert (answer.choice, answer.decided_by) == (choice, "bo in a dialog")
    finally:
        asking.close()


def test_a_dialog_that_is_taken_back(shared: Screen) -> None:
    """A question that needs no answer any more leaves the screen."""
    asking = Asking(shared, "zenity")
    try:
        asked = asking.mediator.ask(question())
        asked.addErrback(lambda _: None)
        window = shared.window("^Palyra")
        asked.cancel()
        asking.turn()
        assert not shared.is_open(window)
    finally:
        asking.close()


def test_a_screen_that_is_gone(tmp_path: Path) -> None:
    """A display that does not answer is nobody's no: no dialog could be shown."""
    asking = Asking(Screen(":4095", tmp_path), "zenity")
    try:
        asking.mediator.ask(question()).addCallback(asking.answers.append)
        asking.turn()
        assert asking.answers[0].code == "mediation_unavailable"
    finally:
        asking.close()
