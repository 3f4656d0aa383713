"""What an input will open, as a person should see it: the host in ASCII, links resolved."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

import idna


def shown_url(url: str) -> str:
    """The URL with its host in ASCII, as it will be looked up: no letter of another script can
    pass for one of ours there."""
    try:
        parts = urlsplit(url)
        return url if parts.netloc.isascii() else parts._replace(netloc=_ascii(parts)).geturl()
    except (ValueError, idna.IDNAError):
        return url.encode("ascii", "backslashreplace").decode()


def _ascii(parts: SplitResult) -> str:
    host = idna.encode(parts.hostname or "", uts46=True).decode("ascii")
    if "@" in parts.netloc:
        raise ValueError("a user name may look like a host")
    return host if parts.port is None else f"{host}:{parts.port}"


def shown_path(path: str) -> str:
    """The path that it leads to, links resolved; as it is where it leads nowhere.  May block.

    Bytes of a name that are no UTF-8 are spelled out: they could be neither shown nor sent.
    """
    try:
        found = os.path.realpath(path)
    except (OSError, ValueError):
        found = path
    return found.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


OPEN_URL, OPEN_PATH = "desktop.open_url", "desktop.open_path"
_OPENERS: Mapping[str, tuple[str, Callable[[str], str]]] = MappingProxyType(
    {OPEN_URL: ("url", shown_url), OPEN_PATH: ("path", shown_path)}
)


def opened_by(capability: str, value: object) -> str:
    """What that call will open; empty where it opens nothing, or says so in no way we know.

    Of ``OPEN_PATH`` it looks at the file system, and may block.
    """
    member, shown = _OPENERS.get(capability, ("", str))
    found = value.get(member) if member and isinstance(value, dict) else None
    return shown(found) if isinstance(found, str) else ""


def leading_to(value: object, opens: str) -> object:
    """The input of ``OPEN_PATH``, with the path that it leads to in the place of its own."""
    return {**value, "path": opens} if isinstance(value, dict) and opens else value
