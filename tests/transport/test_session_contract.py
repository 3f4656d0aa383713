"""One contract of a node session, on every carrier."""

from __future__ import annotations

from tests.contract.session import MessageContract, SessionContract
from tests.contract.sessionends import Carriers
from tests.transport.carriers import OverGrpc, OverQuic
from tests.transport.memorylink import Encoded, MemoryNetwork, Objects


class TestInMemory(SessionContract):
    """Frames are handed over as the objects that they are."""

    def carriers(self) -> Carriers:
        return MemoryNetwork(Objects())


class TestMessages(MessageContract):
    """Frames are written, parsed and read, and nothing else lies between."""

    def carriers(self) -> Carriers:
        return MemoryNetwork(Encoded())


class TestGrpc(MessageContract):
    """StreamNodeEvents over TLS on the loopback."""

    def carriers(self) -> Carriers:
        return OverGrpc()


class TestQuic(MessageContract):
    """``node.session`` over QUIC on the loopback."""

    def carriers(self) -> Carriers:
        return OverQuic()
