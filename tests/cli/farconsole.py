"""A console over HTTPS on loopback, with a CA of its own, that answers what a test tells it to."""

from __future__ import annotations

import os
import socketserver
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.console import models
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.keypair import key_pem
from tests.cli.conftest import Answer, _Handler
from tests.cli.things import CONTRACT

OPERATOR = "01M80NKQCNX4K7QM2ZT9B3FVHD"
UNTIL = 1_800_000_000_000


class FarConsole(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers as :class:`tests.cli.conftest.FakeConsole`; ``shown`` are the certificates it saw."""

    daemon_threads = True
    block_on_close = True
    allow_reuse_address = True

    def __init__(self, names: Sequence[str] = (), *, begins_in_ms: int = 0) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Answer]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[tuple[str, str]] = []
        self.shown: list[str | None] = []
        now_ms = int(time.time() * 1000)
        self.ca = Authority.create(trust_domain="palyra", now_ms=now_ms, entropy=os.urandom)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.ca.issue_gateway(key.public_key(), "gw", names, now_ms + begins_in_ms)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(key_pem(key) + leaf.pem + self.ca.ca_pem)
            file.flush()
            self._tls.load_cert_chain(file.name)
        self._tls.load_verify_locations(cadata=self.ca.ca_pem.decode())
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(("127.0.0.1", 0), _FarHandler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address under a name that its certificate has."""
        return f"https://localhost:{self.port}"

    def on(self, method: str, path: str, answer: Answer, status: int = 200) -> None:
        """Answer that request so."""
        self.answers[method, "/console/v1/" + path] = (status, answer)

    def get_request(self) -> Any:
        plain, address = super().get_request()
        plain.settimeout(10)
        return self._tls.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        ), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault."""

    def certify(self, csr_pem: str) -> models.OperatorCertificateAnswer:
        """An answer that has a certificate for a CSR."""
        key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        now_ms = int(time.time() * 1000)
        issued = self.ca.issue_operator(key, OPERATOR, now_ms, life_ms=30 * DAY_MS)
        return models.OperatorCertificateAnswer(
            CONTRACT, operator(), issued.pem.decode(), self.ca.ca_pem.decode(), UNTIL
        )

    def certifies(self, path: str) -> None:
        """Answer what is posted there with a certificate for its CSR."""
        answer: Callable[[], Any] = lambda: self.certify(self.asked[-1][3]["csr"])  # noqa: E731
        self.on("POST", path, answer)


class _FarHandler(_Handler):
    server: FarConsole  # type: ignore[assignment]

    def handle(self) -> None:
        connection: Any = self.request
        connection.do_handshake()
        shown = connection.getpeercert(binary_form=True)
        certificate = None if shown is None else x509.load_der_x509_certificate(shown)
        self.server.shown.append(None if certificate is None else _fingerprint(certificate))
        super().handle()

    def end_headers(self) -> None:
        for name, value in self.server.headers:
            self.send_header(name, value)
        super().end_headers()


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


@contextmanager
def far_console(names: Sequence[str] = (), *, begins_in_ms: int = 0) -> Iterator[FarConsole]:
    """A console that runs meanwhile."""
    server = FarConsole(names, begins_in_ms=begins_in_ms)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def operator(**changes: Any) -> models.OperatorItem:
    """An operator as lists show them."""
    given: dict[str, Any] = {
        "operator_id": OPERATOR,
        "name": "bo",
        "role": "operator",
        "state": "active",
        "owner": "",
        "created_at_unix_ms": 0,
        "created_by": "ana",
        "certificates": 1,
        "certificate_expires_unix_ms": UNTIL,
        "sessions": 0,
    }
    return models.OperatorItem(**{**given, **changes})
