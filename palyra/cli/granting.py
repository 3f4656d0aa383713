"""``palyra nodes grant``: which capabilities of a device may be used."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import inventory, requests, words
from palyra.cli.client import Answer, Console, segment
from palyra.cli.present import Screen
from palyra.console.models import GrantNode, NodeAnswer, NodeItem


def change(
    screen: Screen,
    console: Console,
    target: str,
    names: Sequence[str],
    *,
    withhold: bool,
    up_to: str | None,
) -> None:
    """Grant or withhold ``names``, and grant later ones ``up_to`` a risk (None: as it was).

    :raises click.UsageError: nothing is to be changed.
    """
    if not names and (withhold or up_to is None):
        raise click.UsageError("give capabilities to grant, or --up-to RISK")
    wanted = list(dict.fromkeys(names))
    body = GrantNode(
        grant=[] if withhold else wanted, withhold=wanted if withhold else [], grant_risk=up_to
    )
    answer = console.post(f"devices/{segment(target)}/grants", body, NodeAnswer)
    _show(screen, answer, wanted, withhold=withhold, up_to=up_to)


def _show(
    screen: Screen,
    answer: Answer[NodeAnswer],
    names: Sequence[str],
    *,
    withhold: bool,
    up_to: str | None,
) -> None:
    node = answer.value.node
    if screen.as_json:
        return screen.json(answer.body)
    if not screen.tty:
        screen.pair("device", node.device_id)
        screen.pair("name", node.name)
        screen.pair("granted", ",".join(_granted(node)) or words.NOTHING)
        return screen.pair("up_to", node.grant_risk)
    said, style = ("withheld", "yellow") if withhold else ("granted", "green")
    parts = [", ".join(_described(node, name) for name in names)] if names else []
    if up_to is not None:
        parts.append(requests.later(node.grant_risk))
    screen.parts((said, style), (f"  {inventory.called(node)}  {'; '.join(parts)}", ""))
    return None


def _described(node: NodeItem, name: str) -> str:
    """A capability and its risk as it is now: what an operator has granted may have changed."""
    risk = next((each.risk for each in node.capabilities if each.name == name), "")
    return words.escaped(f"{name} {risk}" if risk else name)


def _granted(node: NodeItem) -> list[str]:
    return [each.name for each in node.capabilities if each.granted]
