"""Promises of policing: one place decides, and its rules are read again as a whole or not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher

from palyra.config.policy import PolicySection
from palyra.core.audit import AuditEntry
from palyra.core.devices import AnnouncedCapability
from palyra.core.operators import Role
from palyra.core.policy import Effect, Rules
from palyra.errors import ConfigInvalid, DiskFull
from palyra.gateway.orders import Ask, client
from palyra.gateway.policing import Policing, local_role
from tests.gateway.asked import ANA, rule
from tests.store.samples import a_code, a_device, a_request

LOW, OTHERS = AnnouncedCapability("echo"), AnnouncedCapability("acme.print")
DEVICE = a_device(a_request("pi", a_code()))


class Kept:
    """Audit rows that were handed in."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.error: Exception | None = None

    def record(self, entries: Sequence[AuditEntry]) -> Deferred[None]:
        self.entries += entries
        return succeed(None) if self.error is None else fail(self.error)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def policing(kept: Kept, *rules: object) -> Policing:
    return Policing(rules=Rules(tuple(rules)), now_ms=lambda: 7, record=kept.record)  # type: ignore[arg-type]


def ask(capability: str = "echo", **changes: object) -> Ask:
    given = {"requested_by": "ana", "caller": ANA, "input_json": b"{}", **changes}
    return Ask(capability=capability, **given)  # type: ignore[arg-type]


def test_without_rules(kept: Kept) -> None:
    """What is of low risk runs; what other plugins bring is asked."""
    police = policing(kept)
    assert police.judge(ask(), DEVICE, LOW, {}).effect is Effect.ALLOW
    assert police.judge(ask("acme.print"), DEVICE, OTHERS, {}).effect is Effect.ASK


def test_who_asks(kept: Kept) -> None:
    """Operators by role and id, paired clients by their device."""
    mine = rule(Effect.DENY, who=frozenset({"role:operator"}))
    theirs = rule(Effect.DENY, 2, who=frozenset({f"device:{DEVICE.device_id}"}))
    police = policing(kept, mine, theirs)
    client_ask = ask(requested_by=client(DEVICE.device_id), caller=None)
    assert police.judge(ask(), DEVICE, LOW, {}).rule is mine
    assert police.judge(client_ask, DEVICE, LOW, {}).rule is theirs


def test_local_accounts_are_admins() -> None:
    """Nobody else has a role that is not said."""
    assert local_role("local:1000") is Role.ADMIN and local_role(ANA.operator_id) is None


def test_a_reload(kept: Kept) -> None:
    """New rules hold from then on, whoever watches hears of it, and the file's hash is kept."""
    police, heard = policing(kept), list[int]()
    police.watchers.append(lambda: heard.append(len(police.rules.rules)))
    section = PolicySection(rule=(_section("deny"),))
    police.reload(lambda: (section, "f" * 64))
    assert police.judge(ask(), DEVICE, LOW, {}).effect is Effect.DENY and heard == [1]
    (entry,) = kept.entries
    assert (entry.action, entry.result) == ("policy.reloaded", "ok")
    assert entry.details["sha256"] == "f" * 64


def test_a_file_with_a_fault(kept: Kept) -> None:
    """It changes nothing, and says so in log and audit."""
    police, logged = policing(kept, rule(Effect.DENY)), list[dict[str, object]]()

    def broken() -> tuple[PolicySection, str]:
        raise ConfigInvalid("palyra.toml", "policy.rule[0].effect", "must be allow")

    globalLogPublisher.addObserver(logged.append)
    try:
        police.reload(broken)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert police.judge(ask(), DEVICE, LOW, {}).effect is Effect.DENY
    assert kept.entries[0].result == "refused, policy.rule[0].effect"
    assert any(each["log_level"] is LogLevel.error for each in logged)


def test_an_audit_row_that_is_lost(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal stays one, and the loss is logged."""
    caplog.set_level(logging.CRITICAL)
    kept.error = DiskFull("/srv")
    logged: list[dict[str, object]] = []
    police = policing(kept, rule(Effect.DENY, 4))
    globalLogPublisher.addObserver(logged.append)
    try:
        police.note_denied(ask(), DEVICE, police.judge(ask(), DEVICE, LOW, {}))
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert kept.entries[0].result == "denied, rule 4"
    assert any("log_failure" in each for each in logged)


def _section(effect: str) -> object:
    from palyra.config.policy import RuleSection

    return RuleSection(effect=effect)
