"""Which CA certificate a pairing takes as its only root (PROTOCOL: Trust)."""

from __future__ import annotations

import hashlib
import hmac

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.config.addresses import HostPort
from palyra.errors import CaMismatch, CertificateRefused, GatewayUnreachable, Malformed
from palyra.node.roots import Root
from palyra.pki.certificates import read_root


def given_root(pem: bytes) -> Root:
    """The root in a file that came another way.

    :raises Malformed: it is not fit to be one.
    """
    try:
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        return Root(read_root(der))
    except (ValueError, CertificateRefused) as error:
        raise Malformed("gateway-ca-file", "is not the CA certificate of a gateway") from error


def named_root(chain: list[bytes], digest: bytes, given: Root | None) -> Root:
    """The last of the chain shown, which must be what the pairing line names, and the given one.

    :raises CaMismatch: it is another one, or not fit to be a root.
    """
    if not chain or not hmac.compare_digest(hashlib.sha256(chain[-1]).digest(), digest):
        raise CaMismatch()
    try:
        root = Root(read_root(chain[-1]))
    except CertificateRefused as error:
        raise CaMismatch() from error
    if given is not None and given != root:
        raise CaMismatch()
    return root


def shown_root(chain: list[bytes], address: HostPort) -> Root:
    """The last of the chain shown; whose it is, the PIN will prove.

    :raises GatewayUnreachable: it is not fit to be a root.
    """
    try:
        return Root(read_root(chain[-1] if chain else b""))
    except CertificateRefused as error:
        raise GatewayUnreachable(str(address), "what answers there is no gateway") from error
