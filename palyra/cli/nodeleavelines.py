"""What ``palyra node uninstall`` says that it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec

from palyra.cli import words
from palyra.cli.nodeleaveplan import Plan
from palyra.cli.present import Screen
from palyra.core.identifiers import short_id
from palyra.errors import PalyraError
from palyra.supervision.removing import Removed
from palyra.supervision.service import Manager, Scope

if TYPE_CHECKING:
    from palyra.node.leaving import Told

_NAMED = 5
"""So many names are said of what is left."""
_UNITS = {
    Manager.SYSTEMD.value: "unit",
    Manager.LAUNCHD.value: "agent",
    Manager.TASK.value: "task",
}


class Report(msgspec.Struct, frozen=True):
    """``uninstall --json``.  ``told_at`` is the way on which the gateway was told, ``not_told`` the
    sentence why it was not, ``undelivered`` how many results it has not heard of; ``removed`` and
    ``left`` are paths."""

    told: bool
    stopped: bool
    removed: list[str]
    left: list[str]
    device_id: str
    name: str
    told_at: str
    not_told: str
    kept_state: bool
    undelivered: int


@attrs.define
class Done:
    """What was done of it."""

    stopped_pid: int = 0
    stopped: bool = False
    told: Told | None = None
    not_told: PalyraError | None = None
    unit: list[Path] = attrs.field(factory=list)
    account: str = ""
    state: Removed | None = None
    root: Path | None = None


def show_told(screen: Screen, plan: Plan, done: Done) -> None:
    """Whether the gateway knows."""
    if done.told is not None:
        what = "pairing was revoked before" if done.told.already else "pairing revoked"
        ok(screen, f"gateway told, {what}", "gateway", "told", done.told.address)
        if done.told.undelivered:
            show_undelivered(screen, done.told.undelivered)
    elif not plan.keep_state and plan.was_paired:
        device = short_id(plan.device_id) if plan.device_id else "ID"
        there = f"palyra nodes revoke {device}"
        why = done.not_told.sentence if done.not_told is not None else ""
        warn(screen, f"gateway not told; there: {there}", "gateway", "not told", there, why)
        if why and screen.tty:
            screen.aside(f"note  {words.escaped(why)}")


def show_undelivered(screen: Screen, count: int) -> None:
    """What the gateway has not heard of: nobody can tell it any more."""
    what = f"{words.counted(count, 'result')} not delivered; there: palyra jobs list"
    warn(screen, what, "undelivered", str(count))


def show_unit(screen: Screen, plan: Plan, done: Done) -> None:
    """That nothing runs any more, and what the service manager had of it."""
    if done.stopped:
        ok(screen, "stopped", "stopped", str(done.stopped_pid))
    unit = _UNITS.get(plan.mark.manager) if plan.mark is not None else None
    if unit is not None and done.unit:
        system = plan.mark is not None and plan.mark.scope == Scope.SYSTEM
        word = "daemon" if unit == "agent" and system else unit
        ok(screen, f"{word} removed", word, "removed", *(str(each) for each in done.unit))
    elif plan.keep_state:
        ok(screen, "service removed; the device stays paired", "service", "removed")


def show_state(screen: Screen, state: Removed) -> None:
    """What is gone, and what somebody has to look at."""
    where = words.escaped(str(state.path))
    files = words.counted(state.files, "file")
    if state.gone:
        ok(screen, f"removed {where} ({files})", "removed", str(state.path), str(state.files))
        return
    ok(screen, f"removed {files} of {where}", "removed", str(state.path), str(state.files))
    named = ", ".join(words.escaped(each) for each in state.left[:_NAMED])
    more = f" and {len(state.left) - _NAMED} more" if len(state.left) > _NAMED else ""
    unknown = f"{words.counted(len(state.left), 'unknown file')}: {named}{more}"
    warn(screen, f"left  {where} ({unknown})", "left", str(state.path), *state.left)


def ok(screen: Screen, text: str, *fields: str) -> None:
    """Something was done: ``text`` for people, ``fields`` for scripts, nothing in JSON."""
    _line(screen, "ok", "green", text, fields)


def warn(screen: Screen, text: str, *fields: str) -> None:
    """Something is left to do, likewise."""
    _line(screen, "!!", "yellow", text, fields)


def _line(screen: Screen, mark: str, style: str, text: str, fields: tuple[str, ...]) -> None:
    if screen.as_json:
        return
    if screen.tty:
        screen.parts((mark, style), (f"  {text}", ""))
    else:
        screen.out.write("\t".join(words.escaped(each) for each in fields if each) + "\n")


def report(plan: Plan, done: Done) -> Report:
    """All of it, for scripts."""
    state, removed = done.state, [str(each) for each in done.unit]
    left: list[str] = []
    if state is not None and state.gone:
        removed.append(str(state.path))
    elif state is not None:
        left = [str(state.path / each) for each in state.left]
    if done.root is not None:
        removed.append(str(done.root))
    return Report(
        told=done.told is not None,
        stopped=done.stopped,
        removed=removed,
        left=left,
        device_id=plan.device_id,
        name=plan.facts.name,
        told_at=done.told.address if done.told is not None else "",
        not_told=done.not_told.sentence if done.not_told is not None else "",
        kept_state=plan.keep_state,
        undelivered=done.told.undelivered if done.told is not None else 0,
    )
