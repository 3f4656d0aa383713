"""``palyra node status``: how the node host of this device is, for people and for scripts."""

from __future__ import annotations

import click
import msgspec

from palyra import __version__
from palyra.cli import nodestatuslines, words
from palyra.cli.nodefacts import Facts, look
from palyra.cli.noderoot import node_state_root
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.node.controlwords import CapabilityCount, LastError


class ServiceItem(msgspec.Struct, frozen=True):
    """The service, as its manager says; ``at_boot`` is null where it cannot tell."""

    manager: str
    scope: str
    described: str
    running: bool
    state: str
    result: str
    at_boot: bool | None
    files: tuple[str, ...]


class StatusItem(msgspec.Struct, frozen=True):
    """``palyra node status --json``; times are Unix ms, 0 where there is none."""

    installed: bool
    paired: bool
    running: bool
    pid: int
    device_id: str
    grpc_url: str
    poll_interval_ms: int
    identity_store_dir: str
    installed_at_unix_ms: int
    paired_at_unix_ms: int
    stdout_log_path: str
    stderr_log_path: str
    started_at_unix_ms: int
    cert_expires_at_unix_ms: int
    state: str
    name: str
    state_root: str
    transport: str = ""
    address: str = ""
    last_heard_unix_ms: int = 0
    retry_at_unix_ms: int = 0
    cert_renews_at_unix_ms: int = 0
    version: str = ""
    gateway_version: str = ""
    installed_version: str = __version__
    capabilities: CapabilityCount | None = None
    faults: list[str] = []
    jobs: int = 0
    requests: int = 0
    containment: str = ""
    service: ServiceItem | None = None
    last_error: LastError | None = None
    problems: list[str] = []


@click.command(cls=Verb)
@pass_call
def status(call: Call) -> int:
    """See how the node host is: service, connection, certificate, last error.

    Ends with 0 online, 3 running without its gateway, 1 all else.
    """
    facts = look(node_state_root(call))
    screen = call.screen
    if screen.as_json:
        screen.json(msgspec.json.encode(item(facts)))
    elif screen.tty:
        nodestatuslines.show(screen, facts)
    else:
        _show_pairs(screen, facts)
    return facts.exit_code


def item(facts: Facts) -> StatusItem:
    """All of it, for scripts."""
    host, mark, answer, files = facts.host, facts.mark, facts.answer, facts.files
    process = facts.process
    return StatusItem(
        installed=mark is not None,
        paired=host is not None,
        running=facts.running,
        pid=facts.pid,
        device_id=host.device_id if host is not None else "",
        grpc_url=host.grpc_url if host is not None else "",
        poll_interval_ms=host.poll_interval_ms if host is not None else 0,
        identity_store_dir=str(files.identity.path),
        installed_at_unix_ms=mark.installed_at_unix_ms if mark is not None else 0,
        paired_at_unix_ms=host.paired_at_unix_ms if host is not None else 0,
        stdout_log_path=process.stdout_log_path if process is not None else str(files.stdout_log),
        stderr_log_path=process.stderr_log_path if process is not None else str(files.stderr_log),
        started_at_unix_ms=facts.started_at_ms,
        cert_expires_at_unix_ms=facts.cert_expires_ms,
        state=facts.state,
        name=facts.name,
        state_root=str(files.state_root),
        transport=answer.transport if answer is not None else "",
        address=answer.address if answer is not None else "",
        last_heard_unix_ms=answer.last_heard_unix_ms if answer is not None else 0,
        retry_at_unix_ms=answer.retry_at_unix_ms if answer is not None else 0,
        cert_renews_at_unix_ms=answer.cert_renews_at_unix_ms if answer is not None else 0,
        version=answer.version if answer is not None else process.version if process else "",
        gateway_version=answer.gateway_version if answer is not None else "",
        capabilities=answer.capabilities if answer is not None else None,
        faults=answer.faults if answer is not None else [],
        jobs=answer.jobs if answer is not None else 0,
        requests=answer.requests if answer is not None else 0,
        containment=answer.containment if answer is not None else "",
        service=_service_item(facts),
        last_error=facts.last_error,
        problems=[each.sentence for each in facts.problems],
    )


def _service_item(facts: Facts) -> ServiceItem | None:
    mark, state = facts.mark, facts.service
    if mark is None:
        return None
    return ServiceItem(
        manager=mark.manager,
        scope=mark.scope,
        described=facts.described,
        running=state is not None and state.running,
        state=state.word if state is not None else "",
        result=state.result if state is not None else "",
        at_boot=state.at_boot if state is not None else None,
        files=mark.files,
    )


# -- for scripts without JSON -------------------------------------------------------------------


def _show_pairs(screen: Screen, facts: Facts) -> None:
    told = item(facts)
    error = told.last_error
    pairs = [
        ("state", told.state),
        ("name", told.name),
        ("device_id", told.device_id),
        ("transport", told.transport),
        ("address", told.address),
        ("last_heard", _utc(told.last_heard_unix_ms)),
        ("service", facts.described or words.NOTHING),
        ("pid", str(told.pid) if told.pid else ""),
        ("started", _utc(told.started_at_unix_ms)),
        ("certificate_expires", _utc(told.cert_expires_at_unix_ms)),
        ("certificate_renews", _utc(told.cert_renews_at_unix_ms)),
        ("capabilities", nodestatuslines.counts(told.capabilities)),
        ("jobs", str(told.jobs)),
        ("version", told.version),
        ("gateway_version", told.gateway_version),
        ("last_error", error.sentence if error is not None else ""),
        ("last_error_began", _utc(error.began_at_unix_ms if error is not None else 0)),
        ("last_error_healed", _utc(error.healed_at_unix_ms if error is not None else 0)),
    ]
    for key, value in pairs:
        screen.pair(key, value or words.NOTHING)
    for each in told.faults:
        screen.pair("fault", each)
    for sentence in told.problems:
        screen.pair("problem", sentence)


def _utc(at_ms: int) -> str:
    return words.utc(at_ms or None)
