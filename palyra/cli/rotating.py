"""``palyra nodes rotate``: order devices to renew their certificates now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from palyra.cli import words
from palyra.cli.client import PAGE_LIMIT, Console
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell
from palyra.console.models import NodeItem, Rotate, RotateAnswer

TOLD = "told"
LATER = "when it comes back"
BY_ITSELF = "by itself"
"""A version-1 device takes no orders: it renews when it wants to."""
_STYLES = {LATER: "yellow", BY_ITSELF: "dim", TOLD: "green"}
_ORDER = tuple(_STYLES)
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
    nodes = sorted(answer.value.nodes, key=lambda node: (_ORDER.index(_order(node)), node.name))
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
    order = _order(node)
    return [
        cell(short, node.device_id),
        cell(node.name),
        cell(order, style=_STYLES[order]),
    ]


def told(node: NodeItem) -> bool:
    """Whether an order reaches it now: only a live session of a device that takes it carries it."""
    return _order(node) == TOLD


def _order(node: NodeItem) -> str:
    """What becomes of the order; a device that was heard without a version speaks version 1."""
    if not node.version and node.last_heard_unix_ms is not None:
        return BY_ITSELF
    return TOLD if node.presence == "online" else LATER


def _counts(nodes: Sequence[NodeItem]) -> str:
    if not nodes:
        return "No device matches."
    counts = Counter(map(_order, nodes))
    shown = (TOLD, LATER, BY_ITSELF)
    parts = [f"{words.number(counts[order])} {order}" for order in shown if counts[order]]
    return f"{words.counted(len(nodes), 'device')}: {', '.join(parts)}"
