"""What this package offers to a node: systemd.unit_status."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import Meta
from palyra.capability import Capability, CapabilityContext, Risk, hookimpl
from palyra.errors import InputInvalid

from palyra_cap_systemd.show import Show, full_name, number, parsed, systemctl

NAME = "systemd.unit_status"
_Pattern = Annotated[str, Meta(min_length=1, max_length=255)]


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Which unit."""

    unit: Annotated[
        str,
        Meta(min_length=1, max_length=255, description="As sshd, or backup.timer."),
    ]


class Status(msgspec.Struct):
    """What systemd says of the unit, in its own words; None for what it does not say.

    ``since_unix_ms`` is when its state changed.
    """

    unit: str
    load: str
    active: str
    sub: str
    enabled: str
    description: str
    result: str
    since_unix_ms: int | None
    main_pid: int | None
    memory_bytes: int | None
    restarts: int


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """Which units may be asked about, by name or pattern (``nginx.service``, ``backup-*``)."""

    units: Annotated[tuple[_Pattern, ...], Meta(max_length=256)] = ("*",)


def capability(show: Show, now_s: Callable[[], float], up_s: Callable[[], float]) -> Capability:
    """The capability, with what it asks: systemd, the wall clock, and the monotonic clock."""

    async def unit_status(asked: Asked, context: CapabilityContext) -> Status:
        unit = _allowed(asked.unit, context.settings)
        said = parsed(await show(unit))
        changed_us = number(said["StateChangeTimestampMonotonic"])
        since_s = None if changed_us is None else now_s() - (up_s() - changed_us / 1e6)
        return Status(
            unit=said["Id"] or unit,
            load=said["LoadState"],
            active=said["ActiveState"],
            sub=said["SubState"],
            enabled=said["UnitFileState"],
            description=said["Description"],
            result=said["Result"],
            since_unix_ms=None if since_s is None else round(since_s * 1000),
            main_pid=number(said["MainPID"]),
            memory_bytes=number(said["MemoryCurrent"]),
            restarts=number(said["NRestarts"]) or 0,
        )

    return Capability(
        name=NAME,
        description="Says in which state a systemd unit is, and since when.",
        handler=unit_status,
        input_type=Asked,
        output_type=Status,
        settings_type=Settings,
        risk=Risk.LOW,
        idempotent=True,
        timeout_s=15.0,
    )


def _allowed(unit: str, settings: Settings) -> str:
    """The unit's full name.

    :raises InputInvalid: there can be no such unit, or the owner keeps it to himself.
    """
    named = full_name(unit)
    if not named:
        raise InputInvalid("input.unit", "is not the name of a unit", NAME)
    if not any(fnmatchcase(named, each) or named == full_name(each) for each in settings.units):
        raise InputInvalid("input.unit", "is none that this device's owner allows", NAME)
    return named


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """What this plugin brings."""
    return [capability(systemctl, time.time, time.monotonic)]
