"""Trust: certificates, revocation, who may speak for whom."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class CertificateRefused(PalyraError):
    """A peer's certificate is not acceptable here; ``reason`` is stable and ends up in metrics."""

    code = "certificate_refused"
    category = Category.FORBIDDEN
    reason: str

    @property
    def sentence(self) -> str:
        return f"This certificate is refused: {self.reason.replace('_', ' ')}."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra doctor"


@attrs.define
class CertificateExpired(CertificateRefused):
    """This device's certificate ran out; ``when`` is a text."""

    code = "certificate_expired"
    when: str = ""
    reason: str = "expired"

    @property
    def sentence(self) -> str:
        return f"This device's certificate ran out on {self.when}."

    @property
    def hint(self) -> str:
        return "pair it again: palyra node run --gateway HOST"


@attrs.define
class CertificateUnknown(CertificateRefused):
    """The chain holds but this gateway never recorded the certificate; the node rejoins."""

    code = "certificate_unknown"
    reason: str = "certificate_unknown"


@attrs.define
class CertificateSuperseded(CertificateRefused):
    """A newer certificate of the device has registered; the holder of the old one rejoins."""

    code = "certificate_superseded"
    reason: str = "certificate_superseded"


@attrs.define
class DeviceRevoked(PalyraError):
    """The device, its identity key or its certificate was revoked."""

    code = "device_revoked"
    category = Category.FORBIDDEN
    device: str
    when: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        when = f" on {self.when}" if self.when else ""
        why = f": {self.reason}" if self.reason else ""
        return f"This device was revoked{when}{why}."

    @property
    def hint(self) -> str:
        return f"on the gateway: palyra nodes remove {self.device}, then pair again"


@attrs.define
class RotationRunning(PalyraError):
    """A CA rotation is under way; there can be only one."""

    code = "rotation_running"
    category = Category.CONFLICT

    @property
    def sentence(self) -> str:
        return "A CA rotation is under way already."

    @property
    def hint(self) -> str:
        return "palyra ca show"


@attrs.define
class NotBoundToDevice(PalyraError):
    """A certificate of one device was used to speak for another."""

    code = "device_mismatch"
    category = Category.FORBIDDEN
    claimed: str

    @property
    def sentence(self) -> str:
        return f"This certificate does not speak for device {self.claimed}."

    @property
    def hint(self) -> str:
        return "use the certificate that was issued to that device"


@attrs.define
class NotRegistered(PalyraError):
    """A node opened its stream before RegisterNode succeeded."""

    code = "not_registered"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "This node has not registered."

    @property
    def hint(self) -> str:
        return "call RegisterNode first"


@attrs.define
class RemoteRefusal(PalyraError):
    """The gateway refused a call of this device: its stable code, its sentence, its hint.

    ``final``: trying again cannot help until a person acts.  ``transient``: the gateway could not
    decide now; the same call may succeed later, best after ``retry_after_s`` where that is known.
    """

    code = "refused_by_gateway"
    category = Category.PRECONDITION
    remote_code: str
    remote_sentence: str
    remote_hint: str = ""
    final: bool = False
    transient: bool = False
    retry_after_s: float | None = None
    job_id: str = ""
    """The record that the refusal left, where it is known to have left one."""

    @property
    def sentence(self) -> str:
        return self.remote_sentence or f"The gateway refused: {self.remote_code}."

    @property
    def hint(self) -> str:
        return self.remote_hint or "on the gateway: palyra doctor"


@attrs.define
class PinMismatch(PalyraError):
    """Neither the gateway's certificate nor the CA that signed it is the pinned one."""

    code = "pin_mismatch"
    category = Category.PRECONDITION
    where: str

    @property
    def sentence(self) -> str:
        return f"The gateway at {self.where} shows another certificate than server_pin names."

    @property
    def hint(self) -> str:
        return "compare on the gateway: palyra ca show --json; then set server_pin in palyra.toml"


@attrs.define
class PinNotChecked(PalyraError):
    """gRPC can hold a gateway to a pinned CA that this device trusts, and to no other pin."""

    code = "pin_not_checked"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "The server pin names no CA that this device trusts, and gRPC checks no other pin."

    @property
    def hint(self) -> str:
        return "pin the CA (on the gateway: palyra ca show --json), or set --transport quic"
