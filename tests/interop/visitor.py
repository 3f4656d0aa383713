"""A device that comes to the QUIC listener with quiche."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from palyra.wire.service import messages
from tests.integration.device import Device, key_pem
from tests.integration.house import Gateway
from tests.interop import quiche
from tests.interop.quiche import Credentials, QuicheStream


@attrs.frozen
class Visitor:
    """A device, and the files that its QUIC client is given."""

    device: Device
    credentials: Credentials
    address: str
    """Of the QUIC listener, as the gateway tells it."""

    @classmethod
    def enrol(cls, gateway: Gateway, name: str, path: Path) -> Visitor:
        """Pair and register a device of that name; its files are kept in ``path``."""
        device = Device(gateway, name).enrol()
        credentials = Credentials(path / "ca.pem", path / "chain.pem", path / "key.pem")
        pems = (device.ca_pem, device.certificate_pem, key_pem(device.key))
        for file, pem in zip(credentials.files, pems, strict=True):
            file.write_bytes(pem)
        welcome: messages.NodeWelcome = device.register().welcome
        assert welcome.quic_address, "the gateway tells of no QUIC listener"
        return cls(device, credentials, welcome.quic_address)

    def stream(self) -> AbstractContextManager[QuicheStream]:
        """A stream of this device."""
        return quiche.stream(self.address, self.credentials)
