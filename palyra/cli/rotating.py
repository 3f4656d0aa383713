"""``palyra nodes rotate``: order devices to renew their certificates now."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import words
from palyra.cli.client import PAGE_LIMIT, Console
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell
from palyra.console.models import NodeItem, Rotate, RotateAnswer

TOLD = "told"
LATER = "when it comes back"
_COLUMNS = (Column("ID"), Column("NAME", cut="middle"), Column("ORDER"))


def wanted(targets: Sequence[str], where: str | None, reason: str, *, everything: bool) -> Rotate:
    """The order, for devices that are named in exactly one way.

    :raises click.UsageError: in none, or in more than one.
    """
    ways = bool(targets) + (where is not None) + everything
    if ways != 1:
        raise click.UsageError("give devices, or --where EXPR, or --all: one of them")
    named = list(dict.fromkeys(targets))
    return Rotate(targets=named, where=where or "", everything=everything, reason=reason)


def run(screen: Screen, console: Console, order: Rotate) -> None:
    """Give the order and say of each device whether it was told."""
    answer = console.post("devices/rotate", order, RotateAnswer)
    if screen.as_json:
        return screen.json(answer.body)
    nodes = sorted(answer.value.nodes, key=lambda node: (_told(node), node.name))
    short = words.shortener(node.device_id for node in nodes)
    shown = nodes[:PAGE_LIMIT] if screen.tty else nodes
    if shown:
        screen.table(_COLUMNS, [_row(node, short[node.device_id]) for node in shown])
    if screen.tty:
        screen.line(_counts(nodes))
    if len(shown) < len(nodes):
        screen.aside(f"only the first {words.number(len(shown))}; all of them: --json")
    return None


def _row(node: NodeItem, short: str) -> list[Cell]:
    told = _told(node)
    return [
        cell(short, node.device_id),
        cell(node.name),
        cell(TOLD if told else LATER, style="green" if told else "yellow"),
    ]


def _told(node: NodeItem) -> bool:
    """Whether the order reached it: only a live session carries it."""
    return node.presence == "online"


def _counts(nodes: Sequence[NodeItem]) -> str:
    if not nodes:
        return "No device matches."
    told = sum(map(_told, nodes))
    counts = {TOLD: told, LATER: len(nodes) - told}
    parts = [f"{words.number(count)} {state}" for state, count in counts.items() if count]
    return f"{words.counted(len(nodes), 'device')}: {', '.join(parts)}"
