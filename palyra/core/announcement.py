"""Announcements: what a device says of itself when it asks to pair, as bounded JSON.

The bytes are signed as sent, so nothing is ever re-encoded before a check.  Everything a person
may be shown is made safe to show here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import attrs
import msgspec

from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability, clean_name, clean_text
from palyra.errors import Malformed

MAX_BYTES = 64 * 1024
MAX_CAPABILITY_NAME = 64
MAX_TEXT = 64
MAX_FAULT = 200
MAX_TIMEOUT_MS = 24 * 3_600_000
_FIELD = "announcement"


@attrs.frozen
class Announcement:
    """A device's wish for a name, what it runs on, and what it offers."""

    name: str = "device"
    platform: str = ""
    version: str = ""
    capabilities: tuple[AnnouncedCapability, ...] = ()


class _Capability(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    available: bool = True
    digest: str = ""
    version: str = ""
    risk: Literal["low", "medium", "high"] = "low"
    needs_mediation: bool = False
    idempotent: bool = False
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMEOUT_MS)] = 0
    fault: str = ""
    contract: str = ""


class _Announcement(msgspec.Struct):
    name: str = ""
    platform: str = ""
    version: str = ""
    capabilities: Annotated[tuple[_Capability, ...], msgspec.Meta(max_length=MAX_CAPABILITIES)] = ()


_decoder = msgspec.json.Decoder(_Announcement)


def encode_announcement(announcement: Announcement) -> bytes:
    """The JSON of an announcement, cleaned as the gateway will clean it.

    What is said of so many capabilities that it would be too long is left out, the details first:
    all of it is said again when the device registers.

    :raises Malformed: the gateway would refuse it.
    """
    whole = _clean(announcement)
    for said in (whole, _without_details(whole), attrs.evolve(whole, capabilities=())):
        data = msgspec.json.encode(said)
        if len(data) <= MAX_BYTES:
            break
    decode_announcement(data)
    return data


def _without_details(announcement: Announcement) -> Announcement:
    bare = (
        attrs.evolve(each, digest="", contract="", version="", fault="")
        for each in announcement.capabilities
    )
    return attrs.evolve(announcement, capabilities=tuple(bare))


def decode_announcement(data: bytes) -> Announcement:
    """An announcement from a peer; no bytes at all say nothing, unknown fields are ignored.

    :raises Malformed: too long, not that JSON, or two capabilities of one name.
    """
    if not data:
        return Announcement()
    if len(data) > MAX_BYTES:
        raise Malformed(_FIELD, f"is longer than {MAX_BYTES // 1024} KiB")
    try:
        said = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as cause:
        raise Malformed(_FIELD, f"is not valid ({clean_text(str(cause), MAX_FAULT)})") from cause
    offered = tuple(
        AnnouncedCapability(**msgspec.structs.asdict(item)) for item in said.capabilities
    )
    return _distinct(_clean(Announcement(said.name, said.platform, said.version, offered)))


def _clean(announcement: Announcement) -> Announcement:
    return Announcement(
        name=clean_name(announcement.name),
        platform=clean_text(announcement.platform, MAX_TEXT),
        version=clean_text(announcement.version, MAX_TEXT),
        capabilities=tuple(_clean_capability(item) for item in announcement.capabilities),
    )


def checked_capabilities(
    items: Iterable[AnnouncedCapability],
) -> tuple[AnnouncedCapability, ...]:
    """Capabilities of a peer, cleaned and bounded, whichever message brought them.

    :raises Malformed: too many, one without a name, two of one name, or an unusable timeout.
    """
    offered = tuple(_clean_capability(item) for item in items)
    if len(offered) > MAX_CAPABILITIES:
        raise Malformed("capabilities", f"must be at most {MAX_CAPABILITIES}")
    if any(not item.name or not 0 <= item.timeout_ms <= MAX_TIMEOUT_MS for item in offered):
        raise Malformed("capabilities", "must have a name and a timeout of at most 24 h each")
    if len({item.name for item in offered}) != len(offered):
        raise Malformed("capabilities", "names one twice")
    return offered


def _clean_capability(item: AnnouncedCapability) -> AnnouncedCapability:
    return attrs.evolve(
        item,
        name=clean_text(item.name, MAX_CAPABILITY_NAME),
        digest=clean_text(item.digest, MAX_TEXT),
        version=clean_text(item.version, MAX_TEXT),
        fault=clean_text(item.fault, MAX_FAULT),
        contract=clean_text(item.contract, MAX_TEXT),
    )


def _distinct(announcement: Announcement) -> Announcement:
    names = {item.name for item in announcement.capabilities}
    if len(names) != len(announcement.capabilities):
        raise Malformed(_FIELD, "names a capability twice")
    return announcement
