"""Who is let in over QUIC, as a client sees it that shares no code with aioquic."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.pki.authority import DAY_MS, Authority
from tests.integration.device import key_pem
from tests.interop import quiche
from tests.interop.quiche import Credentials
from tests.interop.visitor import Visitor

TLS_ALERTS = range(0x100, 0x200)
CERTIFICATE_REQUIRED = 0x100 + 116
RETRY = 0xF0
"""How a Retry begins (RFC 9000, 17.2.5)."""
MANY = 64
SOON_S = 10.0


def test_a_stranger_is_refused(visitor: Visitor) -> None:
    """Without a certificate the connection is closed as a TLS handshake that failed."""
    with quiche.stream(visitor.address, Credentials(visitor.credentials.ca)) as stream:
        stream.ask("node.health")
        closed = stream.closed()
    assert (closed.by, closed.app, closed.code) == ("peer", False, CERTIFICATE_REQUIRED)
    assert closed.refusal == "certificate_refused"


def test_a_certificate_of_another_ca_is_refused(visitor: Visitor, tmp_path: Path) -> None:
    """So it is with a certificate that somebody else signed."""
    now_ms = int(time.time() * 1000)
    key = ec.generate_private_key(ec.SECP256R1())
    other = Authority.create(
        trust_domain="palyra", now_ms=now_ms - DAY_MS, entropy=os.urandom
    ).issue_device(key.public_key(), visitor.device.device_id, now_ms)
    forged = attrs.evolve(
        visitor.credentials, chain=tmp_path / "chain.pem", key=tmp_path / "key.pem"
    )
    (tmp_path / "chain.pem").write_bytes(other.pem)
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    with quiche.stream(visitor.address, forged) as stream:
        stream.ask("node.health")
        closed = stream.closed()
    assert (closed.by, closed.app) == ("peer", False)
    assert closed.code in TLS_ALERTS and closed.refusal == "certificate_refused"


def test_the_client_would_notice_another_server(visitor: Visitor) -> None:
    """That it connects means something: it refuses a name that is not in the certificate."""
    with quiche.stream(visitor.address, visitor.credentials, "somebody-else") as stream:
        closed = stream.closed()
    assert closed.by == "local" and closed.code in TLS_ALERTS


@contextlib.contextmanager
def unfinished_handshakes(address: str, until: int) -> Iterator[None]:
    """Begin handshakes from here, and finish none, until one is answered by a packet whose first
    byte begins with ``until``."""
    host, _, port = address.rpartition(":")
    configuration = QuicConfiguration(alpn_protocols=["palyra-quic-v1"])
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            wire = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            wire.settimeout(SOON_S)
            wire.connect((host, int(port)))
            client = QuicConnection(configuration=configuration)
            client.connect((host, int(port)), now=time.monotonic())
            for data, _ in client.datagrams_to_send(time.monotonic()):
                wire.send(data)
            if wire.recv(2048)[0] & 0xF0 == until:
                yield
                return
    raise AssertionError(f"no such answer to {MANY} handshakes")


def test_a_stranger_is_asked_back_when_many_knock(visitor: Visitor) -> None:
    """While handshakes of its source are open a client is sent a Retry, and quiche follows it."""
    with unfinished_handshakes(visitor.address, until=RETRY), visitor.stream() as stream:
        stream.ask("node.health")
        assert stream.answer()["kind"] == "health"
