"""Tests of :mod:`palyra.node.dialogs`: real processes, whose programs are recording ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from palyra.capability.desktopsession import DesktopSession
from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.node.dialogs import MAX_WAITING, SETTLE_S, DialogMediator, person_here
from palyra.node.dialogtext import shown
from palyra.node.dialogwindow import Desktop
from palyra.node.mediation import DENIED, UNAVAILABLE, IDialogs, IMediator
from tests.node.dialoghouse import House, question

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the recording programs are scripts")
STAYS = 'sleep 600 & echo "$$ $!" >"$0.tmp"; mv "$0.tmp" "$0.pids"; wait'


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def alive(pid: int) -> bool:
    """Whether that process runs; one that was ended and nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(path: Path) -> list[int]:
    """The processes of a program that stays, as soon as it runs."""
    until = time.monotonic() + 30
    while not (found := path.with_name(f"{path.name}.pids")).exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return [int(each) for each in found.read_text().split()]


def wait_until_gone(found: list[int]) -> None:
    until = time.monotonic() + 30
    while any(alive(each) for each in found):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_interfaces(house: House) -> None:
    """It is a mediator of dialogs."""
    assert verifyObject(IDialogs, house.mediator)
    assert verifyObject(IMediator, house.mediator)


@pytest.mark.parametrize(
    ("script", "choice", "code", "by"),
    [
        ("exit 0", ONCE, "", "bo in a dialog"),
        ("exit 1", REFUSED, DENIED, "bo in a dialog"),
        ("echo Allow for this session; exit 1", FOR_SESSION, "", "bo in a dialog"),
        ("echo Always allow; exit 1", ALWAYS, "", "bo in a dialog"),
        ("exit 5", REFUSED, "mediation_timeout", ""),
        ("exit 255", REFUSED, UNAVAILABLE, ""),
        ("echo nonsense; exit 0", REFUSED, UNAVAILABLE, ""),
        ("echo cannot open display >&2; exit 1", REFUSED, UNAVAILABLE, ""),
        ("kill -9 $$", REFUSED, UNAVAILABLE, ""),
        ("yes | head -c 100000; exit 1", REFUSED, UNAVAILABLE, ""),
    ],
)
def test_zenity(house: House, script: str, choice: str, code: str, by: str) -> None:
    """The program gets the text as one argument; its end is the answer, and who gave it."""
    house.program("zenity", script)
    answer = house.answer(scope="https://example.org", until_s=130.0)
    assert (answer.choice, answer.code, answer.decided_by) == (choice, code, by)
    text = shown(question(scope="https://example.org"), 30).text
    assert house.argv("zenity")[-2:] == ["--timeout=35", f"--text={text}"]
    assert (house.root / "zenity.env").read_text() == "C.UTF-8,:9\n"


def test_what_was_not_offered_is_not_given(house: House) -> None:
    """A yes for always is no answer to a question that did not offer it."""
    house.program("kdialog", "echo always")
    assert house.answer().code == UNAVAILABLE
    assert house.answer(scope="x").choice == ALWAYS


def test_plasma_has_its_own(house: House) -> None:
    """On a Plasma desktop kdialog is asked, though zenity is there too."""
    house.program("zenity", "exit 0")
    house.program("kdialog", "echo session")
    house.variables["XDG_CURRENT_DESKTOP"] = "KDE"
    assert house.answer(scope="x").choice == FOR_SESSION
    assert not (house.root / "zenity.argv").exists()


@pytest.mark.parametrize(
    ("platform", "program", "script"),
    [
        ("darwin", "osascript", "echo Allow once"),
        ("win32", "powershell", 'cat >"$0.stdin"; printf once'),
    ],
)
def test_other_platforms(tmp_path: Path, platform: str, program: str, script: str) -> None:
    """macOS and Windows go the same way with their own programs, without any display variable."""
    house = House(tmp_path, platform)
    house.variables.clear()
    house.program(program, script)
    assert house.answer().choice == ONCE
    text = shown(question(), None).text
    if platform == "win32":
        assert (tmp_path / "powershell.stdin").read_text().startswith('{"title": "Palyra"')
    else:
        assert text in house.argv(program)
    house.close()


def test_nothing_to_show_it_with(house: House) -> None:
    """Without a program, a desktop or a session the answer is no, and says what is missing."""
    answer = house.answer()
    assert answer.code == UNAVAILABLE
    assert answer.sentence == (
        "No dialog can be shown at the device: neither zenity nor kdialog is installed."
    )
    house.variables.clear()
    assert "outside of any user's session (no_user_session)" in house.answer().sentence
    house.variables["XDG_RUNTIME_DIR"] = "/run/user/1000"
    assert "nobody is signed in" in house.answer().sentence


def test_a_program_that_cannot_start(house: House) -> None:
    """A program that the system does not run is no dialog."""
    (house.root / "zenity").mkdir()
    assert "zenity: Permission denied" in house.answer().sentence


def test_a_broken_desktop_is_a_no(house: House) -> None:
    """Whatever goes wrong, there is an answer, and it is no."""

    def broken(environ: object) -> DesktopSession:
        raise ZeroDivisionError

    mediator = DialogMediator(
        call_from_thread=lambda f, *given: house._calls.put((f, given)),
        desktop=Desktop(platform="linux", session=broken),
    )
    answers: list[str] = []
    mediator.ask(question()).addCallback(lambda answer: answers.append(answer.code))
    house.turn()
    assert answers == [UNAVAILABLE]


def test_through_the_user_manager(tmp_path: Path) -> None:
    """Where systemd starts programs for the user it shows the dialog: as a service that ends."""
    house = House(tmp_path, systemd_run=True)
    house.program("zenity", "exit 0")
    assert house.answer(opens="https://a.example/${HOME}", until_s=130.0).choice == ONCE
    argv = house.argv("systemd-run")
    at = argv.index("--")
    assert argv[:6] == ["--user", "--collect", "--quiet", "--wait", "--pipe", argv[5]]
    assert argv[5].startswith("--unit=palyra-dialog-")
    assert argv[6:at] == [
        "--property=TimeoutStopSec=2", "--property=RuntimeMaxSec=90",
        "--setenv=DISPLAY=:9", "--setenv=LANGUAGE=", "--setenv=LC_ALL=C.UTF-8",
    ]  # fmt: skip
    assert argv[at + 1] == str(tmp_path / "zenity")
    assert "https://a.example/$${HOME}" in argv[-1]
    assert house.stopped_units == []
    house.close()


def test_taking_back_ends_the_service(tmp_path: Path) -> None:
    """A dialog that the user manager shows is ended there too, by its name."""
    house = House(tmp_path, systemd_run=True)
    house.program("zenity", STAYS)
    answer = house.ask()
    found = pids(tmp_path / "zenity")
    answer.cancel()
    house.turn()
    wait_until_gone(found)
    (unit,) = house.stopped_units
    assert f"--unit={unit}" in house.argv("systemd-run")
    house.close()


def test_taking_back_closes_the_window(house: House) -> None:
    """A question that is cancelled has its program and what that started killed, and the next one
    is shown."""
    house.program("zenity", STAYS)
    answer = house.ask()
    house.ask(opens="https://second.example")
    found = pids(house.root / "zenity")
    assert len(found) == 2
    house.program("zenity", "exit 0")
    answer.cancel()
    house.turn()
    wait_until_gone(found)
    house.now_s += SETTLE_S
    house.turn()
    assert [each.choice for each in house.answers] == [ONCE]
    assert "https://second.example" in house.argv("zenity")[-1]


@pytest.mark.parametrize("second", ["exit 0", "echo Always allow; exit 1"])
def test_a_yes_is_for_the_window_it_was_clicked_in(house: House, second: str) -> None:
    """A gateway that takes a question back and asks another one under the pointer has no yes to
    that: it is shown again, and there a no counts."""
    house.program("zenity", STAYS)
    answer = house.ask()
    pids(house.root / "zenity")
    house.program("zenity", f'[ -e "$0.no" ] && exit 1; touch "$0.no"; {second}')
    answer.cancel()
    house.turn()
    house.ask(opens="https://second.example", scope="https://second.example")
    house.turn()
    assert [each.choice for each in house.answers] == [REFUSED]


def test_taken_back_before_it_is_shown(house: House) -> None:
    """A question that waits is taken back without a trace; one cancelled at once shows nothing."""
    house.program("zenity", "exit 0")
    house.ask()
    waiting = house.mediator.ask(question(opens="https://second.example"))
    caught: list[bool] = []
    waiting.addErrback(lambda failure: caught.append(bool(failure.check(CancelledError))))
    waiting.cancel()
    house.turn()
    assert caught == [True]
    assert [each.choice for each in house.answers] == [ONCE]
    assert "second" not in house.argv("zenity")[-1]


def test_one_at_a_time(house: House) -> None:
    """One is shown, five wait in their order, and more are refused at once."""
    house.program("zenity", 'echo x >>"$0.count"; exit 0')
    for number in range(1 + MAX_WAITING):
        house.ask(opens=f"https://{number}.example")
    busy = house.mediator.ask(question())
    assert busy.result.code == "mediation_busy"
    for number in range(1 + MAX_WAITING):
        house.turn()
        assert len(house.answers) == number + 1
    assert (house.root / "zenity.count").read_text().count("x") == 1 + MAX_WAITING
    assert "https://5.example" in house.argv("zenity")[-1]


def test_too_late_is_not_shown(house: House) -> None:
    """A question whose time is over when its turn comes is not put to anybody."""
    house.program("zenity", "exit 0")
    house.ask()
    house.ask(until_s=150.0)
    house.now_s = 150.0
    house.turn()
    assert [each.code for each in house.answers] == ["", "mediation_timeout"]


def test_stopping(house: House) -> None:
    """Stopping closes the window, refuses the rest, and waits for the thread."""
    house.program("zenity", STAYS)
    house.ask()
    house.ask()
    found = pids(house.root / "zenity")
    stopped = house.mediator.stop()
    assert not stopped.called
    house.turn()
    assert stopped.called
    wait_until_gone(found)
    assert [each.code for each in house.answers] == [UNAVAILABLE, UNAVAILABLE]
    assert house.mediator.ask(question()).result.code == UNAVAILABLE
    assert house.mediator.stop().called


def test_available(house: House) -> None:
    """It is believed to be there unless a look of a moment ago says otherwise."""
    assert house.mediator.available()
    house.turn()
    assert not house.mediator.available()
    house.program("zenity", "exit 0")
    assert not house.mediator.available()
    house.now_s += 11
    assert house.mediator.available()  # somebody may have signed in: asking will tell
    house.turn()
    assert house.mediator.available()
    (house.root / "zenity").unlink()
    house.now_s += 11
    assert house.mediator.available()
    house.turn()
    assert not house.mediator.available()


def test_available_elsewhere(tmp_path: Path) -> None:
    """Where no session has to be asked for, the answer is there at once."""
    house = House(tmp_path, "darwin")
    assert not house.mediator.available()
    house.program("osascript", "exit 0")
    house.now_s += 11
    assert house.mediator.available()
    house.close()


def test_person_here() -> None:
    """Somebody is named."""
    assert person_here()
