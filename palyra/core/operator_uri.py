"""The invitation of an operator: ``palyra://HOST:PORT/operator?ca=<CA hash>&t=<token>``, and what
whoever accepts it signs (ACCESS: Console access)."""

from __future__ import annotations

import base64
import hashlib

import attrs

from palyra.core.operators import TOKEN_BYTES
from palyra.core.pairing_uri import PairingUri, spell_token
from palyra.core.transcript import lp
from palyra.errors import Malformed

FIELD = "invitation"
_OPERATOR = "/operator?"
_PAIRING = "/?"


@attrs.frozen
class OperatorUri:
    """Where the console is, SHA-256 of the CA certificate's DER to expect there, and the token.

    ``str()`` is the line itself and as secret as its token; the repr does not show the token.
    """

    line: PairingUri
    """The same fields as a pairing line's; only the path tells the two apart."""

    @classmethod
    def of(cls, host: str, port: int, ca: bytes, token: bytes) -> OperatorUri:
        """:raises Malformed: one of the fields cannot stand in such a line."""
        return cls(PairingUri(host, port, ca, token))

    @classmethod
    def parse(cls, text: str) -> OperatorUri:
        """The line a person pasted, spaces around it allowed; nothing of it is echoed.

        :raises Malformed: it is not exactly such a line.
        """
        if text.count(_OPERATOR) != 1:
            raise Malformed(FIELD, "must be palyra://HOST:PORT/operator?ca=...&t=...")
        try:
            return cls(PairingUri.parse(text.replace(_OPERATOR, _PAIRING)))
        except Malformed as error:
            raise Malformed(FIELD, error.problem) from error

    @property
    def token(self) -> bytes:
        """The secret itself."""
        return self.line.token

    @property
    def ca(self) -> bytes:
        """SHA-256 of the CA certificate's DER."""
        return self.line.ca

    @property
    def origin(self) -> str:
        """``https://HOST:PORT``."""
        host = f"[{self.line.host}]" if ":" in self.line.host else self.line.host
        return f"https://{host}:{self.line.port}"

    def __str__(self) -> str:
        return str(self.line).replace(_PAIRING, _OPERATOR, 1)


def read_token(text: str) -> bytes | None:
    """The 128 bits of a token as :func:`spell_token` writes it; None where it is not one."""
    if not text.isascii() or len(text) != -(-TOKEN_BYTES * 4 // 3):
        return None
    try:
        token = base64.urlsafe_b64decode(text + "==")
    except ValueError:
        return None
    return token if spell_token(token) == text else None


def enrolment_payload(ca_hash: bytes, token: bytes, csr_der: bytes) -> bytes:
    """What the key of a CSR signs to accept an invitation: under which CA, which one, for what."""
    return lp(
        b"palyra-operator-v1",
        ca_hash,
        hashlib.sha256(token).digest(),
        hashlib.sha256(csr_der).digest(),
    )
