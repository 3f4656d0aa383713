"""The lines of ``palyra node status`` for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from palyra import __version__
from palyra.cli import words
from palyra.cli.nodefacts import Facts
from palyra.cli.present import Screen
from palyra.errors import DeviceRevoked, PairingRejected, RejoinRefused
from palyra.node.controlwords import CapabilityCount, LastError
from palyra.supervision.service import Manager

_GAP = 2
_STYLES = {
    "online": "green",
    "offline": "yellow",
    "starting": "yellow",
    "unknown": "yellow",
    "stopped": "dim",
    "not_paired": "dim",
}
_UNNAMED = "node host"
_FINAL = (DeviceRevoked.code, RejoinRefused.code, PairingRejected.code)
"""With what a start changes nothing until a person has acted."""


def counts(count: CapabilityCount | None) -> str:
    """``4 of 5``: how many can be run, of how many."""
    return "" if count is None else f"{count.count} of {count.count + count.faults}"


def show(screen: Screen, facts: Facts) -> None:
    """One line for each thing there is to say, and the one command that comes next."""
    lines = list(_lines(facts, screen.now()))
    label = max(len(key) for key, _, _ in lines) + _GAP
    before = ""
    for key, text, style in lines:
        shown = key if key != before else ""
        before = key
        start, mark, rest = text.partition("!!")
        word = style and start.split(",")[0]
        plain = start.removeprefix(word)
        screen.parts(
            (words.escaped(shown).ljust(label), ""),
            (words.escaped(word), style),
            (words.escaped(plain), ""),
            (mark + words.escaped(rest), "yellow"),
        )
    command = hint(facts)
    if command:
        screen.hint(command)


def _lines(facts: Facts, now: int) -> Iterator[tuple[str, str, str]]:
    """(key, text, style of the first word) of what there is to say."""
    yield facts.name or _UNNAMED, _state_text(facts, now), _STYLES[facts.state]
    yield "service", _service_text(facts, now), ""
    if facts.cert_expires_ms:
        yield "certificate", _certificate_text(facts, now), ""
    if facts.answer is not None:
        yield from _capability_lines(facts.answer.capabilities, facts.answer.faults)
        yield "jobs", f"{words.number(facts.answer.jobs)} running", ""
        if facts.answer.requests:
            yield "requests", f"!! {words.number(facts.answer.requests)} waiting for a person", ""
    version = _version_text(facts)
    if version:
        yield "version", version, ""
    if facts.last_error is not None:
        yield "last error", error_text(facts.last_error, facts, now), ""
    for each in facts.problems:
        yield "problem", f"!! {each.sentence}", ""


def _state_text(facts: Facts, now: int) -> str:
    answer = facts.answer
    if answer is None:
        silent = "running, and does not answer" if facts.running else "it cannot be told"
        paired = "not paired, waiting for an operator to approve" if facts.waits else "not paired"
        said = {"not_paired": paired, "unknown": silent}
        return said.get(facts.state, facts.state)
    heard = answer.last_heard_unix_ms
    parts: list[str] = [answer.state]
    if answer.state == "online":
        parts.append(f"{answer.transport} {answer.address}")
    elif answer.retry_at_unix_ms:
        parts.append(f"retry in {words.age(answer.retry_at_unix_ms - now)}")
    if heard:
        parts.append(f"heard {words.ago(heard, now)}")
    return ", ".join(parts)


def _service_text(facts: Facts, now: int) -> str:
    if facts.by_service or not facts.running:
        return _managed_text(facts, now)
    kept = facts.process is not None and facts.process.manager == Manager.PROCESS
    where = "background process, running" if kept else _by_hand(facts.pid)
    text = ", ".join([where, *_alive(facts, now)])
    return f"{text}  ({_managed_text(facts, now)})" if facts.mark is not None else text


def _managed_text(facts: Facts, now: int) -> str:
    state = facts.service
    if facts.mark is None:
        return "not installed"
    described = facts.described or facts.mark.manager
    if state is None:
        return described
    if facts.by_service:
        parts = [described, "running", *_alive(facts, now)]
    else:
        told = bool(state.word) and not state.running and state.word != "dead"
        word = state.word if told else "stopped"
        failed = bool(state.result)
        parts = [described, f"!! {word}: {state.result}" if failed else word]
    if not state.installed:
        parts.append("!! its definition is gone")
    elif state.at_boot is False and facts.mark.manager != Manager.PROCESS:
        parts.append("not started at boot")
    return ", ".join(parts)


def _alive(facts: Facts, now: int) -> list[str]:
    parts = [f"pid {facts.pid}"] if facts.pid else []
    if facts.started_at_ms:
        parts.append(f"up {words.duration(max(1000, now - facts.started_at_ms))}")
    return parts


def _by_hand(pid: int) -> str:
    """How a process runs that is nobody's service."""
    import psutil

    try:
        return "in a terminal" if psutil.Process(pid).terminal() else "not as a service"
    except (psutil.Error, AttributeError, ValueError):  # Windows has no terminals
        return "not as a service"


def _certificate_text(facts: Facts, now: int) -> str:
    left_ms = facts.cert_expires_ms - now
    if left_ms <= 0:
        return f"!! ran out {words.ago(facts.cert_expires_ms, now)}"
    text = f"{words.age(left_ms)} left"
    renews = facts.answer.cert_renews_at_unix_ms if facts.answer is not None else 0
    return f"{text}, renews in {words.age(renews - now)}" if renews else text


def _capability_lines(count: CapabilityCount, faults: list[str]) -> Iterator[tuple[str, str, str]]:
    if not count.faults:
        yield "capabilities", words.number(count.count), ""
        return
    first, *others = [each.removesuffix(".") for each in faults] or ["see palyra capability list"]
    yield "capabilities", f"{counts(count)}  !! {first}", ""
    for each in others:
        yield "capabilities", f"!! {each}", ""


def _version_text(facts: Facts) -> str:
    """Nothing where node, gateway and installation are of one version."""
    answer, mark = facts.answer, facts.mark
    if answer is None or not answer.version:
        return ""
    skewed = answer.gateway_version not in ("", answer.version)
    text = f"{answer.version}, gateway {answer.gateway_version}" if skewed else answer.version
    if answer.version != __version__ and _is_ours(mark.python if mark is not None else ""):
        return f"{text}  !! palyra {__version__} is installed: {_again(facts)}"
    return text if skewed else ""


def _is_ours(python: str) -> bool:
    """Whether the service would run what this command is of."""
    return python in ("", sys.executable)


def _again(facts: Facts) -> str:
    return "palyra node restart" if facts.mark is not None else "start it again"


def error_text(error: LastError | None, facts: Facts, now: int) -> str:
    """``2h ago: home.example.org:7444 unreachable for 40s; healed``; while it lasts, its cause."""
    if error is None:
        return ""
    began, healed = error.began_at_unix_ms, error.healed_at_unix_ms
    sentence = error.sentence.removesuffix(".")
    ago = words.ago(began, now)
    if not healed:
        lasts = "!! " if facts.running else ""
        return f"{lasts}{ago}: {sentence}"
    lasted = words.duration(max(1000, (healed - began) // 1000 * 1000))
    if error.where:
        return f"{ago}: {error.where} unreachable for {lasted}; healed"
    return f"{ago}: {sentence}; healed after {lasted}"


def hint(facts: Facts) -> str:
    """The one command that comes next; empty where nothing has to."""
    if facts.problems:
        return facts.problems[0].hint
    if facts.state == "not_paired":
        again = "palyra node install --start"
        return again if facts.waits else f"{again} --gateway HOST"
    lasting = facts.last_error
    if lasting is not None and lasting.healed_at_unix_ms:
        lasting = None
    if facts.state == "stopped" and lasting is not None and lasting.code in _FINAL:
        return lasting.hint
    if facts.state == "stopped":
        return "palyra node start" if facts.mark is not None else "palyra node install --start"
    return lasting.hint if facts.state == "offline" and lasting is not None else ""
