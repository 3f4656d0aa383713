"""``palyra pairing``: make codes, and decide about devices that ask."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import codes, completion, options, requests, words
from palyra.cli.client import Answer, Console, segment
from palyra.cli.options import Call, VerbGroup, duration, labels, pass_call
from palyra.cli.present import Screen
from palyra.console.models import (
    Decision,
    FailedTries,
    MintCode,
    MintedCode,
    PairingAnswer,
    PairingItem,
    PairingList,
)
from palyra.core.devices import LabelChange
from palyra.core.identifiers import short_id
from palyra.errors import IdentityChanged

_ECHO = "echo"


@click.group(cls=VerbGroup)
def pairing() -> None:
    """Make codes; approve and reject devices that ask."""


@pairing.command()
@click.option(
    "--method",
    type=click.Choice(["pin", "qr"]),
    default="pin",
    show_default=True,
    help="A PIN to type, or a QR code and its text form.",
)
@click.option("--ttl", type=duration, help="How long it is valid (30s to 24h; default 10m).")
@click.option(
    "--label",
    "change",
    callback=labels,
    multiple=True,
    metavar="KEY=VALUE|GROUP",
    help="A label or a group for the device; may be repeated.",
)
@click.option("--from", "source", default="", metavar="CIDR", help="Addresses that may use it.")
@pass_call
def code(call: Call, method: str, ttl: int | None, change: LabelChange, source: str) -> None:
    """Make a code with which one device may ask to be paired.  It is shown once."""
    if change.unlabel:
        raise click.UsageError("--label: a new device has no label to take away")
    body = MintCode(method=method, ttl_ms=ttl, labels=dict(change.labels), source=source)
    answer = call.console.post("pairing/requests/code", body, MintedCode)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return codes.show(call.screen, answer.value)


@pairing.command("list")
@click.option("--state", help="Only requests in this state.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@pass_call
def list_(call: Call, state: str | None, limit: int | None) -> None:
    """List pairing requests, those that wait first, and what went wrong of late."""
    answer = call.console.get("pairing/requests", PairingList, state=state, limit=limit)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return requests.show_list(call.screen, answer.value)


@pairing.command()
@click.argument("request", metavar="ID", shell_complete=completion.pending_requests)
@click.option(
    "--grant",
    "grants",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.announced,
    help="Grant only this capability; may be repeated (default: all announced).",
)
@click.option(
    "--grant-up-to",
    "grant_risk",
    type=options.RISK,
    default=options.USUAL_RISK,
    show_default=True,
    help="Grant what it announces later, up to this risk.",
)
@click.option(
    "--accept-new-identity",
    is_flag=True,
    help="The device has another key than before; revoke the old one.",
)
@click.option("--reason", default="", help="Why; it is recorded.")
@pass_call
def approve(
    call: Call,
    request: str,
    grants: tuple[str, ...],
    grant_risk: str,
    accept_new_identity: bool,
    reason: str,
) -> int:
    """Show what is known of a device and let it in.  Without a terminal the ID is the consent."""
    screen, console = call.screen, call.console
    found = _request(console, request)
    if not screen.as_json:
        requests.show_facts(screen, found, _tries(console, found))
        if grants or grant_risk != options.USUAL_RISK:
            requests.show_grants(screen, grants, grant_risk)
    changed = found.seen_before.kind == "another_key"
    if found.state != requests.PENDING:
        screen.aside(f"{requests.called(found)} is {found.state} already")
    elif screen.interactive:
        if not _consented(screen, found, changed):
            screen.aside("not approved; the request still waits")
            return 1
        accept_new_identity = accept_new_identity or changed
    elif changed and not accept_new_identity:
        raise _changed(found)
    body = Decision(
        reason=reason,
        grants=list(grants) or None,
        grant_risk=grant_risk,
        accept_new_identity=accept_new_identity,
    )
    _decided(screen, _decide(console, found, "approve", body), grants)
    return 0


@pairing.command()
@click.argument("request", metavar="ID", shell_complete=completion.pending_requests)
@click.option("--reason", default="", help="Why; the device shows it.")
@pass_call
def reject(call: Call, request: str, reason: str) -> None:
    """Tell a device that it is not let in."""
    found = _request(call.console, request)
    _decided(call.screen, _decide(call.console, found, "reject", Decision(reason=reason)))


def _request(console: Console, wanted: str) -> PairingItem:
    answer = console.get(f"pairing/requests/{segment(wanted)}", PairingAnswer)
    return answer.value.request


def _tries(console: Console, request: PairingItem) -> list[FailedTries]:
    """Wrong tries of late, those from the request's own address first."""
    listed = console.get("pairing/requests", PairingList, state=requests.PENDING, limit=1)
    return sorted(listed.value.failed_tries, key=lambda each: each.source != request.source)


def _consented(screen: Screen, request: PairingItem, changed: bool) -> bool:
    """A person's yes; for a changed key the name has to be typed."""
    name = words.escaped(request.name)
    compare = f"Does the device print {requests.identity(request)}?"
    if changed:
        return screen.ask(f"{compare}  Type the name {name} to approve its new key: ") == name
    return screen.agreed(f"{compare}  Approve {name}?")


def _changed(request: PairingItem) -> IdentityChanged:
    return IdentityChanged(
        name=request.name,
        request=short_id(request.request_id),
        was=request.seen_before.identity_fingerprint,
        now=request.identity_fingerprint,
    )


def _decide(
    console: Console, request: PairingItem, verb: str, body: Decision
) -> Answer[PairingAnswer]:
    return console.post(f"pairing/requests/{request.request_id}/{verb}", body, PairingAnswer)


def _decided(screen: Screen, answer: Answer[PairingAnswer], grants: Sequence[str] = ()) -> None:
    request = answer.value.request
    # The device fetches its certificate at once, which completes an approved request.
    state = "rejected" if request.state == "rejected" else "approved"
    if screen.as_json:
        return screen.json(answer.body)
    if not screen.tty:
        return screen.pair("decision", state)
    screen.parts(
        (state, "green" if state == "approved" else "red"), (f"  {requests.called(request)}", "")
    )
    if state == "approved":
        screen.hint(_first_use(request, grants), "hint".ljust(10))
    return None


def _first_use(request: PairingItem, grants: Sequence[str]) -> str:
    """The first thing to do with a device, which is to hear its echo where it has one."""
    name = words.escaped(request.name)
    if any(each.name == _ECHO for each in request.capabilities) and (not grants or _ECHO in grants):
        return f"""palyra nodes invoke {name} {_ECHO} --input '{{"text":"hello"}}'"""
    return f"palyra nodes show {name}"
