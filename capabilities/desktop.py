"""``desktop.open_url`` and ``desktop.open_path``: opening things for the person at the device.

Opening is executing, so both need that person's yes, and what a desktop would run is refused.
A file that changes between the check and the opening is not seen: openers take names only.
"""

from __future__ import annotations

import ipaddress
import ntpath
import os
import re
import stat
import sys
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import SplitResult, quote, urlsplit

import idna
import msgspec
from msgspec import Meta

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl
from palyra.capability.wording import has_unshown, one_line
from palyra.errors import InputInvalid

from .opener import Opener, SystemOpener

OPEN_URL = "desktop.open_url"
OPEN_PATH = "desktop.open_path"
MAX_URL = 2048
MAX_PATH = 4096

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?\Z")
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)\Z")
_SAFE = "/:?#[]@!$&'()*+,;=%~-._"
_RUN_BY_DESKTOPS = frozenset((
    ".desktop", ".lnk", ".url", ".app", ".appimage", ".appinstaller", ".application",
    ".appref-ms", ".bat", ".chm", ".cmd", ".com", ".command", ".cpl", ".diagcab", ".dmg", ".exe",
    ".fileloc", ".flatpakref", ".gadget", ".hta", ".inetloc", ".inf", ".jar", ".jnlp", ".js",
    ".jse", ".library-ms", ".mobileconfig", ".mpkg", ".msc", ".msi", ".msix", ".msp", ".mst",
    ".pif", ".pkg", ".prefpane", ".ps1", ".pyw", ".pyz", ".reg", ".saver", ".scf", ".scpt", ".scr",
    ".search-ms", ".settingcontent-ms", ".terminal", ".tool", ".vb", ".vbe", ".vbs", ".webloc",
    ".website", ".workflow", ".ws", ".wsf", ".wsh", ".xbap",
))  # fmt: skip


class OpenUrl(msgspec.Struct, forbid_unknown_fields=True):
    """Input of ``desktop.open_url``."""

    url: Annotated[
        str, Meta(description="http:// or https://.", extra_json_schema={"format": "uri"})
    ]


class OpenedUrl(msgspec.Struct):
    """``url`` as it was opened: its host in ASCII."""

    opened: bool
    url: str


class OpenPath(msgspec.Struct, forbid_unknown_fields=True):
    """Input of ``desktop.open_path``."""

    path: Annotated[str, Meta(description="An absolute path on the device.", min_length=1)]


class OpenedPath(msgspec.Struct):
    """``path`` as it was opened: all symbolic links resolved."""

    opened: bool
    path: str
    kind: Literal["file", "directory"]


# -- URLs ---------------------------------------------------------------------------------------


def checked_url(url: str) -> str:
    """``url`` in ASCII if it may be opened, else :class:`InputInvalid` on ``input.url``."""
    _check_url_text(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise _bad_url(f"is not a URL ({one_line(str(exc), 80)})") from exc
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise _bad_url("must not carry a user name or password")
    host = _ascii_host(parts)
    netloc = host if port is None else f"{host}:{port}"
    checked = f"{parts.scheme}://{netloc}{quote(url[_rest_at(url) :], safe=_SAFE)}"
    if len(checked) > MAX_URL:
        raise _bad_url(f"must be {MAX_URL} characters at most")
    return checked


def _check_url_text(url: str) -> None:
    if len(url) > MAX_URL:
        raise _bad_url(f"must be {MAX_URL} characters at most (got {len(url)})")
    if has_unshown(url) or any(c.isspace() for c in url) or "\\" in url:
        raise _bad_url("must not have spaces, backslashes, control or bidi characters")
    scheme, found, _ = url.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        got = f" (got {one_line(scheme, 20)}://)" if found else ""
        raise _bad_url(f"must begin with http:// or https://{got}")
    if "#" in url:
        raise _bad_url("must not have a fragment (#)")


def _rest_at(url: str) -> int:
    """Where path and query begin."""
    begin = url.index("://") + 3
    ends = [at for mark in "/?" if (at := url.find(mark, begin)) >= 0]
    return min(ends, default=len(url))


def _ascii_host(parts: SplitResult) -> str:
    """The host as browsers will look it up; IDNA 2008 with the UTS 46 mapping."""
    host = parts.hostname or ""
    if "[" in parts.netloc or "]" in parts.netloc:
        return _ipv6(host, parts.netloc)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as exc:
            raise _bad_url("has a host name that does not exist in the DNS") from exc
    if not host or len(host) > 254 or not _HOST.match(host):
        raise _bad_url("must name a host")
    _check_number(host)
    return host


def _check_number(host: str) -> None:
    """Refuse other spellings of an IPv4 address: browsers take ``0x7f.1`` and ``2130706433`` for
    127.0.0.1 (WHATWG URL, IPv4 parser), which nobody would see in a question."""
    if not _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
        return
    try:
        ipaddress.IPv4Address(host)
    except ValueError as exc:
        raise _bad_url("must spell an IPv4 address as four decimal numbers") from exc


def _ipv6(host: str, netloc: str) -> str:
    """An IPv6 literal that is the whole host; a zone (``%eth0``) means nothing elsewhere."""
    if not netloc.startswith("[") or "%" in host:
        raise _bad_url("must name a host")
    try:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    except ValueError as exc:
        raise _bad_url("must name a host") from exc


def _bad_url(problem: str) -> InputInvalid:
    return InputInvalid("input.url", problem, OPEN_URL)


# -- paths --------------------------------------------------------------------------------------


def checked_path(
    path: str, *, platform: str = sys.platform, environ: Mapping[str, str] = os.environ
) -> tuple[str, Literal["file", "directory"]]:
    """The resolved path and its kind if it may be opened, else :class:`InputInvalid`."""
    if len(path) > MAX_PATH or has_unshown(path):
        raise _bad_path(f"must be {MAX_PATH} characters at most, without control or bidi ones")
    if not os.path.isabs(path) or path.startswith(("\\\\", "//")):
        raise _bad_path("must be an absolute path on this device")
    try:
        resolved = os.path.realpath(path, strict=True)
        found = os.stat(resolved)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a path"
        raise _bad_path(f"cannot be opened ({reason.lower()})") from exc
    if has_unshown(resolved):
        raise _bad_path("leads to a name with control or bidi characters")
    for each in (path, resolved):
        refuse_runnable_name(each, platform=platform, environ=environ)
    return resolved, _kind(found)


def refuse_runnable_name(path: str, *, platform: str, environ: Mapping[str, str]) -> None:
    """Refuse what a desktop would run or follow because of how its name ends.

    Windows ignores dots and blanks at the end of a name, so they do not hide an ending.
    """
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1].rstrip(". ").lower()
    ending = os.path.splitext(name)[1]
    runnable = environ.get("PATHEXT", "").lower().split(";") if platform == "win32" else []
    if name in _RUN_BY_DESKTOPS or ending in _RUN_BY_DESKTOPS or (ending and ending in runnable):
        raise _bad_path(f"ends in {ending or name}, which a desktop would run")
    if platform == "win32" and ":" in ntpath.splitdrive(path)[1]:
        raise _bad_path("must not name a stream of a file")


def _kind(found: os.stat_result) -> Literal["file", "directory"]:
    if stat.S_ISDIR(found.st_mode):
        return "directory"
    if not stat.S_ISREG(found.st_mode):
        raise _bad_path("must be a file or a directory")
    if found.st_mode & 0o111:
        raise _bad_path("is executable")
    return "file"


def _bad_path(problem: str) -> InputInvalid:
    return InputInvalid("input.path", problem, OPEN_PATH)


# -- the capabilities ---------------------------------------------------------------------------


def capabilities(opener: Opener) -> list[Capability]:
    """Both capabilities, opening through ``opener``."""

    async def open_url(value: OpenUrl, context: CapabilityContext) -> OpenedUrl:
        url = checked_url(value.url)
        await opener(url)
        return OpenedUrl(opened=True, url=url)

    async def open_path(value: OpenPath, context: CapabilityContext) -> OpenedPath:
        path, kind = checked_path(value.path)
        await opener(path)
        return OpenedPath(opened=True, path=path, kind=kind)

    return [
        Capability(
            name=OPEN_URL,
            description="Opens a web page in the browser of the person at the device.",
            handler=open_url,
            input_type=OpenUrl,
            output_type=OpenedUrl,
            risk=Risk.MEDIUM,
            needs_mediation=True,
            max_concurrency=2,
        ),
        Capability(
            name=OPEN_PATH,
            description="Opens a file or a directory with the desktop's program for it.",
            handler=open_path,
            input_type=OpenPath,
            output_type=OpenedPath,
            risk=Risk.HIGH,
            needs_mediation=True,
            max_concurrency=2,
        ),
    ]


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """``desktop.open_url`` and ``desktop.open_path`` on this machine's desktop."""
    return capabilities(SystemOpener())
