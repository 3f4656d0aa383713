"""``palyra nodes revoke`` and ``remove``: end a device's trust, and forget it."""

from __future__ import annotations

from collections.abc import Callable

from palyra.cli import inventory, words
from palyra.cli.client import PAGE_LIMIT, Console, segment
from palyra.cli.present import Screen
from palyra.console.models import (
    ClearAnswer,
    JobList,
    NodeAnswer,
    NodeItem,
    NodeList,
    Remove,
    RemoveAnswer,
    Revoke,
    RevokeAnswer,
)
from palyra.core.identifiers import short_id

_REVOKED = "revoked"
_NAMED = 5
"""So many devices are named in a question."""


def revoke(screen: Screen, console: Console, target: str, reason: str, *, ask: bool) -> int:
    """End a device's trust; on a terminal a person may have to say yes first."""
    node = _node(console, target)
    if ask and not _agreed(screen, node, "Revoke", lambda: _revoking(console, node)):
        screen.aside("not revoked")
        return 1
    answer = console.post(f"devices/{node.device_id}/revoke", Revoke(reason), RevokeAnswer)
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        ended = words.counted(answer.value.certificates, "certificate")
        screen.parts(("revoked", "red"), (f"  {inventory.called(node)}  {ended}", ""))
    else:
        screen.pair("revoked", node.device_id)
        screen.pair("name", node.name)
    return 0


def remove(screen: Screen, console: Console, target: str, reason: str, *, ask: bool) -> int:
    """Forget a device, and say what that did; on a terminal a person may have to say yes first."""
    node = _node(console, target)
    if ask and not _agreed(screen, node, "Remove", lambda: _removing(console, node)):
        screen.aside("not removed")
        return 1
    answer = console.post(f"devices/{node.device_id}/remove", Remove(reason), RemoveAnswer)
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        _show_removed(screen, answer.value)
    else:
        screen.pair("removed", answer.value.device_id)
        screen.pair("name", answer.value.name)
        screen.pair("revoked", "now" if answer.value.revoked else "before")
        screen.pair("certificates", str(answer.value.certificates))
        screen.pair("pairing_requests", str(answer.value.pairing_requests))
    return 0


def clear(screen: Screen, console: Console, reason: str, *, ask: bool) -> int:
    """Forget every revoked device, and say which; on a terminal a person may have to say yes."""
    if ask and screen.interactive and not _agreed_to_clear(screen, console):
        screen.aside("not removed")
        return 1
    answer = console.post("devices/clear", Remove(reason), ClearAnswer)
    if screen.as_json:
        screen.json(answer.body)
        return 0
    removed = sorted(answer.value.removed, key=lambda each: each.name)
    if not screen.tty:
        for each in removed:
            counts = (str(each.certificates), str(each.pairing_requests))
            row = (each.device_id, each.name, *counts)
            screen.out.write("\t".join(map(words.escaped, row)) + "\n")
        return 0
    for each in removed[:PAGE_LIMIT]:
        _show_removed(screen, each)
    screen.line(f"{words.counted(len(removed), 'device')} removed")
    return 0


def _agreed_to_clear(screen: Screen, console: Console) -> bool:
    found = [node for page in console.pages("nodes", NodeList, None) for node in page.value.nodes]
    names = sorted(words.escaped(node.name) for node in found if node.trust == _REVOKED)
    if not names:
        return True  # the gateway says that there was none
    more = f" and {words.number(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    screen.aside(f"Forgets {', '.join(names[:_NAMED])}{more}; their certificates stay refused.")
    return screen.agreed(f"Remove {words.counted(len(names), 'revoked device')}?")


def jobs_waiting(console: Console, node: NodeItem) -> tuple[int, bool]:
    """How many jobs wait for a device, as far as one page tells, and whether there are more."""
    queued = console.get(
        "jobs", JobList, state=("queued",), device=node.device_id, limit=PAGE_LIMIT
    ).value
    return queued.page.returned, queued.page.has_more


def _node(console: Console, target: str) -> NodeItem:
    return console.get(f"nodes/{segment(target)}", NodeAnswer).value.node


def _agreed(screen: Screen, node: NodeItem, verb: str, effect: Callable[[], str]) -> bool:
    """Whether it may be done; where nobody can be asked, the command was the consent."""
    if not screen.interactive:
        return True
    screen.aside(effect())
    return screen.agreed(f"{verb} {inventory.called(node)}?")


def _revoking(console: Console, node: NodeItem) -> str:
    return f"{_ending(console, node)}. It must pair again."


def _removing(console: Console, node: NodeItem) -> str:
    name = words.escaped(node.name)
    if node.trust == _REVOKED:
        return f"Forgets {name} and its pairing history; its certificates stay refused."
    return f"{_ending(console, node)}, then forgets {name} and its pairing history."


def _ending(console: Console, node: NodeItem) -> str:
    """What becomes of the session of a device and of the jobs that it has."""
    effects = [f"Ends {words.escaped(node.name)}'s session within a second"]
    queued, more = jobs_waiting(console, node)
    if queued:
        least = "at least " if more else ""
        effects.append(f"fails {least}{words.counted(queued, 'queued job')}")
    if node.jobs_running:
        effects.append(f"leaves {words.counted(node.jobs_running, 'running job')} unknown")
    return ", ".join(effects)


def _show_removed(screen: Screen, done: RemoveAnswer) -> None:
    """What was deleted, and whether the device was revoked by it."""
    certificates = words.counted(done.certificates, "certificate")
    requests = words.counted(done.pairing_requests, "pairing request")
    revoked = "revoked now, " if done.revoked else ""
    screen.parts(
        ("removed", "dim"),
        (f"  {words.escaped(done.name)}  {short_id(done.device_id)}", ""),
        (f"  {revoked}deleted {certificates} and {requests}", ""),
    )
