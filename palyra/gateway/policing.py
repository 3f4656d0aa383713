"""Policing: what the present rules say to a call, and where they are read from again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from palyra.config.policy import PolicySection, rules_of
from palyra.core.audit import AuditEntry
from palyra.core.devices import AnnouncedCapability, Device, Risk
from palyra.core.jobs import Call, Job
from palyra.core.operators import LOCAL, Role
from palyra.core.policy import Asking, Decision, Effect, Principal, Rules, decide
from palyra.errors import ApprovalNeeded, ConfigInvalid, RuleDenies
from palyra.gateway.orders import Ask, client_id, is_client

FILE = "palyra.toml"
_PLAINLY = Decision(Effect.ALLOW, "no rule; risk low is allowed")


def local_role(operator_id: str) -> Role | None:
    """The role of an account of this machine; nobody else has one."""
    return Role.ADMIN if operator_id.startswith(LOCAL) else None


class Policing:
    """The one place that decides.

    ``role_of`` says which role an operator has now, None where there is no such operator any more;
    ``record`` keeps audit rows.  ``watchers`` are called when the rules have changed.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        rules: Rules = Rules.empty,
        now_ms: Callable[[], int],
        record: Callable[[Sequence[AuditEntry]], Awaitable[Any]],
        role_of: Callable[[str], Role | None] = local_role,
    ) -> None:
        self.rules = rules
        self.role_of = role_of
        self.watchers: list[Callable[[], object]] = []
        self._now_ms = now_ms
        self._record = record

    def judge(
        self, ask: Ask, device: Device, capability: AnnouncedCapability, value: object
    ) -> Decision:
        """What the rules say to a call that comes in; ``value`` is its decoded input."""
        rules = self.rules
        if rules.plain and capability.granted_as is Risk.LOW:
            return _PLAINLY
        principal = (
            _client(ask.requested_by)
            if ask.caller is None
            else Principal(ask.caller.operator_id, ask.caller.role)
        )
        return self._decided(principal, device, capability, value)

    def judge_again(self, call: Call, device: Device, capability: AnnouncedCapability) -> Decision:
        """What they say to one that was accepted before, whoever asked for it is by now."""
        if self.rules.plain and capability.granted_as is Risk.LOW:
            return _PLAINLY
        if is_client(call.requested_by):
            principal = _client(call.requested_by)
        else:
            principal = Principal(call.operator_id, self.role_of(call.operator_id))
        value = msgspec.json.decode(call.input_json) if self.rules.rules else None
        return self._decided(principal, device, capability, value)

    def require(self, job: Job, device: Device, capability: AnnouncedCapability) -> None:
        """Refuse what was accepted without an approval and may not be sent like that any more.

        Of a job that was sent before only a rule that denies keeps another attempt.

        :raises RuleDenies, ApprovalNeeded: the rules, the device or the role are others by now.
        """
        call, decision = job.call, self.judge_again(job.call, device, capability)
        if decision.effect is Effect.DENY:
            raise self.denial(call.requested_by, capability.name, device, decision)
        if decision.effect is Effect.ASK and not job.attempts:
            raise ApprovalNeeded(capability.name, device.name)

    def risk_of(self, capability: AnnouncedCapability) -> Risk:
        """The risk that counts for a capability."""
        return self.rules.risk_of(capability)

    @staticmethod
    def denial(who: str, capability: str, device: Device, decision: Decision) -> RuleDenies:
        """The refusal of what a rule denies; ``who`` is how people call whoever asks."""
        rule = decision.rule
        return RuleDenies(
            who=who,
            capability=capability,
            device=device.name,
            rule=f"{FILE}, {rule}",
            where=str(rule.where) if rule is not None and rule.where is not None else "",
        )

    def note_denied(self, ask: Ask, device: Device, decision: Decision) -> None:
        """A call was refused and leaves no job: it leaves an audit row."""
        entry = AuditEntry(
            at_ms=self._now_ms(),
            action="job.submitted",
            subject=f"device:{device.device_id}",
            subject_name=device.name,
            result=f"denied, {decision.rule}",
            who="" if ask.caller is not None else ask.requested_by,
            details={"capability": ask.capability},
        )
        self._note(entry)

    def reload(self, read: Callable[[], tuple[PolicySection, str]]) -> None:
        """Take the rules of ``read`` (and SHA-256 of their file) from now on; a file that has a
        fault changes nothing."""
        try:
            section, digest = read()
            rules = rules_of(section)
        except ConfigInvalid as error:
            self._log.error("the rules stay as they are: {why}", why=error.sentence)
            self._note(self._reloaded(f"refused, {error.path}", {}))
            return
        self.rules = rules
        self._log.info(
            "rules read again: {count}, {file} {digest}",
            count=len(rules.rules),
            file=FILE,
            digest=digest[:16],
        )
        self._note(self._reloaded("ok", {"sha256": digest, "rules": len(rules.rules)}))
        for watcher in self.watchers:
            watcher()

    def _decided(
        self,
        principal: Principal,
        device: Device,
        capability: AnnouncedCapability,
        value: object,
    ) -> Decision:
        asking = Asking(principal, capability.name, self.rules.risk_of(capability), value)
        return decide(self.rules, asking, device)

    def _reloaded(self, result: str, details: dict[str, str | int | bool]) -> AuditEntry:
        return AuditEntry(
            at_ms=self._now_ms(),
            action="policy.reloaded",
            subject="policy",
            subject_name=FILE,
            result=result,
            details=details,
        )

    def _note(self, entry: AuditEntry) -> None:
        kept = self._record([entry])
        if isinstance(kept, Deferred):
            kept.addErrback(lambda failure: self._log.failure("an audit row was lost", failure))


def _client(requested_by: str) -> Principal:
    return Principal(device_id=client_id(requested_by))
