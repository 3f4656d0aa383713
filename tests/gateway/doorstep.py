"""A console door on a loopback port, and raw connections to it."""

from __future__ import annotations

import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.console import ConsoleSection
from palyra.config.endpoints import Place
from palyra.config.gateway import GatewaySection
from palyra.console.admission import IAdmission
from palyra.console.routing import Controls
from palyra.core.operators import Caller, Role
from palyra.errors import SignInRequired
from palyra.gateway.consoledoor import Behind, ConsoleDoor
from palyra.pki.authority import Authority
from palyra.pki.keystore import GatewayIdentity
from palyra.testing.control import FakeControl

OPERATOR = "01M80NKQCNX4K7QM2ZT9B3FVHD"
NAMES = ("home.example.org",)


@implementer(IAdmission)
class ByCertificate:
    """Whoever shows any certificate is an admin; it keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[x509.Certificate] = []
        self.addresses: list[str] = []
        self.secure: list[bool] = []

    def knows(self, request: Any) -> bool:
        ask = getattr(request.transport, "getPeerCertificate", None)
        return ask is not None and ask() is not None

    def admit(self, request: Any, route: Any, *, again: bool = False) -> Caller:
        self.addresses.append(request.getClientAddress().host)
        self.secure.append(request.isSecure())
        ask = getattr(request.transport, "getPeerCertificate", None)
        found = ask() if ask is not None else None
        if found is None:
            raise SignInRequired()
        self.shown.append(found.to_cryptography())
        return Caller(OPERATOR, "ana", Role.ADMIN, "127.0.0.1")


class Doorstep:
    """A door that is open, with a fake gateway behind it."""

    def __init__(self, root: Path, *, names: tuple[str, ...] = NAMES, **console: Any) -> None:
        from twisted.internet import reactor

        self.identity = GatewayIdentity.open(
            root / "identity",
            trust_domain="palyra",
            names=names,
            gateway_id="g1",
            now_ms=int(time.time() * 1000),
            entropy=os.urandom,
        )
        self.control = FakeControl()
        self.admission = ByCertificate()
        self.ready = True
        self.refused: list[str] = []
        self.elapsed_ms = 0
        part: Any = self.control
        controls = Controls(
            self.control, part, part, part, part, part, lambda accept: ("text/plain", b"metrics")
        )
        behind = Behind(
            controls=controls,
            admission=self.admission,
            identity=self.identity,
            ready=lambda: self.ready,
            elapsed_ms=self._elapsed_ms,
            refused=self.refused.append,
        )
        config = Config(gateway=GatewaySection(names=names), console=ConsoleSection(**console))
        where = Place(HostPort("127.0.0.1", 0))
        self.door = ConsoleDoor(reactor, where, config, behind, max_connections=32)
        self.door.bind()
        self.port = self.door.address.port
        self.root = root

    def _elapsed_ms(self) -> int:
        return self.elapsed_ms

    async def ask(self, *parts: bytes, tls: ssl.SSLContext | None = None) -> bytes:
        """What comes back for these bytes until the other end hangs up."""
        return await deferToThread(self._ask, parts, tls)

    async def get(self, path: str, *headers: str, tls: ssl.SSLContext | None = None) -> Answer:
        """One GET on a connection of its own."""
        return Answer.of(await self.ask(self.head("GET", path, *headers), tls=tls))

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """A request's head, with our host unless it names another."""
        lines = [f"{method} {path} HTTP/1.1", *headers, "connection: close"]
        if not any(line.lower().startswith("host:") for line in headers):
            lines.append(f"host: localhost:{self.port}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def client(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A client's TLS that believes the gateway's CA alone."""
        context = ssl.create_default_context(cadata=self.identity.ca_bundle_pem.decode())
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def operator(self, signer: Authority | None = None, *, now_ms: int | None = None) -> Path:
        """The file of an operator's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = signer or self.identity.issuing
        at_ms = int(time.time() * 1000) if now_ms is None else now_ms
        issued = issuer.issue_operator(key.public_key(), OPERATOR, at_ms)
        file = self.root / f"{issued.fingerprint[:8]}.pem"
        pem = x509.load_der_x509_certificate(issued.der).public_bytes(Encoding.PEM)
        pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(pem)
        return file

    def connect(self, tls: ssl.SSLContext | None = None) -> socket.socket:
        """A connection (blocking: for another thread)."""
        link = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return link if tls is None else tls.wrap_socket(link, server_hostname="localhost")

    def _ask(self, parts: tuple[bytes, ...], tls: ssl.SSLContext | None) -> bytes:
        with self.connect(tls) as link:
            received = b""
            try:
                for part in parts:
                    link.sendall(part)
            except OSError:
                pass  # refused before it was all sent
            try:
                while data := link.recv(65_536):
                    received += data
            except (ConnectionResetError, ssl.SSLError):
                pass
            return received


class Answer(msgspec.Struct):
    """One answer, taken apart; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Answer:
        """From the bytes of a connection."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in pairs}
        return cls(int(first.split()[1]), headers, body)

    @property
    def code(self) -> str:
        """The code of a problem."""
        code: str = msgspec.json.decode(self.body)["code"]
        return code
