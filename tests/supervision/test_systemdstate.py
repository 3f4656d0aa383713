"""What systemctl show says, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import ServiceManagerFailed
from palyra.supervision.service import ServiceState
from palyra.supervision.systemdstate import PROPERTIES, parse_state


def shown(**changes: str) -> str:
    """The answer for a service that runs, with ``changes``."""
    running = {
        "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
        "UnitFileState": "enabled", "MainPID": "4312", "Result": "success", "ExecMainStatus": "0",
    }  # fmt: skip
    return "".join(f"{name}={value}\n" for name, value in (running | changes).items())


def test_a_service_that_runs() -> None:
    """Its process, and that it comes again after a boot."""
    assert parse_state(shown()) == ServiceState(
        installed=True, running=True, pid=4312, at_boot=True, word="running"
    )


def test_a_service_that_is_not_there() -> None:
    """systemd knows nothing of it, and neither do we."""
    gone = shown(
        LoadState="not-found",
        ActiveState="inactive",
        SubState="dead",
        UnitFileState="",
        MainPID="0",
    )
    assert parse_state(gone) == ServiceState(installed=False, word="dead")


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        ("success", "0", ""),
        ("exit-code", "1", "it ended with code 1"),
        ("exit-code", "203", "its interpreter cannot be run"),
        ("exit-code", "226", "this machine lends it no namespace; the profile standard needs none"),
        ("signal", "9", "it was ended by signal 9"),
        ("watchdog", "6", "it hung, and was ended by the watchdog"),
        ("oom-kill", "9", "it was ended since the machine had no memory left"),
        ("new\x1b", "0", "systemd says 'new\\x1b'"),
    ],
)
def test_the_last_end_is_told_in_words(result: str, status: str, words: str) -> None:
    """A person reads what happened, and not systemd's abbreviation."""
    failed = shown(SubState="auto-restart", MainPID="0", Result=result, ExecMainStatus=status)
    state = parse_state(failed)
    assert (state.running, state.pid, state.word) == (False, 0, "auto-restart")
    assert state.result == words


@pytest.mark.parametrize(
    ("word", "at_boot"), [("enabled", True), ("disabled", False), ("", None), ("new-word", None)]
)
def test_whether_it_starts_at_boot(word: str, at_boot: bool | None) -> None:
    """What systemd does not say is not guessed."""
    assert parse_state(shown(UnitFileState=word)).at_boot is at_boot


def test_a_masked_unit_says_so() -> None:
    """The administrator switched it off: it is there, and does not start."""
    masked = shown(LoadState="masked", SubState="dead", UnitFileState="masked", MainPID="0")
    state = parse_state(masked)
    assert (state.installed, state.word, state.at_boot) == (True, "masked", False)


@settings(max_examples=100)
@given(st.text(max_size=60) | st.sampled_from(PROPERTIES).map(lambda name: shown(**{name: "-1"})))
def test_any_other_answer_is_refused_or_read(text: str) -> None:
    """Whatever the program prints, it is a state or a refusal."""
    try:
        state = parse_state(text)
    except ServiceManagerFailed:
        return
    assert state.pid >= 0


@pytest.mark.parametrize("pid", ["", "-1", "x", "\u0664", "99999999999"])
def test_a_process_that_is_no_number_is_refused(pid: str) -> None:
    """It may be signalled later."""
    with pytest.raises(ServiceManagerFailed):
        parse_state(shown(MainPID=pid))
