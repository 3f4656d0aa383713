"""URL prefixes: whether a URL lies below another one, with no way to write it so that it seems to.

What is compared is the origin (scheme, host, port) and whole segments of the path; query and
fragment are not looked at.  A text that two programs could read as two URLs is not compared at all:
whoever asks gets None, and takes it for the worse of yes and no.  WHATWG URL Standard, RFC 3986.
"""

from __future__ import annotations

import ipaddress
import re
import string
from urllib.parse import quote

import attrs

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::(?P<port>[0-9]{0,5}))?\Z")
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
"""The last label of what a browser takes for an IPv4 address, however it is written."""
_ESCAPE = re.compile(r"%(..?)?", re.DOTALL)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_NEEDLESS = frozenset(string.ascii_letters + string.digits + "-._~/\\%;")
"""What nobody has to escape, or what another reader would take for a part of the path's shape."""
_KEPT = "".join(chr(code) for code in range(0x21, 0x7F))


def is_url(text: str) -> bool:
    """Whether a prefix is meant as a URL and not as the beginning of any text."""
    return _SHAPE.match(text) is not None


@attrs.frozen
class Url:
    """What is compared of a URL.  ``segments`` are of the path, an empty last one for a ``/``."""

    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Url | None:
        """The URL that ``text`` is to every reader; None where there is no such one.

        None for user information, blanks and backslashes, hosts that are not ASCII (write the
        ``xn--`` form) or numbers in disguise (an IPv4 address in IPv6 is one), and in the path
        ``.`` and ``..``, ``//``, ``;`` and escapes of characters that need none.
        """
        found = _SHAPE.match(text)
        if found is None or not text.isprintable() or " " in text or "\\" in text:
            return None
        scheme = found[1].lower()
        authority = _HOST.match(found[2])
        segments = _segments(found[3])
        if authority is None or segments is None:
            return None
        host = _host(authority["host"].lower(), scheme)
        port = int(authority["port"]) if authority["port"] else _PORTS.get(scheme)
        if host is None or (port is not None and port > 65535):
            return None
        return cls(scheme, host, port, segments)

    def begins(self, other: Url) -> bool:
        """Whether the other is this URL or lies below it."""
        here, there = self.segments, other.segments
        whole = here if here[-1] else here[:-1]
        below = len(there) >= len(here) and there[: len(whole)] == whole
        return below and self._origin() == other._origin()

    @property
    def origin(self) -> str:
        """Scheme, host and port as a browser shows them; the port only where it is not usual."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port is None or self.port == _PORTS.get(self.scheme)
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}"

    def _origin(self) -> tuple[str, str, int | None]:
        return self.scheme, self.host, self.port


def _host(host: str, scheme: str) -> str | None:
    """A host in its one spelling; a file has none, which may be written as ``localhost``."""
    if scheme == "file":
        return "" if host in ("", "localhost") else None
    try:
        if host.startswith("["):
            address = ipaddress.IPv6Address(host[1:-1])
            return None if address.ipv4_mapped else str(address)
        if _NUMBER.match(host.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        return None
    return host if _LABELS.match(host) else None


def _segments(path: str) -> tuple[str, ...] | None:
    """The parts of a path between its slashes; None where a reader could see others in it."""
    if ";" in path or not all(map(_is_needed, _ESCAPE.finditer(path))):
        return None
    spelt = _ESCAPE.sub(lambda escape: escape[0].upper(), quote(path or "/", safe=_KEPT))
    segments = tuple(spelt.split("/")[1:])
    if any(part in ("", ".", "..") for part in segments[:-1]) or segments[-1] in (".", ".."):
        return None
    return segments


def _is_needed(escape: re.Match[str]) -> bool:
    """Whether an escape is of a character that cannot stand in a path as it is."""
    digits = escape[1] or ""
    if len(digits) != 2 or not all(digit in string.hexdigits for digit in digits):
        return False
    character = chr(int(digits, 16))
    return character >= " " and character not in _NEEDLESS and character != "\x7f"
