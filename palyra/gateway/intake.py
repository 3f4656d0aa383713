"""Intake: whether a call is accepted, refused, or may wait, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
from twisted.internet.interfaces import IReactorTime

from palyra.capability.descriptor import is_reserved
from palyra.config.jobs import JobsSection
from palyra.core.calldigest import ExactInput
from palyra.core.devices import AnnouncedCapability, Device, PresenceState
from palyra.core.identifiers import DeviceId, Entropy, JobId, new_ulid, short_id
from palyra.core.jobs import Call, Job
from palyra.core.policy import Decision, Effect
from palyra.errors import DeviceOffline, InputInvalid, PalyraError, PayloadTooLarge
from palyra.gateway.descriptors import Known
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import (
    Ask,
    Order,
    call_of,
    check,
    client_id,
    is_client,
    permitted,
)
from palyra.gateway.policing import Policing
from palyra.gateway.presence import LINGER_MS, PresenceBoard

START_GRACE_MS = 90_000
"""After a start, calls without time to wait still wait for devices that are on their way back."""
VERSION_ONE_PAYLOAD = 1024 * 1024


_UNJUDGED = Decision(Effect.DENY, "refused before any rule was asked")


class Judged(NamedTuple):
    """The job that an ask makes on one device, what the rules say to it, and why it must be
    refused; not accepted yet."""

    job: Job
    decision: Decision
    refusal: PalyraError | None = None

    @property
    def asked(self) -> bool:
        """Whether a rule holds it until an operator has said yes."""
        return self.refusal is None and self.decision.effect is Effect.ASK


class Intake:
    """Makes jobs of orders, and knows how long each may wait for its device."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        entropy: Entropy,
        inventory: Inventory,
        board: PresenceBoard,
        limits: JobsSection,
        policing: Policing,
        known: Callable[[str], Known | None],
    ) -> None:
        """``known`` finds what is known of a capability, by the digest of its descriptor."""
        self._policing = policing
        self.is_program: Callable[[str], bool] = lambda _: False
        """Whether an operator, by id, is a program that a person answers for."""
        self._known = known
        self._clock = clock
        self._entropy = entropy
        self._inventory = inventory
        self._board = board
        self._limits = limits
        self.started_ms = self.now_ms()

    def check(self, ask: Ask) -> ExactInput:
        """Refuse what no device could be asked; :func:`palyra.gateway.orders.check`."""
        return check(ask, self._limits)

    def job_for(self, order: Order) -> Judged:
        """The job that an order makes.  What a rule denies leaves an audit row and no job.

        :raises PalyraError: the device, the input, a limit, the capability or a rule does not
            allow it.
        """
        device = self._inventory.paired(order.device_id)
        capability = permitted(device, order.capability)
        exact = check(order, self._limits)
        self._check_input(exact, device, capability)
        decision = self._policing.judge(order, device, capability, exact.value)
        if decision.effect is Effect.DENY:
            self._policing.note_denied(order, device, decision)
            raise self._denial(order, device, decision)
        now_ms = self.now_ms()
        job_id = self._job_id(now_ms)
        call = call_of(order, exact.json, device, job_id, now_ms, self._limits, capability)
        return Judged(Job(call), decision)

    def row_for(self, ask: Ask, exact: ExactInput, device: Device, now_ms: int) -> Judged:
        """The job that a checked ask makes on one of many devices."""
        refusal: PalyraError | None = None
        capability, decision = None, _UNJUDGED
        try:
            device = self._inventory.paired(device.device_id)
            capability = permitted(device, ask.capability)
            self._check_input(exact, device, capability)
            decision = self._policing.judge(ask, device, capability, exact.value)
            if decision.effect is Effect.DENY:
                refusal = self._denial(ask, device, decision)
        except PalyraError as error:
            refusal = error
        job_id = self._job_id(now_ms)
        call = call_of(ask, exact.json, device, job_id, now_ms, self._limits, capability)
        return Judged(Job(call), decision, refusal)

    def _check_input(
        self, exact: ExactInput, device: Device, capability: AnnouncedCapability
    ) -> None:
        """Refuse what the capability's own schema does not allow, where it is known.

        :raises InputInvalid: of every field that is wrong.
        """
        known = self._known(capability.digest)
        faults = () if known is None else exact.faults(known.digest, known.checker)
        if faults:
            name = capability.name
            brings = "" if is_reserved(name) else device.name
            wrong = [(fault.field, fault.problem) for fault in faults]
            raise InputInvalid.of(wrong, name, brings)

    def _denial(self, ask: Ask, device: Device, decision: Decision) -> PalyraError:
        who = self._named(ask.requested_by)
        return self._policing.denial(who, ask.capability, device, decision)

    def waiting(
        self, call: Call, session: NodeSession | None, *, accepted: bool = False
    ) -> Call | None:
        """The call, with the end of its wait for a device; None where it must be refused.

        A call with a session to wait for, or with a time to live of its own, keeps what it has.
        One that was ``accepted`` by an earlier life of this gateway waits as all of those do.
        """
        if session is not None or call.queue_expires_at_ms is not None:
            return call
        if (
            accepted
            and call.submitted_at_ms < self.started_ms
            and self.now_ms() < self.grace_ends_ms
        ):
            return call
        if not self._comes_back(call.device_id):
            return None
        wait_ms = min(call.run_timeout_ms, LINGER_MS)
        return attrs.evolve(call, queue_expires_at_ms=self.now_ms() + wait_ms)

    def check_device(self, call: Call) -> None:
        """Refuse a device that may not be used any more (NotFound, DeviceRevoked)."""
        self._inventory.paired(call.device_id)

    def check_target(self, call: Call) -> None:
        """Refuse what the device may not be asked any more: as :meth:`check_device`, and what its
        grants do not allow."""
        permitted(self._inventory.paired(call.device_id), call.capability)

    def offline(self, call: Call) -> DeviceOffline:
        """The refusal of a call to a device that is away."""
        heard_ms = self._board.last_heard_ms(call.device_id)
        if heard_ms is None:
            device = self._inventory.device(call.device_id)
            heard_ms = device.last_heard_ms if device is not None else None
        heard = "" if heard_ms is None else _ago(self.now_ms() - heard_ms)
        return DeviceOffline(call.device_name, heard, call.job_id)

    def shown_caller(self, call: Call) -> str:
        """Who asks, as the person at the device will read it; a program is told from a person."""
        name = self._named(call.requested_by)
        return f"{name} (operator)" if self.is_program(call.operator_id) else name

    def _named(self, requested_by: str) -> str:
        if not is_client(requested_by):
            return requested_by
        device_id = client_id(requested_by)
        device = self._inventory.device(device_id)
        name = device.name if device is not None else "a device"
        return f"{name} ({short_id(device_id)})"

    def end_of_patience(self) -> int:
        """Until when (ms) a call without time to wait waits for a device that just went away."""
        return max(self.now_ms() + LINGER_MS, self.grace_ends_ms)

    @property
    def grace_ends_ms(self) -> int:
        """Until when devices may still be on their way back to a gateway that has started."""
        return self.started_ms + START_GRACE_MS

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds."""
        return int(self._clock.seconds() * 1000)

    def _comes_back(self, device_id: DeviceId) -> bool:
        """Whether the device has only just gone, or this gateway has only just come."""
        if self._board.state(device_id) is not PresenceState.OFFLINE:
            return True
        never_back = self._board.last_heard_ms(device_id) is None
        return never_back and self.now_ms() < self.grace_ends_ms and self._was_here(device_id)

    def _was_here(self, device_id: DeviceId) -> bool:
        """Whether the device was in touch shortly before this gateway started."""
        device = self._inventory.device(device_id)
        heard_ms = device.last_heard_ms if device is not None else None
        return heard_ms is not None and self.started_ms - heard_ms < START_GRACE_MS

    def _job_id(self, now_ms: int) -> JobId:
        return JobId(new_ulid(now_ms, self._entropy))


def check_carried(call: Call, session: NodeSession | None) -> None:
    """A node that takes no payload in pieces, as of version 1, must be able to take it whole.

    :raises PayloadTooLarge: it does not.
    """
    whole = session is not None and not session.takes_pieces
    if whole and len(call.input_json) > VERSION_ONE_PAYLOAD:
        raise PayloadTooLarge("input", len(call.input_json), VERSION_ONE_PAYLOAD)


def payload_limit(call: Call, session: NodeSession) -> int:
    """How many bytes of output the node is told that it may answer with."""
    limit = call.max_payload_bytes
    return limit if session.takes_pieces else min(limit, VERSION_ONE_PAYLOAD)


def _ago(milliseconds: int) -> str:
    """How long ago, as people read it."""
    seconds = max(0, milliseconds // 1000)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"
