"""Devices: what the inventory knows of a machine that is, or was, paired."""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping

import attrs

from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import Malformed

MAX_NAME = 40
MAX_LABELS = 32
MAX_CAPABILITIES = 256
RESERVED = ("system.", "desktop.")
"""Prefixes of capabilities that come with Palyra; ``echo`` is one too."""
INVOKE_OTHERS = "nodes.invoke"
"""The grant by which a ``cli`` or ``desktop`` client may address devices other than itself."""


class ClientKind(enum.Enum):
    """What a paired identity is for; fixed at approval."""

    NODE = "node"
    CLI = "cli"
    DESKTOP = "desktop"


class DeviceState(enum.Enum):
    """The device's life in the directory."""

    PAIRED = "paired"
    REVOKED = "revoked"
    REMOVED = "removed"


class PresenceState(enum.Enum):
    """Whether a device can be reached, as far as its heartbeats tell."""

    ONLINE = "online"
    STALE = "stale"
    OFFLINE = "offline"


class Risk(enum.Enum):
    """What a capability may do to its device, least first; ``none`` is below every capability."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    def covers(self, other: Risk) -> bool:
        """Whether what is allowed up to this risk includes the other."""
        return _RISKS.index(other) <= _RISKS.index(self)


_RISKS = list(Risk)


class CertificateState(enum.Enum):
    """At most one current and one pending certificate are live for a device (PROTOCOL: Trust)."""

    CURRENT = "current"
    PENDING = "pending"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


@attrs.frozen
class AnnouncedCapability:
    """One capability as a device announces it.  ``risk`` is low, medium or high."""

    name: str
    available: bool = True
    digest: str = ""
    version: str = ""
    risk: str = "low"
    needs_mediation: bool = False
    idempotent: bool = False
    timeout_ms: int = 0
    fault: str = ""
    contract: str = ""
    """SHA-256 (hex) of what a grant is given for; empty where the device does not say."""

    @property
    def granted_as(self) -> Risk:
        """The risk by which it is granted: only our own capabilities may say that theirs is low."""
        own = self.name == "echo" or self.name.startswith(RESERVED)
        said = Risk(self.risk)
        return said if own or said.covers(Risk.MEDIUM) else Risk.MEDIUM


@attrs.frozen
class Device:
    """A paired device.  Times are Unix milliseconds; None where it never happened."""

    device_id: DeviceId
    client_kind: ClientKind
    name: str
    platform: str
    version: str
    identity_public: bytes
    identity_fingerprint: Fingerprint
    grants: frozenset[str]
    capabilities: tuple[AnnouncedCapability, ...]
    labels: Mapping[str, str]
    approved_by: str
    paired_at_ms: int
    state: DeviceState = DeviceState.PAIRED
    revoked_at_ms: int | None = None
    revoke_reason: str = ""
    gateway_id: str = ""
    session_epoch: int = 0
    memory_id: str = ""
    last_heard_ms: int | None = None
    transport: str = ""
    address: str = ""
    grant_risk: Risk = Risk.LOW
    """Up to which risk a capability that it announces later is granted by itself."""
    withheld: frozenset[str] = frozenset()
    """Capabilities that were seen and not granted: they are not granted by themselves later."""
    rotate_asked_at_ms: int | None = None
    """When an operator ordered a new certificate that the device does not use yet."""
    rotate_asked_by: str = ""
    contracts: Mapping[str, str] = attrs.Factory(dict)
    """The contract that each grant was given for.  A name in here and not in ``grants`` is
    suspended: the device offers something else under it now."""

    @property
    def suspended(self) -> frozenset[str]:
        """Names whose grant waits for what it was given for, or for an operator."""
        return frozenset(self.contracts) - self.grants

    def capability(self, name: str) -> AnnouncedCapability | None:
        """The announced capability of that name."""
        return next((item for item in self.capabilities if item.name == name), None)


@attrs.frozen
class CertificateRecord:
    """A certificate this gateway issued to a device."""

    fingerprint: Fingerprint
    device_id: DeviceId
    serial: str
    pem: str
    csr_digest: str
    not_before_ms: int
    not_after_ms: int
    issued_at_ms: int
    state: CertificateState = CertificateState.PENDING
    issuer: Fingerprint | None = None
    """The CA certificate that signed it; None where only one CA ever signed."""
    made_key: bool = False
    """Whether its private key was made by this gateway, for a version-1 device."""


@attrs.frozen
class Renewal:
    """A certificate for a device that is paired: the next one, or one after a rejoin."""

    certificate: CertificateRecord
    identity_fingerprint: Fingerprint
    """The identity key that asked; the device must still have it."""
    over: Fingerprint | None
    """The live certificate it was asked over.  None for a rejoin: every older one is over."""


@attrs.frozen
class RotationOrder:
    """An operator's order to renew now, for some devices."""

    device_ids: frozenset[DeviceId]
    by: str
    at_ms: int


@attrs.frozen
class Registration:
    """What one RegisterNode changes: facts of the device and the certificate it came over."""

    device_id: DeviceId
    fingerprint: Fingerprint
    platform: str
    version: str
    capabilities: tuple[AnnouncedCapability, ...]
    gateway_id: str
    memory_id: str
    transport: str
    address: str
    at_ms: int


@attrs.frozen
class Offering:
    """What a device offers from now on, said in the session of that epoch."""

    device_id: DeviceId
    gateway_id: str
    session_epoch: int
    capabilities: tuple[AnnouncedCapability, ...]
    at_ms: int


@attrs.frozen
class DeviceChange:
    """What an operator changes about a device: its name, labels to set or to take away, and
    capabilities to grant or to withhold.

    A label without a value (``""``) is a group.
    """

    device_id: DeviceId
    name: str | None = None
    labels: Mapping[str, str] = attrs.Factory(dict)
    unlabel: frozenset[str] = frozenset()
    grant: frozenset[str] = frozenset()
    withhold: frozenset[str] = frozenset()
    grant_risk: Risk | None = None
    contracts: Mapping[str, str] = attrs.Factory(dict)
    """The contracts of what is granted as the operator saw them, where that is known."""


@attrs.frozen
class LabelChange:
    """Labels to set and keys to take away; no key is in both."""

    labels: Mapping[str, str] = attrs.Factory(dict)
    unlabel: frozenset[str] = frozenset()


@attrs.frozen
class RevokedCertificate:
    """What outlives a certificate that was revoked: enough to refuse it and to list it in a CRL."""

    fingerprint: Fingerprint
    not_after_ms: int
    serial: str = ""
    issuer: Fingerprint | None = None


@attrs.frozen
class Revocation:
    """A device that may not come back: its id, its identity key and all its certificates.

    Once the device is removed this is its tombstone: the certificates stay refused, and whoever
    asks to pair with that id or key reaches an approval which shows it.
    """

    device_id: DeviceId
    identity_fingerprint: Fingerprint
    certificates: tuple[RevokedCertificate, ...]
    at_ms: int
    by: str
    reason: str
    device_name: str = ""
    removed_at_ms: int | None = None
    removed_by: str = ""
    allowed_at_ms: int | None = None
    """When an operator approved a pairing with that key again."""


@attrs.frozen
class Approved:
    """What an approval made of a device, and the identity that it put out of use, if any."""

    device: Device
    replaced: Revocation | None = None


@attrs.frozen
class Removal:
    """What removing a device took away: counts of what was deleted."""

    device: Device
    tombstones: tuple[Revocation, ...]
    certificates: int
    requests: int


LABEL_RULE = (
    "a key is up to 63 of a-z 0-9 . _ / - and begins and ends with a letter or a digit, "
    "a value is up to 63 printable characters"
)
"""The rule of :func:`valid_label` in words."""
_NOT_NAME = re.compile(r"[^a-z0-9]+")
_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?\Z", re.ASCII)


def clean_name(wanted: str) -> str:
    """A device name from a host name or an owner's wish: ``a-z0-9-``, 40 characters at most."""
    first = wanted.split(".", 1)[0].lower()
    return _NOT_NAME.sub("-", first)[:MAX_NAME].strip("-") or "device"


def free_name(wanted: str, taken: Container[str]) -> str:
    """``wanted``, or ``wanted-2``, ``-3``, ... where it is taken."""
    if wanted not in taken:
        return wanted
    number = 2
    while (candidate := f"{wanted[: MAX_NAME - len(str(number)) - 1]}-{number}") in taken:
        number += 1
    return candidate


def clean_text(text: str, limit: int | None) -> str:
    """Text of a peer made safe to show: control and format characters and separators of lines and
    paragraphs escaped, then cut."""
    if text.isprintable():  # nearly always, and much faster
        return text[:limit]
    shown = "".join(
        f"\\u{ord(character):04x}" if _is_unshown(character) else character
        for character in text[:limit]
    )
    return shown[:limit]


def _is_unshown(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def valid_label(key: str, value: str) -> bool:
    """Whether a label may be stored: a DNS-like key, a printable value of at most 63 characters.

    A label whose value is empty is a group: it is there or it is not.
    """
    return bool(_LABEL_KEY.match(key)) and len(value) <= 63 and value.isprintable()


def label_change(arguments: Iterable[str], field: str = "label") -> LabelChange:
    """What ``KEY=VALUE``, ``KEY`` (a group) and ``KEY-`` (take it away) mean together.

    A key never ends with ``-``, so that no two of them can be confused.

    :raises palyra.errors.Malformed: of ``field``: one is no label, a key comes twice, or there are
        more than ``MAX_LABELS`` of them.
    """
    wanted: dict[str, str | None] = {}
    for argument in arguments:
        key, value = _label_argument(argument)
        shown = clean_text(argument, 64)
        if not valid_label(key, value or ""):
            raise Malformed(field, f"{shown} is not KEY=VALUE, KEY or KEY-; {LABEL_RULE}")
        if key in wanted:
            raise Malformed(field, f"{key} is given twice")
        wanted[key] = value
    if len(wanted) > MAX_LABELS:
        raise Malformed(field, f"must be at most {MAX_LABELS}")
    labels = {key: value for key, value in wanted.items() if value is not None}
    return LabelChange(labels, frozenset(wanted.keys() - labels))


def _label_argument(argument: str) -> tuple[str, str | None]:
    """A key, and its value or None where it is to be taken away."""
    key, equals, value = argument.partition("=")
    if not equals and key.endswith("-"):
        return key[:-1], None
    return key, value
