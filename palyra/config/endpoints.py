"""Twisted endpoint strings of ours, ``palyra:PORT:interface=ADDRESS``, as values."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from palyra.config.addresses import HostPort
from palyra.config.console import ConsoleSection
from palyra.errors import Malformed

PREFIX = "palyra"
BACKLOG = 128
_PART = re.compile(r"(?:[^:\\]|\\.)+", re.DOTALL)
_NAMED = re.compile(r"((?:[^=\\]|\\.)*)=(.*)\Z", re.DOTALL)
_QUOTED = re.compile(r"\\(.)", re.DOTALL)
"""How Twisted quotes the arguments of endpoint strings: with a backslash."""


@attrs.frozen
class Place:
    """What an endpoint string of ours says.  ``certificate`` and ``private_key`` are files."""

    address: HostPort
    state_root: str = ""
    certificate: str = ""
    private_key: str = ""
    backlog: int = BACKLOG

    @property
    def own(self) -> tuple[Path, Path] | None:
        """The files of a certificate and its key of one's own; None where none are named."""
        return _files(self.certificate, self.private_key)


def place(
    port: str,
    interface: str = "127.0.0.1",
    stateroot: str = "",
    certificate: str = "",
    privateKey: str = "",
    backlog: str = str(BACKLOG),
    *,
    field: str = "endpoint",
) -> Place:
    """The arguments of an endpoint string, which was given as ``field``.

    :raises Malformed: one of them makes no sense.
    """
    if bool(certificate) != bool(privateKey):
        raise Malformed(field, "certificate= and privateKey= belong together")
    if not backlog.isascii() or not backlog.isdigit():
        raise Malformed(field, "backlog= must be a number")
    shown = f"[{interface}]:{port}" if ":" in interface else f"{interface or '0.0.0.0'}:{port}"
    address = HostPort.parse(shown, field)
    return Place(address, stateroot, certificate, privateKey, int(backlog))


def read_place(text: str, field: str) -> Place:
    """What a Twisted endpoint string of ours says, read without looking for plugins.

    :raises Malformed: it is none; ``field`` is where it was given.
    """
    prefix, *parts = _PART.findall(text) or [""]
    if prefix != PREFIX:
        raise Malformed(field, "must begin with palyra:")
    named = [_NAMED.match(part) for part in parts]
    args = [_plain(part) for part, found in zip(parts, named, strict=True) if found is None]
    kwargs = {_plain(found[1]): _plain(found[2]) for found in named if found is not None}
    try:
        return place(*args, **{**kwargs, "field": field})
    except TypeError as error:
        raise Malformed(
            field, f"must be palyra:PORT:interface=ADDRESS (got {text[:80]!r})"
        ) from error


def _plain(quoted: str) -> str:
    return _QUOTED.sub(r"\1", quoted)


def own_files(where: Place, section: ConsoleSection) -> tuple[Path, Path] | None:
    """The console's own certificate and key: those of the endpoint go before ``[console]``."""
    return where.own or _files(section.certificate, section.private_key)


def _files(certificate: str, private_key: str) -> tuple[Path, Path] | None:
    if not certificate:
        return None
    return Path(certificate).expanduser(), Path(private_key).expanduser()
