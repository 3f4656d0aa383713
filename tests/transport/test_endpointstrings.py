"""``palyra:PORT`` for a Twisted server that is no gateway."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from palyra._lock import RootLock
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.keystore import GatewayIdentity
from palyra.transport.endpointstrings import PalyraEndpoint, endpoint

OPERATOR = "01M80NKQCNX4K7QM2ZT9B3FVHD"
FOUND = """
from twisted.internet.endpoints import serverFromString
import sys
found = serverFromString(None, "palyra:8443:interface=127.0.0.1:stateroot=/srv/p")
print(found.where.address, found.where.state_root)
sys.exit("twisted.internet.reactor" in sys.modules)
"""


class Who(Resource):
    """Says whose certificate a request comes with."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        shown = request.transport.getPeerCertificate()
        return b"nobody" if shown is None else b"somebody"


class World:
    """A state root with a gateway's identity, and a server beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o700)
        self.now_ms = int(time.time() * 1000)
        self.identity = GatewayIdentity.open(
            root / "identity",
            trust_domain="palyra",
            names=(),
            gateway_id="g1",
            now_ms=self.now_ms,
            entropy=os.urandom,
        )
        self.port: Any = None

    async def serve(self, **arguments: str) -> None:
        """Listen on a free port of loopback."""
        from twisted.internet import reactor

        made = endpoint(reactor, "0", stateroot=str(self.root), **arguments)
        site = Site(Who(), reactor=reactor)
        site.noisy = False
        self.port = await made.listen(site)

    def get(self, certificate: Path | None = None) -> bytes:
        """What the server says (blocking)."""
        context = ssl.create_default_context(cadata=self.identity.ca_bundle_pem.decode())
        if certificate is not None:
            context.load_cert_chain(certificate)
        link = socket.create_connection(("127.0.0.1", self.port.getHost().port), timeout=10)
        with context.wrap_socket(link, server_hostname="localhost") as wrapped:
            wrapped.sendall(b"GET / HTTP/1.0\r\n\r\n")
            received = b""
            while data := wrapped.recv(65_536):
                received += data
            return received.rpartition(b"\r\n\r\n")[2]

    def operator(self, signer: Authority, at_ms: int) -> Path:
        """The file of an operator's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = signer.issue_operator(key.public_key(), OPERATOR, at_ms)
        pem = x509.load_der_x509_certificate(issued.der).public_bytes(Encoding.PEM)
        pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = self.root / f"{issued.fingerprint[:8]}.pem"
        file.write_bytes(pem)
        return file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def kept(root: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file below, with what is in it and when it was written."""
    files = (file for file in root.rglob("*") if file.is_file())
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest_twisted.ensureDeferred
async def test_beside_a_running_gateway(world: World) -> None:
    """It serves the gateway's certificate with the root's lock held, and changes no file there."""
    lock = RootLock.take(world.root / "palyra.lock", who="A gateway")
    ours = world.operator(world.identity.issuing, world.now_ms)
    before = kept(world.root)
    await world.serve()
    try:
        assert await deferToThread(world.get) == b"nobody"
        assert await deferToThread(world.get, ours) == b"somebody"
        assert kept(world.root) == before
    finally:
        await world.port.stopListening()
        lock.release()


@pytest_twisted.ensureDeferred
async def test_certificates_that_are_not_ours_end_the_handshake(world: World) -> None:
    """What such a server reads from the transport has been verified."""
    stranger = Authority.create(trust_domain="palyra", now_ms=world.now_ms, entropy=os.urandom)
    foreign = world.operator(stranger, world.now_ms)
    expired = world.operator(world.identity.issuing, world.now_ms - 100 * DAY_MS)
    await world.serve()
    try:
        for file in (foreign, expired):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await deferToThread(world.get, file)
    finally:
        await world.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_noticed(world: World) -> None:
    """The gateway writes a new one; the next connection gets it."""
    await world.serve()
    try:
        assert await deferToThread(world.get) == b"nobody"
        before = world.identity.gateway_certificate
        assert world.identity.refresh(before.not_after_ms - DAY_MS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def shown() -> bytes | None:
            where = ("127.0.0.1", world.port.getHost().port)
            link = socket.create_connection(where, timeout=10)
            with context.wrap_socket(link, server_hostname="localhost") as wrapped:
                return wrapped.getpeercert(True)

        assert await deferToThread(shown) == world.identity.gateway_certificate.der
    finally:
        await world.port.stopListening()


@pytest.mark.usefixtures("collected")
@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken(world: World) -> None:
    """It fails as Twisted's own endpoints do."""
    from twisted.internet import reactor

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        made = endpoint(reactor, port, stateroot=str(world.root))
        assert verifyObject(IStreamServerEndpoint, made)
        assert isinstance(made, PalyraEndpoint)
        with pytest.raises(CannotListenError):
            await made.listen(Site(Who(), reactor=reactor))


def test_twisted_finds_it() -> None:
    """``palyra:`` is an endpoint type for every Twisted command, and chooses no reactor."""
    done = subprocess.run(
        [sys.executable, "-c", FOUND], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "127.0.0.1:8443 /srv/p\n"), done.stderr
