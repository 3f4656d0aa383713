"""``palyra nodes revoke`` and ``remove``: end a device's trust, and forget it."""

from __future__ import annotations

from palyra.cli import inventory, words
from palyra.cli.client import Console, segment
from palyra.cli.present import Screen
from palyra.console.models import (
    NodeAnswer,
    NodeItem,
    Remove,
    RemoveAnswer,
    Revoke,
    RevokeAnswer,
)
from palyra.core.identifiers import short_id

_REVOKED = "revoked"


def revoke(screen: Screen, console: Console, target: str, reason: str, *, ask: bool) -> int:
    """End a device's trust; on a terminal a person may have to say yes first."""
    node = _node(console, target)
    effect = f"Ends {words.escaped(node.name)}'s session within a second. It must pair again."
    if ask and not _agreed(screen, node, "Revoke", effect):
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
    if ask and not _agreed(screen, node, "Remove", _effect(node)):
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


def _node(console: Console, target: str) -> NodeItem:
    return console.get(f"nodes/{segment(target)}", NodeAnswer).value.node


def _agreed(screen: Screen, node: NodeItem, verb: str, effect: str) -> bool:
    """Whether it may be done; where nobody can be asked, the command was the consent."""
    if not screen.interactive:
        return True
    screen.aside(effect)
    return screen.agreed(f"{verb} {inventory.called(node)}?")


def _effect(node: NodeItem) -> str:
    name = words.escaped(node.name)
    if node.trust == _REVOKED:
        return f"Forgets {name} and its pairing history; its certificates stay refused."
    return f"Ends {name}'s session within a second, then forgets {name} and its pairing history."


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
