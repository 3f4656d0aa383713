"""``palyra node install``: pair where needed, and give the node host to a service manager."""

from __future__ import annotations

import getpass
import io
import os
import sys
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from palyra.cli import nodeplan
from palyra.cli.nodepairing import Asked, pairing_options
from palyra.cli.nodeplan import Made, Plan, Wishes
from palyra.cli.noderoot import check_owner, install_root, node_state_root
from palyra.cli.nodestarting import RUNNING, Begun, begun, ok, show_begun
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.core.identifiers import short_id
from palyra.errors import DidNotStart, NotPaired, PairingExpired, PairingRejected
from palyra.node.files import HostFile
from palyra.supervision.acting import acting_as
from palyra.supervision.service import Manager, Profile, Scope

GO_ON = "palyra node install --start"


class Report(msgspec.Struct, frozen=True):
    """``install --json``; ``state`` is that of the node host, empty where it was not started."""

    paired: bool
    installed: bool
    started: bool
    manager: str
    files: tuple[str, ...]
    pid: int
    device_id: str
    name: str
    state: str
    changed: bool


@click.command(cls=Verb)
@pairing_options
@click.option("--start", "start", is_flag=True, help="Start it now, and wait until it is online.")
@click.option(
    "--manager",
    type=click.Choice([each.value for each in Manager]),
    help="Who keeps it running (default: what this system has; process: a background process).",
)
@click.option(
    "--profile",
    type=click.Choice([each.value for each in Profile]),
    help="How much of the machine it may touch (default: standard, of a system service strict).",
)
@click.option(
    "--run-as",
    metavar="USER",
    help="Whom a system service runs as (default: palyra-node, which is made).",
)
@click.option(
    "--credential",
    "credentials",
    metavar="NAME=FILE",
    multiple=True,
    help="A file that systemd hands to the service and to nobody else.",
)
@pass_call
def install(
    call: Call,
    /,
    start: bool,
    manager: str | None,
    profile: str | None,
    run_as: str | None,
    credentials: tuple[str, ...],
    **pairing: Any,
) -> int:
    """Install the node host as a service, and pair it before.

    It is there after every boot: a user's is that user's own, root's is the machine's. Installed
    again, it is brought up to date.
    """
    asked = Asked(**pairing)
    root = install_root(call)
    check_owner(root, "install")
    wishes = Wishes(
        manager=Manager(manager) if manager else None,
        profile=Profile(profile) if profile else None,
        run_as=run_as,
        credentials=nodeplan.credentials(credentials),
        start=start,
    )
    plan = nodeplan.plan(root, wishes)
    host, news = _paired(call.screen, plan, asked)
    try:
        made = nodeplan.carry_out(plan)
        made = attrs.evolve(made, changed=made.changed or news)
        _say_installed(call.screen, plan, made)
        if node_state_root(call) != root:
            note = f"note  root has a node host of its own; this one is named --state-root {root}"
            call.screen.aside(note)
        started = _started(call.screen, plan) if start else None
    except BaseException as error:
        _say_how_to_go_on(call.screen, host, error)
        raise
    return _told(call.screen, plan, made, host, started)


# -- pairing ------------------------------------------------------------------------------------


def _paired(screen: Screen, plan: Plan, asked: Asked) -> tuple[HostFile, bool]:
    """The pairing there is, else a new one: a service never pairs.  Whether a service that runs
    does not know it as it is now."""
    from palyra.node.proxies import remember_proxy

    with acting_as(plan.worker):
        before = _kept_pairing(plan)
        if before is None:
            _pair(screen, plan, asked)
        else:
            _keep(screen, plan, asked, before)
        remember_proxy(plan.files, os.environ)
        host = plan.files.host()
    assert host is not None, "it is paired"
    by = f", approved by {host.approved_by}" if host.approved_by else ""
    text = f"{host.name}  {short_id(host.device_id)}{by}"
    ok(screen, "paired", text, host.name, host.device_id, host.approved_by)
    return host, host != before


def _keep(screen: Screen, plan: Plan, asked: Asked, host: HostFile) -> None:
    """Let it be as it is, but for where its gateways are."""
    from palyra.node.whereabouts import moved

    if asked.pairs:
        where = host.enrolment_address or host.grpc_url
        screen.aside(f"note  paired already with {where}; to pair anew: palyra node run")
    there = moved(host, asked.grpc_url)
    if there is not host:
        plan.files.keep_host(there)


def _kept_pairing(plan: Plan) -> HostFile | None:
    """That of a device which is paired to its end."""
    from palyra.node.pairing import unfinished

    host = plan.files.host()
    if host is None or plan.files.identity.client().current is None:
        return None
    return None if unfinished(plan.files) is not None else host


def _pair(screen: Screen, plan: Plan, asked: Asked) -> None:
    from palyra.node import foreground
    from palyra.node.pairing import unfinished

    if not asked.pairs and unfinished(plan.files) is None:
        remedy = f"{GO_ON} --gateway HOST"
        raise NotPaired(str(plan.files.state_root), remedy)
    options = asked.options(plan.files.state_root)
    out = io.StringIO() if screen.as_json else sys.stderr
    try:
        foreground.pair(options, out)
    except (PairingRejected, PairingExpired) as error:
        error.remedy = f"{GO_ON} --gateway HOST (with a new code)"
        raise
    except KeyboardInterrupt:
        if plan.files.identity.waiting() is not None:
            screen.aside("note  nothing is installed; the pairing still waits for an operator")
            screen.hint(GO_ON)
        raise


def _say_how_to_go_on(screen: Screen, host: HostFile, error: BaseException) -> None:
    if not isinstance(error, DidNotStart):
        screen.aside(f"note  {host.name} stays paired; to go on: {GO_ON}")


# -- the service --------------------------------------------------------------------------------


def _say_installed(screen: Screen, plan: Plan, made: Made) -> None:
    mark, notes = made.mark, []
    if not mark.files and plan.manager.state().at_boot is False:
        notes.append("does not start at boot")
    if plan.before is not None:
        notes.append("updated" if made.changed else "unchanged")
    where = ", ".join(map(_shown, mark.files)) or plan.manager.described
    text = f"{where} ({', '.join(notes)})" if notes else where
    ok(screen, "installed", text, *(mark.files or (plan.manager.described,)))
    user = _ends_with_session(plan)
    if user:
        note = f"note  stops when {user} logs out; to keep it: loginctl enable-linger {user}"
        screen.aside(note)


def _ends_with_session(plan: Plan) -> str:
    """The user at whose sign-out it will end; empty where it goes on, or cannot be told."""
    if plan.manager.kind is not Manager.SYSTEMD or plan.scope is not Scope.USER:
        return ""
    from palyra.supervision import systemd

    user = getpass.getuser()
    return user if systemd.lingers(user) is False else ""


def _shown(file: str) -> str:
    """A path with ``~`` for the home directory."""
    try:
        return f"~/{Path(file).relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return file


def _started(screen: Screen, plan: Plan) -> Begun:
    """Start it, and see that it comes online; one that ends at once is not tried again and again.

    :raises DidNotStart: it ended; it stays installed.
    """
    act = (lambda: None) if plan.runs else plan.manager.start
    try:
        return begun(screen, plan.manager, plan.files, act)
    except DidNotStart:
        plan.manager.stop()
        raise


def _told(screen: Screen, plan: Plan, made: Made, host: HostFile, started: Begun | None) -> int:
    """The last lines, and the exit code."""
    code = 0 if started is None or started.online else 3
    if screen.as_json:
        screen.json(msgspec.json.encode(_report(made, host, started)))
        return code
    if started is not None:
        show_begun(screen, started, RUNNING if plan.runs else "started")
    if plan.runs and made.changed:
        screen.hint("palyra node restart")
    else:
        screen.hint("palyra node start" if started is None and not plan.runs else _STATUS)
    return code


_STATUS = "palyra node status"


def _report(made: Made, host: HostFile, started: Begun | None) -> Report:
    return Report(
        paired=True,
        installed=True,
        started=started is not None,
        manager=made.mark.manager,
        files=made.mark.files,
        pid=started.pid if started is not None else 0,
        device_id=host.device_id,
        name=host.name,
        state=(started.state or "starting") if started is not None else "",
        changed=made.changed,
    )
