"""What every contract of a store starts from."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from palyra.core.devices import (
    Approved,
    CertificateRecord,
    CertificateState,
    Device,
    Removal,
    Revocation,
)
from palyra.core.identifiers import DeviceId
from palyra.core.pairing import PairingRequest
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_registration,
    a_request,
    an_approval,
    approved,
)

T = TypeVar("T")


class Ways:
    """A store that is set, how to wait for what it returns, and ways to a state."""

    store: Any

    def wait(self, result: Awaitable[T]) -> T:
        """The result, once it is there; raises what it failed with."""
        raise NotImplementedError

    def now_is(self, now_ms: int) -> None:
        """Set the store's clock."""
        raise NotImplementedError

    def opened(self, name: str = "lab-7", code: str = "code", /, **changes: Any) -> PairingRequest:
        minted = a_code(code)
        self.wait(self.store.add_code(minted))
        request = a_request(name, minted, **changes)
        self.wait(self.store.open_request(request, an_approval(request)))
        return request

    def approve(self, request: PairingRequest) -> Approved:
        act: Awaitable[Approved] = self.store.approve_request(approved(request), a_device(request))
        return self.wait(act)

    def paired(
        self, name: str = "lab-7", code: str = "code", **changes: Any
    ) -> tuple[PairingRequest, CertificateRecord]:
        request = self.opened(name, code, **changes)
        self.approve(request)
        certificate = a_certificate(request)
        self.wait(self.store.add_certificate(approved(request), certificate))
        return request, certificate

    def registered(self, name: str = "lab-7", code: str = "code") -> Device:
        request, certificate = self.paired(name, code)
        registration = a_registration(request.device_id, certificate.fingerprint)
        device: Device = self.wait(self.store.register(registration))
        return device

    def revoked(self, device_id: DeviceId, now_ms: int = NOW_MS) -> Revocation:
        revocation: Revocation = self.wait(self.store.revoke(device_id, "ana", "lost", now_ms))
        return revocation

    def removed(self, device_id: DeviceId, now_ms: int = NOW_MS) -> Removal:
        removal: Removal = self.wait(self.store.remove(device_id, "bo", "sold", now_ms))
        return removal

    def states(self, device_id: DeviceId) -> dict[str, CertificateState]:
        """The states of a device's certificates, by fingerprint."""
        held = self.wait(self.store.certificates_of(device_id))
        return {each.fingerprint: each.state for each in held}
