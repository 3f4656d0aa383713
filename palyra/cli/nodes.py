"""``palyra nodes``: the inventory, and what is done with one of it."""

from __future__ import annotations

import click

from palyra.cli import (
    completion,
    fanout,
    granting,
    inventory,
    invoking,
    options,
    removing,
    requests,
    rotating,
)
from palyra.cli import labels as labelling
from palyra.cli import where as expressions
from palyra.cli.client import PAGE_LIMIT, segment
from palyra.cli.options import Call, VerbGroup, batch, duration, labels, pass_call
from palyra.console.models import NodeAnswer, NodeItem, NodeList, PairingList
from palyra.core.devices import LabelChange


@click.group(cls=VerbGroup)
def nodes() -> None:
    """See paired devices; use, renew, revoke and remove them."""


@nodes.command("list")
@expressions.option("Only devices that a targeting expression matches.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@pass_call
def list_(call: Call, where: str | None, limit: int | None) -> None:
    """List the devices.

    What needs a person comes first, then online, stale, offline.  EXPR is such as
    platform ~ linux and label.site in (prague, brno) and has(system.health).
    """
    with expressions.asked(where):
        _list(call, where, limit)


def _list(call: Call, where: str | None, limit: int | None) -> None:
    screen = call.screen
    if screen.as_json:
        return screen.json(call.console.get("nodes", NodeList, limit=limit, where=where).body)
    if limit is None and screen.tty:
        limit = PAGE_LIMIT
    found: list[NodeItem] = []
    waiting, more = 0, False
    for answer in call.console.pages("nodes", NodeList, limit, where=where):
        found += answer.value.nodes
        waiting, more = answer.value.waiting_for_approval, answer.value.page.has_more
    return inventory.show_list(screen, found, waiting, more, chosen=where is not None)


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@pass_call
def show(call: Call, target: str) -> None:
    """Show one device.  TARGET is its name, its id, or at least 4 characters of the id."""
    answer = call.console.get(f"nodes/{segment(target)}", NodeAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    node = answer.value.node
    return inventory.show_one(call.screen, node, *removing.jobs_waiting(call.console, node))


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@click.argument("change", metavar="[KEY=VALUE|GROUP|KEY-]...", nargs=-1, callback=labels)
@click.option("--name", help="Another name for the device.")
@pass_call
def label(call: Call, target: str, change: LabelChange, name: str | None) -> None:
    """Change a device's labels, groups and name.

    KEY=VALUE sets a label, GROUP adds the device to a group, KEY- takes either away.
    """
    labelling.change(call.screen, call.console, target, name, change)


@nodes.command()
@pass_call
def pending(call: Call) -> None:
    """List the devices that wait for an approval."""
    answer = call.console.get("nodes/pending", PairingList)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return requests.show_list(call.screen, answer.value)


@nodes.command()
@click.argument("target", metavar="[TARGET]", required=False, shell_complete=completion.targets)
@click.argument(
    "capability", metavar="CAPABILITY", required=False, shell_complete=completion.capabilities
)
@expressions.option("Run it on every device that matches, instead of on TARGET.")
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
@click.option("--ttl", "ttl_ms", type=duration, help="How long to wait for a device that is away.")
@click.option("--batch", type=batch, metavar="N|N%", help="With --where: so many at a time.")
@click.option(
    "--max-failures",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --where: after more failures than that, start no other.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait for the end of the job.")
@click.option("--follow", is_flag=True, help="Show how far it is.")
@click.option(
    "--max-payload-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Limit of input and output (at most 3 MiB).",
)
@click.option(
    "--idempotency-key",
    default="",
    metavar="KEY",
    help="The same call with the same key is the same job.",
)
@pass_call
def invoke(
    call: Call,
    target: str | None,
    capability: str | None,
    where: str | None,
    input_json: bytes,
    timeout_ms: int | None,
    ttl_ms: int | None,
    batch: str | None,
    max_failures: int | None,
    no_wait: bool,
    follow: bool,
    max_payload_bytes: int | None,
    idempotency_key: str,
) -> int:
    """Run a capability on a device and print its output.  Ctrl-C leaves the job running.

    With --where it runs on every device that matches, and a row is printed for each of them.
    """
    if no_wait and follow:
        raise click.UsageError("--no-wait and --follow exclude each other")
    if where is None and (batch or max_failures is not None):
        raise click.UsageError("--batch and --max-failures go with --where")
    asked = invoking.Asked(
        capability=_capability(target, capability, where),
        input_json=input_json,
        timeout_ms=timeout_ms,
        max_payload_bytes=max_payload_bytes,
        ttl_ms=ttl_ms,
        idempotency_key=idempotency_key,
    )
    screen, console = call.screen, call.console
    if where is None:
        return invoking.run(screen, console, target or "", asked, wait=not no_wait, follow=follow)
    with expressions.asked(where):
        body = asked.of_many(where, batch or "", max_failures)
        return fanout.run(screen, console, body, wait=not no_wait, follow=follow)


def _capability(target: str | None, capability: str | None, where: str | None) -> str:
    """The capability among the arguments: the only one with ``--where``, else the second.

    :raises click.UsageError: there are too few or too many of them.
    """
    if where is not None and capability is not None:
        raise click.UsageError("with --where the only argument is the capability")
    found = target if where is not None else capability
    if found is None:
        name = "TARGET" if target is None and where is None else "CAPABILITY"
        raise click.UsageError(f"Missing argument '{name}'.")
    return found


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@click.argument("names", metavar="[CAPABILITY]...", nargs=-1, shell_complete=completion.grants)
@click.option("--withhold", is_flag=True, help="Take these capabilities away instead.")
@click.option("--up-to", type=options.RISK, help="Grant what it announces later, up to this risk.")
@pass_call
def grant(
    call: Call, target: str, names: tuple[str, ...], withhold: bool, up_to: str | None
) -> None:
    """Grant capabilities that a device announced, or take them away again."""
    granting.change(call.screen, call.console, target, names, withhold=withhold, up_to=up_to)


@nodes.command()
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=completion.devices)
@expressions.option("Every device that a targeting expression matches, instead of TARGETs.")
@click.option("--all", "everything", is_flag=True, help="Every device.")
@click.option("--reason", default="", help="Why; it is recorded.")
@pass_call
def rotate(
    call: Call, targets: tuple[str, ...], where: str | None, everything: bool, reason: str
) -> None:
    """Order devices to renew their certificates now.

    A device that is away does it when it comes back.  The certificates they have stay valid until
    then; `palyra nodes show` tells what is not done yet.
    """
    body = rotating.wanted(targets, where, reason, everything=everything)
    with expressions.asked(where):
        rotating.run(call.screen, call.console, body)


@nodes.command()
@click.argument("target", shell_complete=completion.devices)
@click.option("--reason", default="", help="Why; the device shows it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def revoke(call: Call, target: str, reason: str, yes: bool) -> int:
    """End a device's trust.

    Its session and certificates end at once; it may not come back by itself.
    """
    return removing.revoke(call.screen, call.console, target, reason, ask=not yes)


@nodes.command()
@click.argument("target", metavar="[TARGET]", required=False, shell_complete=completion.devices)
@click.option("--revoked", is_flag=True, help="Every device that is revoked, instead of TARGET.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def remove(call: Call, target: str | None, revoked: bool, reason: str, yes: bool) -> int:
    """Forget a device and its pairing history.

    One that was not revoked is revoked by it.  What it had stays refused; it may ask to be paired
    again.
    """
    if revoked == (target is not None):
        raise click.UsageError("give a device, or --revoked: one of them")
    if target is None:
        return removing.clear(call.screen, call.console, reason, ask=not yes)
    return removing.remove(call.screen, call.console, target, reason, ask=not yes)
