"""What a shell offers after TAB: names and ids from the gateway, silent when it is away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from palyra.cli import words
from palyra.cli.bars import UNFINISHED
from palyra.cli.client import Console, segment
from palyra.cli.options import call_of
from palyra.cli.requests import PENDING
from palyra.console.models import (
    ApprovalItem,
    ApprovalList,
    CapabilityItem,
    JobList,
    NodeAnswer,
    NodeList,
    OperatorList,
    PairingAnswer,
    PairingList,
)
from palyra.core.identifiers import short_id
from palyra.errors import PalyraError

LIMIT = 100
TIMEOUT_S = 0.2


def devices(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of devices, then their short ids with the name beside them."""
    nodes = []
    with contextlib.suppress(PalyraError):
        nodes = _console(context).get("nodes", NodeList, limit=LIMIT).value.nodes
    names = [CompletionItem(words.escaped(node.name)) for node in nodes]
    ids = [_item(short_id(node.device_id), node.name) for node in nodes]
    return _beginning([*names, *ids], incomplete)


def pending_requests(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Pairing requests that wait, with the device's name beside them."""
    items = []
    with contextlib.suppress(PalyraError):
        answer = _console(context).get("pairing/requests", PairingList, state=PENDING, limit=LIMIT)
        items = [_item(short_id(each.request_id), each.name) for each in answer.value.requests]
    return _beginning(items, incomplete)


def operators(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The operators who were not revoked, with their roles beside them."""
    items = []
    with contextlib.suppress(PalyraError):
        answer = _console(context).get("operators", OperatorList, limit=LIMIT)
        found = answer.value.operators
        items = [_item(each.name, each.role) for each in found if each.state == "active"]
    return _beginning(items, incomplete)


def contexts(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The gateways that this account knows from afar; none of them is asked."""
    from palyra.afar.contexts import Contexts

    items = []
    with contextlib.suppress(PalyraError):
        items = [_item(each.name, each.url) for each in Contexts.of_user().all()]
    return _beginning(items, incomplete)


def approvals(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The newest approvals, with what is asked beside them."""
    return _approvals(context, incomplete, None)


def pending_approvals(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Approvals that wait, with what is asked beside them."""
    return _approvals(context, incomplete, "pending")


def _approvals(context: click.Context, incomplete: str, state: str | None) -> list[CompletionItem]:
    items = []
    with contextlib.suppress(PalyraError):
        answer = _console(context).get("approvals", ApprovalList, state=state, limit=LIMIT)
        items = [_item(short_id(each.approval_id), _asks(each)) for each in answer.value.approvals]
    return _beginning(items, incomplete)


def _asks(item: ApprovalItem) -> str:
    if item.call is not None:
        return f"{item.call.requested_by} asks {item.call.capability}"
    return f"{item.pairing.name} asks to be paired" if item.pairing is not None else item.kind


def targets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Devices; after ``--where`` the capabilities of any device, since no device is named then."""
    if not context.params.get("where"):
        return devices(context, parameter, incomplete)
    found: dict[str, CapabilityItem] = {}
    with contextlib.suppress(PalyraError):
        for node in _console(context).get("nodes", NodeList, limit=LIMIT).value.nodes:
            found |= {each.name: each for each in node.capabilities if each.granted}
    items = [_item(name, each.risk) for name, each in sorted(found.items())]
    return _beginning(items, incomplete)


def capabilities(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What the device that was typed already can do."""
    items = []
    target = context.params.get("target")
    with contextlib.suppress(PalyraError):
        if target and not context.params.get("where"):
            node = _console(context).get(f"nodes/{segment(target)}", NodeAnswer).value.node
            items = [_item(each.name, each.risk) for each in node.capabilities if each.granted]
    return _beginning(items, incomplete)


def announced(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What the device of the pairing request that was typed already announces."""
    items = []
    # Where an option still lacks its value, click leaves the arguments unnamed.
    request = context.params.get("request") or next(iter(context.args), None)
    with contextlib.suppress(PalyraError):
        if request:
            path = f"pairing/requests/{segment(request)}"
            found = _console(context).get(path, PairingAnswer).value.request
            items = [_item(each.name, each.risk) for each in found.capabilities]
    return _beginning(items, incomplete)


def grants(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What may be granted to the device that was typed; after ``--withhold`` what is granted."""
    items = []
    target, granted = context.params.get("target"), bool(context.params.get("withhold"))
    with contextlib.suppress(PalyraError):
        if target:
            node = _console(context).get(f"nodes/{segment(target)}", NodeAnswer).value.node
            fitting = [each for each in node.capabilities if each.granted == granted]
            items = [_item(each.name, each.risk) for each in fitting]
    return _beginning(items, incomplete)


def jobs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The newest jobs, with capability and device beside them."""
    return _jobs(context, incomplete, ())


def unfinished_jobs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The newest jobs that have not ended, with capability and device beside them."""
    return _jobs(context, incomplete, UNFINISHED)


def _jobs(context: click.Context, incomplete: str, states: tuple[str, ...]) -> list[CompletionItem]:
    items = []
    with contextlib.suppress(PalyraError):
        answer = _console(context).get("jobs", JobList, state=states, limit=LIMIT)
        items = [
            _item(short_id(each.job_id), f"{each.capability} on {each.device_name}")
            for each in answer.value.jobs
        ]
    return _beginning(items, incomplete)


def _console(context: click.Context) -> Console:
    return call_of(context).asking(TIMEOUT_S)


def _item(value: str, description: str) -> CompletionItem:
    extra: dict[str, Any] = {"help": words.escaped(description)}
    return CompletionItem(words.escaped(value), **extra)


def _beginning(items: Iterable[CompletionItem], incomplete: str) -> list[CompletionItem]:
    wanted = incomplete.lower()
    return [item for item in items if str(item.value).lower().startswith(wanted)]
