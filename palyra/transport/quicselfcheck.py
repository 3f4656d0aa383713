"""Whether the installed aioquic still asks clients for their certificates (PROTOCOL: QUIC client
certificates).

Our server needs a private name of it for that.  Were it to change its meaning, every handshake
would still succeed and nobody would have shown anything: so it is tried, in memory, before the
listener opens.
"""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from palyra.errors import CannotBind
from palyra.transport.quicconnection import Engine, configuration

_ROUNDS = 8
_CLIENT, _SERVER = ("192.0.2.1", 1), ("192.0.2.2", 2)
_NAME = "palyra.self-check"


def require_client_certificates(listener: str, address: str) -> None:
    """Make one handshake with a client certificate and one without.

    :raises CannotBind: the first does not show it; QUIC must not be served so.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key)
    with_one = _shown(key, certificate, {"certificate": certificate, "private_key": key})
    without = _shown(key, certificate, {})
    if with_one != certificate or without is not None:
        raise CannotBind(listener, address, "this aioquic does not show client certificates")


def _shown(
    key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, shown: dict[str, Any]
) -> x509.Certificate | None:
    """What a server sees of a client that shows that."""
    served = configuration(is_client=False, certificate=certificate, private_key=key)
    asking: QuicConfiguration = configuration(
        is_client=True, server_name=_NAME, cadata=_pem(certificate), **shown
    )
    client = Engine(configuration=asking)
    server = Engine(
        configuration=served,
        asks_certificate=True,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    client.connect(_SERVER, now=0.0)
    for now in itertools.islice(itertools.count(0.1, 0.1), _ROUNDS):
        for datagram, _ in client.datagrams_to_send(now):
            server.receive_datagram(datagram, _CLIENT, now)
        for datagram, _ in server.datagrams_to_send(now):
            client.receive_datagram(datagram, _SERVER, now)
    return server.peer_certificate


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=now - day,
        not_valid_after=now + day,
    )
    names = x509.SubjectAlternativeName([x509.DNSName(_NAME)])
    return builder.add_extension(names, critical=False).sign(key, SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
