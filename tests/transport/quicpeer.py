"""A QUIC client of a test: it says exactly what it is told to, over a network of memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.protocol import DatagramProtocol

from palyra.config.addresses import HostPort
from palyra.core.frames import HEARTBEAT, STARTED, Hello, NodeEvent
from palyra.core.identifiers import DeviceId
from palyra.transport import quicframes as frames
from palyra.transport.chain import TLS_NAME
from palyra.transport.interfaces import INodeDesk
from palyra.transport.quicconnection import Engine, QuicLink, configuration
from palyra.transport.quiclistener import QuicListener
from palyra.wire import registration
from palyra.wire import session as wire
from palyra.wire.service import messages
from tests.gateway.enrolling import wall_ms
from tests.transport.serving import AUTHORITY, DEVICE, device_pair, gateway_pair
from tests.transport.udp import Host, Network

GATEWAY = "10.0.0.1"
PORT = 7444


def soon_on(host: Host) -> Any:
    """What runs something in the next turn of that reactor."""
    return lambda act: host.callLater(0, act)


def listen(network: Network, desk: INodeDesk, **changes: Any) -> QuicListener:
    """A listener that is bound on the network."""
    host = network.host(GATEWAY)
    given: dict[str, Any] = {
        "name": "quic",
        "address": HostPort(GATEWAY, PORT),
        "desk": desk,
        "certificate": gateway_pair,
        "reactor": host,
        "elapsed_s": host.seconds,
        "soon": soon_on(host),
        "entropy": random.Random(5).randbytes,
        "now_ms": wall_ms,
        **changes,
    }
    listener = QuicListener(**given)
    listener.bind()
    return listener


class Door(DatagramProtocol):
    """A UDP port that gives what arrives to a callable."""

    def __init__(self, took: Callable[[bytes, tuple[str, int]], object]) -> None:
        self._took = took

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._took(datagram, addr)


def door(network: Network, own: str, took: Any = lambda *_: None) -> Any:
    """A port of that address."""
    return network.host(own).listenUDP(0, Door(took), own)


class QuicPeer:
    """One connection of a client, with what it was answered."""

    def __init__(
        self,
        network: Network,
        own: str = "10.0.0.2",
        identity: tuple[bytes, bytes] | None = None,
        *,
        to: tuple[str, int] = (GATEWAY, PORT),
        **changes: Any,
    ) -> None:
        key, chain = identity if identity is not None else device_pair()
        shown = {}
        if chain:
            shown = {
                "certificate": x509.load_pem_x509_certificate(chain),
                "private_key": load_pem_private_key(key, None),
            }
        self.network = network
        self.host = network.host(own)
        asked = configuration(
            is_client=True, server_name=TLS_NAME, cadata=AUTHORITY.ca_pem, **shown, **changes
        )
        self.engine = Engine(configuration=asked)
        self.link = QuicLink(
            self.engine,
            clock=self.host,
            elapsed_s=self.host.seconds,
            soon=soon_on(self.host),
            send=self.write,
            owner=self,
        )
        self.answers: dict[int, list[bytes]] = {}
        self.finished: list[int] = []
        self.resets: list[int] = []
        self.connected = False
        self.over: tuple[int, str] | None = None
        self._readers: dict[int, frames.FrameReader] = {}
        self.port = door(network, own, self.took)
        self.engine.connect(to, now=self.host.seconds())
        self.link.touch()

    # -- its network ----------------------------------------------------------------------------

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.port.write(datagram, address)

    def took(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.link.datagram(datagram, addr)

    def rebind(self, own: str) -> None:
        """Go on from another address, as behind a NAT that forgot."""
        self.port = door(self.network, own, self.took)

    # -- its link -------------------------------------------------------------------------------

    def shaken(self) -> None:
        self.connected = True

    def received(self, stream_id: int, data: bytes, ended: bool) -> None:
        reader = self._readers.setdefault(stream_id, frames.FrameReader())
        reader.feed(data)
        while (frame := reader.next()) is not None:
            self.answers.setdefault(stream_id, []).append(frame)
        if ended:
            self.finished.append(stream_id)

    def reset(self, stream_id: int) -> None:
        self.resets.append(stream_id)

    def pump(self) -> None:
        pass

    def ended(self, error_code: int, phrase: str) -> None:
        self.over = (error_code, phrase)

    # -- what it says ---------------------------------------------------------------------------

    def run(self, seconds: float = 1.0) -> QuicPeer:
        """Let the network run for so long."""
        self.network.run(seconds)
        return self

    def ask(self, method: str, *more: bytes, resume_from: int | None = None) -> int:
        """Open a stream with a request, and let it be answered."""
        stream_id = self.link.open_stream()
        asked = frames.write_request(method, resume_from)
        self.link.write(stream_id, asked + b"".join(map(frames.encode_frame, more)))
        self.run()
        return stream_id

    def say(self, stream_id: int, message: Any, *, end: bool = False) -> None:
        """Send a protobuf message, and let it be answered."""
        self.link.write(stream_id, frames.encode_frame(message.SerializeToString()), end=end)
        self.run()

    def error(self, stream_id: int) -> frames.Error:
        """The refusal that ended a stream."""
        answer = frames.read_answer(self.answers[stream_id][-1])
        assert isinstance(answer, frames.Error), answer
        assert stream_id in self.finished, "a refusal ends its stream"
        return answer

    def begin_session(self, device_id: DeviceId = DEVICE) -> int:
        """Register, and say the first word."""
        stream_id = self.ask(frames.SESSION, hello(device_id).SerializeToString())
        registration.read_welcome(
            messages.RegisterNodeResponse.FromString(self.answers[stream_id].pop())
        )
        self.say(stream_id, wire.write_event(NodeEvent(STARTED, session_epoch=3), device_id))
        return stream_id

    def heartbeat(self, stream_id: int) -> None:
        """``node.heartbeat``."""
        self.say(stream_id, wire.write_event(NodeEvent(HEARTBEAT, session_epoch=3), DEVICE))


def hello(device_id: DeviceId = DEVICE) -> messages.RegisterNodeRequest:
    """A registration."""
    return registration.write_hello(Hello(device_id, "linux", (), max_in_flight=8, extended=True))
