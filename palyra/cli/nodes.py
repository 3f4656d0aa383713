"""``palyra nodes``: the inventory, and what is done with one of it."""

from __future__ import annotations

import click

from palyra.cli import completion, inventory, invoking, requests, words
from palyra.cli.client import PAGE_LIMIT, segment
from palyra.cli.options import Call, VerbGroup, duration, pass_call
from palyra.console.models import (
    NodeAnswer,
    NodeItem,
    NodeList,
    PairingList,
    Revoke,
    RevokeAnswer,
)
from palyra.core.identifiers import short_id


@click.group(cls=VerbGroup)
def nodes() -> None:
    """See paired devices, run capabilities on them, revoke them."""


@nodes.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@pass_call
def list_(call: Call, limit: int | None) -> None:
    """List the devices.

    What needs a person comes first, then online, stale, offline.
    """
    screen = call.screen
    if screen.as_json:
        return screen.json(call.console.get("nodes", NodeList, limit=limit).body)
    if limit is None and screen.tty:
        limit = PAGE_LIMIT
    found: list[NodeItem] = []
    waiting, more = 0, False
    for answer in call.console.pages("nodes", NodeList, limit):
        found += answer.value.nodes
        waiting, more = answer.value.waiting_for_approval, answer.value.page.has_more
    return inventory.show_list(screen, found, waiting, more)


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@pass_call
def show(call: Call, target: str) -> None:
    """Show one device.  TARGET is its name, its id, or at least 4 characters of the id."""
    answer = call.console.get(f"nodes/{segment(target)}", NodeAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return inventory.show_one(call.screen, answer.value.node)


@nodes.command()
@pass_call
def pending(call: Call) -> None:
    """List the devices that wait for an approval."""
    answer = call.console.get("nodes/pending", PairingList)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return requests.show_list(call.screen, answer.value.requests, answer.value.failed_tries)


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@click.argument("capability", shell_complete=completion.capabilities)
@click.option(
    "--input",
    "input_json",
    type=invoking.given,
    default="{}",
    show_default=True,
    metavar="JSON|@FILE|-",
    help="The input; - reads it from stdin.",
)
@click.option("--timeout", "timeout_ms", type=duration, help="Run time (1s to 24h).")
@click.option("--no-wait", is_flag=True, help="Do not wait for the end of the job.")
@click.option(
    "--max-payload-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Limit of input and output (at most 3 MiB).",
)
@pass_call
def invoke(
    call: Call,
    target: str,
    capability: str,
    input_json: bytes,
    timeout_ms: int | None,
    no_wait: bool,
    max_payload_bytes: int | None,
) -> int:
    """Run a capability on a device and print its output.  Ctrl-C leaves the job running."""
    asked = invoking.Asked(
        target=target,
        capability=capability,
        input_json=input_json,
        timeout_ms=timeout_ms,
        max_payload_bytes=max_payload_bytes,
    )
    return invoking.run(call.screen, call.console, asked, wait=not no_wait)


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@click.option("--reason", default="", help="Why; the device shows it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def revoke(call: Call, target: str, reason: str, yes: bool) -> int:
    """End a device's trust.

    Its session and certificates end at once; it may not come back by itself.
    """
    screen, console = call.screen, call.console
    node = console.get(f"nodes/{segment(target)}", NodeAnswer).value.node
    if screen.interactive and not yes:
        name = words.escaped(node.name)
        screen.aside(f"Ends {name}'s session within a second. It must pair again.")
        if not screen.agreed(f"Revoke {inventory.called(node)}?"):
            screen.aside("not revoked")
            return 1
    answer = console.post(f"devices/{node.device_id}/revoke", Revoke(reason), RevokeAnswer)
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        ended = words.counted(answer.value.certificates, "certificate")
        screen.parts(
            ("revoked", "red"),
            (f"  {words.escaped(node.name)}  {short_id(node.device_id)}  {ended}", ""),
        )
    else:
        screen.pair("revoked", node.device_id)
        screen.pair("name", node.name)
    return 0
