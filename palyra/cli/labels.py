"""``palyra nodes label``: change a device's name, labels and groups."""

from __future__ import annotations

import click

from palyra.cli import words
from palyra.cli.client import Console, segment
from palyra.cli.present import Screen
from palyra.console.models import LabelNode, NodeAnswer
from palyra.core.devices import LabelChange
from palyra.core.identifiers import short_id


def change(
    screen: Screen, console: Console, target: str, name: str | None, wanted: LabelChange
) -> None:
    """Ask for the change and show what the device has now.

    :raises click.UsageError: nothing is to be changed.
    """
    if name is None and not wanted.labels and not wanted.unlabel:
        raise click.UsageError("give labels (KEY=VALUE, GROUP, KEY-) or --name")
    body = LabelNode(name=name, labels=dict(wanted.labels), unlabel=sorted(wanted.unlabel))
    answer = console.post(f"devices/{segment(target)}/labels", body, NodeAnswer)
    node = answer.value.node
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        said = "renamed" if name is not None else "labelled"
        has = words.labels(node.labels, separator=" ")
        screen.parts(
            (said, "green"),
            (f"  {words.escaped(node.name)}  {short_id(node.device_id)}  {has}", ""),
        )
    else:
        screen.pair("device", node.device_id)
        screen.pair("name", node.name)
        screen.pair("labels", words.labels(node.labels))
