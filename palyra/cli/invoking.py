"""``palyra nodes invoke``: read the input, ask, wait for the end, tell it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import click
import msgspec

from palyra.cli import following, waiting, words
from palyra.cli.client import Answer, Console, GatewayRefused, segment
from palyra.cli.present import Screen
from palyra.console.models import (
    ApprovalAnswer,
    Invoke,
    InvokeAnswer,
    JobAnswer,
    JobItem,
    SubmitJobs,
)
from palyra.core.callapprovals import APPROVAL
from palyra.core.identifiers import as_prefix, is_ulid, short_id
from palyra.errors import Malformed

FIRST_WAIT_MS = 300
"""How long the first answer may take: from then on the id of the job is known to Ctrl-C."""


@attrs.frozen(kw_only=True)
class Asked:
    """What is to be run, and how."""

    capability: str
    input_json: bytes
    timeout_ms: int | None
    max_payload_bytes: int | None
    ttl_ms: int | None = None
    idempotency_key: str = ""

    def of_one(self, wait_ms: int) -> Invoke:
        """The request body for one device."""
        return Invoke(
            capability=self.capability,
            input_json=msgspec.Raw(self.input_json),
            max_payload_bytes=self.max_payload_bytes,
            timeout_ms=self.timeout_ms,
            wait_ms=wait_ms,
            ttl_ms=self.ttl_ms,
            idempotency_key=self.idempotency_key,
        )

    def of_many(self, where: str, batch: str, max_failures: int | None) -> SubmitJobs:
        """The request body for every device that an expression matches."""
        return SubmitJobs(
            capability=self.capability,
            where=where,
            input_json=msgspec.Raw(self.input_json),
            max_payload_bytes=self.max_payload_bytes,
            timeout_ms=self.timeout_ms,
            ttl_ms=self.ttl_ms,
            idempotency_key=self.idempotency_key,
            batch=batch,
            max_failures=max_failures,
        )


def given(value: str) -> bytes:
    """JSON as an argument, in a file (``@FILE``) or on stdin (``-``), as its bytes."""
    try:
        return checked(read(value))
    except Malformed as error:
        raise click.BadParameter(error.sentence) from error
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error)) from error


def read(value: str) -> str:
    """The text that an ``--input`` names."""
    if value == "-":
        return sys.stdin.read()
    return Path(value[1:]).read_text("utf-8") if value.startswith("@") else value


def checked(text: str) -> bytes:
    """The text as bytes if it is JSON.

    :raises Malformed: with line and column of what is wrong.
    """
    try:
        json.loads(text, parse_constant=_no_constant)
        document = text.encode()
        msgspec.json.decode(document)
    except json.JSONDecodeError as error:
        raise Malformed(f"line {error.lineno}, column {error.colno}", error.msg) from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise Malformed("the input", str(error) or "nested too deep") from error
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def run(
    screen: Screen, console: Console, target: str, asked: Asked, *, wait: bool, follow: bool
) -> int:
    """Ask, and unless told otherwise wait for the end.  The exit status.

    :raises JobUnsuccessful: where the job ended without success.
    """
    events_only = follow and screen.as_json
    wait_ms = FIRST_WAIT_MS if wait and not events_only else 0
    path = f"nodes/{segment(target)}/invoke"
    try:
        first = console.post(path, asked.of_one(wait_ms), InvokeAnswer, wait_ms)
    except KeyboardInterrupt:
        screen.aside("stopped before the gateway had answered; the job may be running")
        screen.hint("palyra jobs list")
        return waiting.INTERRUPTED
    answer = first.value
    device = _name(target, answer.device_id)
    goes_on = answer.state not in waiting.FINAL
    if events_only or (follow and goes_on):
        return _followed(screen, console, waiting.Wait(answer.job_id, device, answer.state))
    if wait and answer.waiting_for == APPROVAL:
        _tell_approval(screen, console, answer)
    if wait and goes_on:
        return _waited(screen, console, answer, waiting.Wait(answer.job_id, device, answer.state))
    return _tell(screen, answer, first.body, device)


def _tell_approval(screen: Screen, console: Console, answer: InvokeAnswer) -> None:
    """Somebody has to decide: until when, and by which command."""
    approval_id = answer.approval_id or ""
    found = console.get(f"approvals/{approval_id}", ApprovalAnswer).value.approval
    left = words.countdown(found.expires_at_unix_ms - screen.now())
    screen.aside(f"..  waiting for approval, {left} left")
    screen.hint(f"palyra approvals approve {short_id(approval_id)}")


def _waited(screen: Screen, console: Console, first: InvokeAnswer, wait: waiting.Wait) -> int:
    try:
        ended = waiting.wait_for(console, wait, screen)
    except KeyboardInterrupt:
        return waiting.still_running(screen, wait)
    answer = _as_invocation(first, ended.value)
    return _tell(screen, answer, msgspec.json.encode(answer), ended.value.job.device_name)


def _followed(screen: Screen, console: Console, wait: waiting.Wait) -> int:
    try:
        job = console.get(f"jobs/{wait.job_id}", JobAnswer).value.job
    except KeyboardInterrupt:
        return waiting.still_running(screen, wait)
    return follow(screen, console, job)


def follow(screen: Screen, console: Console, job: JobItem) -> int:
    """Show how far a job is until it has ended, then its output.  The exit status.

    With ``--json`` one event a line and nothing else.

    :raises JobUnsuccessful: where the job ended without success.
    """
    watch = following.JobWatch(job)
    try:
        ended = _end(screen, console, watch)
    except KeyboardInterrupt:
        return waiting.still_running(
            screen, waiting.Wait(job.job_id, job.device_name, watch.job.state)
        )
    if screen.as_json:
        return 0 if watch.job.state == "succeeded" else 1
    return waiting.tell_end(screen, ended)


def _end(screen: Screen, console: Console, watch: following.JobWatch) -> Answer[JobAnswer]:
    """Follow; where too many follow already, wait as without ``--follow``."""
    try:
        if screen.as_json or not watch.over:
            following.job(screen, console, watch)
    except GatewayRefused as error:
        if screen.as_json or not error.problem.retryable:
            raise
    job = watch.job
    return waiting.wait_for(console, waiting.Wait(job.job_id, job.device_name, job.state), screen)


def _tell(screen: Screen, answer: InvokeAnswer, body: bytes, device: str) -> int:
    going_on = answer.state not in waiting.FINAL
    if screen.as_json:
        screen.json(body)
        return 0 if answer.success or going_on else 1
    if going_on:
        _show_accepted(screen, answer, device)
        return 0
    if not answer.success:
        raise waiting.unsuccessful(
            answer.job_id, device, answer.state, answer.error or "", answer.effect_possible
        )
    waiting.show_end(
        screen,
        job_id=answer.job_id,
        device=device,
        state=answer.state,
        took_ms=answer.took_ms,
        output=bytes(answer.output_json),
    )
    return 0


def _show_accepted(screen: Screen, answer: InvokeAnswer, device: str) -> None:
    if not screen.tty:
        screen.pair("job", answer.job_id)
        screen.pair("state", answer.state)
        if answer.waiting_for == APPROVAL:
            screen.pair("approval", answer.approval_id or "")
        return
    short = short_id(answer.job_id)
    screen.parts((answer.state, "yellow"), (f"  job {short}  {words.escaped(device)}", ""))
    if answer.waiting_for == APPROVAL:
        screen.hint(f"palyra approvals approve {short_id(answer.approval_id or '')}")
        return
    screen.hint(f"palyra jobs wait {short}")


def _as_invocation(first: InvokeAnswer, ended: JobAnswer) -> InvokeAnswer:
    """The answer that the gateway would have given had it been asked to wait that long."""
    job = ended.job
    return msgspec.structs.replace(
        first,
        success=job.state == "succeeded",
        state=job.state,
        output_json=ended.output_json,
        error=ended.error or (job.note if job.state != "succeeded" else None) or None,
        error_code=job.error_code or None,
        effect_possible=job.effect_possible,
        took_ms=job.took_ms,
        waiting_for=job.waiting_for,
    )


def _name(target: str, device_id: str) -> str:
    """What to call the device before its name is known: what was typed, unless that is an id."""
    prefix = as_prefix(target)
    typed_id = is_ulid(target.upper()) or (prefix and device_id[10:].startswith(prefix))
    return short_id(device_id) if typed_id else target
