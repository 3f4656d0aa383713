"""Bodies about the gateway itself: its health and its state."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract


class ConfirmState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST state/confirm: nothing has to be said."""


class StateAnswer(msgspec.Struct, frozen=True):
    """GET state, POST state/confirm: whether devices are served.

    ``unconfirmed_since_unix_ms`` is the age of what was restored or imported, until an operator
    has confirmed the revocations since then.
    """

    contract: Contract
    serving: bool
    unconfirmed_since_unix_ms: int | None


class Check(msgspec.Struct, frozen=True):
    """One line of ``doctor``; ``verdict`` is ok, warn or FAIL."""

    verdict: str
    name: str
    finding: str
    where: str = ""
    hint: str = ""


class Health(msgspec.Struct, frozen=True):
    """GET doctor: the checks only the running gateway can make."""

    contract: Contract
    version: str
    pid: int
    state_root: str
    started_at_unix_ms: int
    ca_fingerprint: str
    listeners: dict[str, str]
    checks: list[Check]
