"""The console of a gateway from afar: HTTPS with the operator's certificate, under the gateway's CA
as the only root."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from palyra.config.addresses import HostPort
from palyra.errors import (
    CertificateRefused,
    GatewayUnreachable,
    NameNotInCertificate,
    PalyraError,
    Unreached,
)
from palyra.transport.chain import MAX_CHAIN, check_dates

TIMEOUT_S = 10.0
_NAME_MISMATCH = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH (openssl x509_vfy.h)."""
_DATES = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""
_ALERTS = ("certificate", "unknown_ca", "unknown ca", "access denied")


def fetch_chain(address: HostPort, timeout_s: float = TIMEOUT_S) -> list[bytes]:
    """The chain a TLS server shows, leaf first, as DER.  Nothing of it is verified, nothing sent.

    :raises GatewayUnreachable: there is none.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    until = time.monotonic() + timeout_s
    try:
        with socket.create_connection((address.host, address.port), timeout_s) as plain:
            plain.setblocking(False)
            connection = SSL.Connection(context, plain)
            connection.set_tlsext_host_name(_server_name(address.host))
            connection.set_connect_state()
            _shake_hands(connection, plain, until)
            chain = connection.get_peer_cert_chain() or []
            return [each.to_cryptography().public_bytes(Encoding.DER) for each in chain[:MAX_CHAIN]]
    except (OSError, SSL.Error, ValueError) as error:
        raise GatewayUnreachable(str(address), cause_of(error)) from error


def _shake_hands(connection: SSL.Connection, plain: socket.socket, until: float) -> None:
    while True:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        try:
            return connection.do_handshake()
        except SSL.WantReadError:
            select.select([plain], [], [], left_s)
        except SSL.WantWriteError:
            select.select([], [plain], [], left_s)


def _server_name(host: str) -> bytes:
    return host.encode("idna") if ":" not in host else b"localhost"


def tls_context(ca_pem: str, pair: Path | None) -> ssl.SSLContext:
    """TLS with these roots and no others; ``pair`` is the file of key and certificate.

    :raises ssl.SSLError, OSError: one of the two cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    context.set_alpn_protocols(["http/1.1"])
    if pair is not None:
        context.load_cert_chain(pair)
    return context


class RemoteWay:
    """The way to a console over HTTPS (:class:`palyra.cli.client.Way`).

    ``due`` is called when an answer says that the certificate should be renewed.
    """

    def __init__(
        self,
        address: HostPort,
        context: Callable[[], ssl.SSLContext],
        due: Callable[[], object] = lambda: None,
    ) -> None:
        self._address = address
        self._context = context
        self._due = due

    @property
    def where(self) -> str:
        """What is told where it cannot be reached."""
        return str(self._address)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that was not made yet."""
        host, port = self._address.host, self._address.port
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context())

    def problem(self, error: Exception, timeout_s: float) -> PalyraError:
        """What went wrong with a connection, in our words."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._unverified(error)
        if isinstance(error, TimeoutError):
            return GatewayUnreachable(self.where, f"no answer in {timeout_s:g}s")
        return GatewayUnreachable(self.where, cause_of(error))

    def answered(self, response: http.client.HTTPResponse) -> None:
        """Look at the head of an answer."""
        if response.getheader("x-palyra-renew"):
            self._due()

    def _unverified(self, error: ssl.SSLCertVerificationError) -> PalyraError:
        """Why the certificate was not taken: its name, a clock, or another CA."""
        leaf = b""
        with contextlib.suppress(PalyraError):
            leaf = fetch_chain(self._address)[0]
        if leaf and error.verify_code in _NAME_MISMATCH:
            return NameNotInCertificate(self._address.host, names_of(leaf))
        if leaf and error.verify_code in _DATES:
            try:
                check_dates(leaf, int(time.time() * 1000))
            except CertificateRefused:
                pass
            except PalyraError as skew:
                return skew
        return GatewayUnreachable(
            self.where, "its certificate is not of the CA that is known for it"
        )


def names_of(leaf_der: bytes) -> tuple[str, ...]:
    """The names that people type in a certificate; the fixed one of devices is none of them."""
    try:
        certificate = x509.load_der_x509_certificate(leaf_der)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    names = [*found.get_values_for_type(x509.DNSName)]
    names += [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    return tuple(name for name in names if name != "palyrad-node-rpc")


def cause_of(error: Exception) -> str:
    """What the system or TLS says, in the words of :class:`palyra.errors.Unreached` where one
    fits."""
    if isinstance(error, ConnectionRefusedError):
        return Unreached.REFUSED
    if isinstance(error, socket.gaierror):
        return Unreached.NO_NAME
    if isinstance(error, TimeoutError):
        return Unreached.NO_ANSWER
    text = str(error).lower()
    if "no route to host" in text:
        return Unreached.NO_ROUTE
    if "network is unreachable" in text:
        return Unreached.NO_NETWORK
    if isinstance(error, ssl.SSLError | SSL.Error):
        refused = any(word in text for word in _ALERTS)
        return "it did not take this certificate" if refused else "no TLS there"
    return str(error) or type(error).__name__
