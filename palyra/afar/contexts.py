"""Gateways that are reached from afar: what this account keeps of each, and which one is in use.

<config directory of the user>/palyra/current-context
                                     /contexts/NAME/context.json   address, operator
                                                    ca.pem         the only roots for its TLS
                                                    operator.pem   key and certificate, 0600
                                                    pending.pem    key of a renewal under way
                                                    mcp-token      of ``palyra mcp --http``
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import msgspec
from platformdirs import user_config_path

from palyra._files import check_private, make_private_dir, write_atomic
from palyra.config.addresses import HostPort
from palyra.errors import ContextUnknown, ContextUnusable, Malformed

CURRENT = "current-context"
FOLDER = "contexts"
ABOUT, CA, PAIR, PENDING = "context.json", "ca.pem", "operator.pem", "pending.pem"
MCP_TOKEN = "mcp-token"
USUAL_PORT = 7142
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z", re.ASCII)


class Context(msgspec.Struct, frozen=True):
    """A gateway from afar: ``url`` is ``https://HOST:PORT``.

    ``own_roots``: its console shows a certificate of another CA than the gateway's own, which was
    named by hand; what the gateway says of its CAs does not replace it.
    """

    name: str
    url: str
    operator: str = ""
    operator_id: str = ""
    own_roots: bool = False

    @property
    def address(self) -> HostPort:
        """Where it is."""
        return address_of(self.url)


@attrs.frozen
class Contexts:
    """What is kept below ``root``."""

    root: Path

    @classmethod
    def of_user(cls) -> Contexts:
        """Those of the account that runs this."""
        return cls(user_config_path("palyra", False))

    def all(self) -> list[Context]:
        """Every context that can be read, by name."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for each in sorted((self.root / FOLDER).iterdir()):
                with contextlib.suppress(ContextUnknown, ContextUnusable):
                    found.append(self.get(each.name))
        return found

    def get(self, name: str) -> Context:
        """:raises ContextUnknown, ContextUnusable: there is none, or its file is damaged."""
        if not _NAME.match(name):
            raise ContextUnknown(name[:64])
        try:
            data = (self.directory(name) / ABOUT).read_bytes()
            return msgspec.json.decode(data, type=Context)
        except FileNotFoundError as error:
            raise ContextUnknown(name) from error
        except (OSError, msgspec.MsgspecError) as error:
            raise ContextUnusable(name, f"{ABOUT} cannot be read") from error

    def by_url(self, url: str) -> Context:
        """The context of an address.

        :raises ContextUnknown: there is none.
        """
        wanted = checked_url(url)
        for each in self.all():
            if each.url == wanted:
                return each
        raise ContextUnknown(wanted)

    def current(self) -> Context | None:
        """The one in use; None: the gateway of this machine."""
        try:
            name = (self.root / CURRENT).read_text().strip()
        except OSError:
            return None
        return self.get(name) if name else None

    def use(self, name: str) -> Context:
        """Use a context from now on."""
        found = self.get(name)
        write_atomic(self.root / CURRENT, f"{name}\n".encode())
        return found

    def use_none(self) -> None:
        """Use the gateway of this machine again."""
        (self.root / CURRENT).unlink(missing_ok=True)

    def add(self, context: Context, ca_pem: bytes, pair_pem: bytes) -> None:
        """Keep a context; one of that name is replaced.

        :raises Malformed: it cannot be called that.
        """
        checked_name(context.name)
        make_private_dir(self.root, marks=(FOLDER, CURRENT))
        directory = self.directory(context.name)
        make_private_dir(directory)
        write_atomic(directory / CA, ca_pem)
        write_atomic(directory / PAIR, pair_pem)
        write_atomic(directory / ABOUT, msgspec.json.encode(context))
        (directory / PENDING).unlink(missing_ok=True)

    def remove(self, name: str) -> Context:
        """Forget a context, its key too."""
        found = self.get(name)
        current = self.root / CURRENT
        if current.exists() and current.read_text().strip() == name:
            self.use_none()
        directory = self.directory(name)
        for each in (PAIR, PENDING, MCP_TOKEN, CA, ABOUT):
            (directory / each).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something that is not ours stays
            directory.rmdir()
        return found

    def directory(self, name: str) -> Path:
        """Where what is kept of a context lies."""
        return self.root / FOLDER / name

    def pair_file(self, name: str) -> Path:
        """The file with key and certificate.

        :raises KeyFilePermission: others may read it; :class:`ContextUnusable`: it is not there.
        """
        file = self.directory(name) / PAIR
        if not file.exists():
            raise ContextUnusable(name, f"{file} is missing")
        check_private(file)
        return file


def checked_name(name: str) -> str:
    """What a context may be called.

    :raises Malformed: it is something else.
    """
    if not _NAME.match(name):
        raise Malformed("name", "must be 1 to 64 of a-z, 0-9, dot, dash and underscore")
    return name


def checked_url(url: str) -> str:
    """``https://HOST:PORT`` in its one spelling; the usual port may be left out.

    :raises Malformed: it is no such address.
    """
    problem = "must be https://HOST[:PORT]"
    try:
        parts = urlsplit(url.strip())
        port = parts.port or USUAL_PORT
    except ValueError as error:
        raise Malformed("url", problem) from error
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme != "https" or not parts.hostname or rest:
        raise Malformed("url", problem)
    return f"https://{HostPort(parts.hostname, port)}"


def address_of(url: str) -> HostPort:
    """The address in a URL that was checked."""
    parts = urlsplit(url)
    return HostPort(parts.hostname or "", parts.port or USUAL_PORT)
