"""The pairing line: ``palyra://HOST:PORT/?ca=<CA hash>&t=<token>``, as printed and as a QR code."""

from __future__ import annotations

import base64
import ipaddress
import re

import attrs

from palyra.core.pairing import TOKEN_BYTES
from palyra.errors import Malformed

CA_HASH_BYTES = 32
MAX_LENGTH = 512
_FIELD = "pairing line"
_LINE = re.compile(
    r"palyra://(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):(?P<port>[1-9][0-9]{0,4})/"
    r"\?(?P<query>[0-9A-Za-z_=&-]*)\Z",
    re.ASCII,
)
_LABEL = r"[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]+\Z", re.ASCII)


def _host(host: str) -> str:
    """``host`` in its one spelling: an IP address without brackets, or a lower-case DNS name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        name = host.lower()
    # A name that ends in a number is an IPv4 address to every resolver, and this one is not valid.
    if len(name) > 253 or not _DNS_NAME.match(name) or _NUMBER.match(name.rsplit(".", 1)[-1]):
        raise Malformed(_FIELD, "the host is neither a DNS name nor an IP address")
    return name


def _check_host(_: PairingUri, __: object, host: str) -> None:
    if "%" in host or _host(host) != host:
        raise Malformed(_FIELD, "the host is not in its canonical spelling")


def _check_port(_: PairingUri, __: object, port: int) -> None:
    if not 1 <= port <= 65535:
        raise Malformed(_FIELD, "the port must be 1 to 65535")


def _check_ca(_: PairingUri, __: object, ca: bytes) -> None:
    if len(ca) != CA_HASH_BYTES:
        raise Malformed(_FIELD, f"ca must be {CA_HASH_BYTES} bytes")


def _check_token(_: PairingUri, __: object, token: bytes) -> None:
    if len(token) != TOKEN_BYTES:
        raise Malformed(_FIELD, f"t must be {TOKEN_BYTES} bytes")


@attrs.frozen
class PairingUri:
    """Where to pair, SHA-256 of the CA certificate's DER to expect there, and the token.

    ``str()`` is the line itself and as secret as its token; the repr does not show the token.
    """

    host: str = attrs.field(validator=_check_host)
    """A lower-case DNS name or an IP address in its shortest spelling, without brackets."""
    port: int = attrs.field(validator=_check_port)
    ca: bytes = attrs.field(validator=_check_ca)
    token: bytes = attrs.field(validator=_check_token, repr=False)

    @classmethod
    def parse(cls, text: str) -> PairingUri:
        """The line a person pasted, spaces around it allowed; nothing of it is echoed.

        :raises Malformed: it is not exactly such a line.
        """
        line = text.strip()
        found = _LINE.match(line) if len(line) <= MAX_LENGTH else None
        if found is None:
            raise Malformed(_FIELD, "must be palyra://HOST:PORT/?ca=...&t=...")
        host, bracketed = found["host"].strip("[]"), found["host"].startswith("[")
        if bracketed != (":" in host):
            raise Malformed(_FIELD, "only an IPv6 address is written in brackets")
        values = _parameters(found["query"])
        ca = _decode("ca", values["ca"], CA_HASH_BYTES)
        return cls(_host(host), int(found["port"]), ca, _decode("t", values["t"], TOKEN_BYTES))

    @property
    def proof(self) -> str:
        """The token as it is sent: 22 base64url characters."""
        return _encode(self.token)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"palyra://{host}:{self.port}/?ca={_encode(self.ca)}&t={self.proof}"


def spell_token(token: bytes) -> str:
    """A token as it is sent and shown: 22 base64url characters."""
    return _encode(token)


def _parameters(query: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in query.split("&")]
    if sorted(name for name, _, _ in pairs) != ["ca", "t"]:
        raise Malformed(_FIELD, "must have ca and t, once each, and nothing else")
    return {name: value for name, _, value in pairs}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(name: str, text: str, size: int) -> bytes:
    """Canonical base64url without padding: one spelling for one value."""
    digits = -(-size * 4 // 3)
    if len(text) == digits and "=" not in text:
        data = base64.urlsafe_b64decode(text + "=" * (-digits % 4))
        if _encode(data) == text:
            return data
    raise Malformed(_FIELD, f"{name} must be {digits} base64url characters")
