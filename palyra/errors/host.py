"""The machine it runs on: addresses, clocks, processes, sockets."""

from __future__ import annotations

import enum

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class GatewayNotRunning(PalyraError):
    """Nothing answers on the state root's console socket."""

    code = "gateway_not_running"
    category = Category.UNAVAILABLE
    exit_code = 3
    state_root: str

    @property
    def sentence(self) -> str:
        return f"No gateway runs on state root {self.state_root}."

    @property
    def hint(self) -> str:
        return "twistd -n palyra, or set PALYRA_STATE_ROOT"


class Unreached(enum.StrEnum):
    """The causes where nobody was heard at an address: another way there may be open."""

    NO_ANSWER = "no answer"
    REFUSED = "connection refused"
    NO_NETWORK = "network is unreachable"
    NO_ROUTE = "no route to host"
    NO_NAME = "the name is not known"


class Cut(enum.StrEnum):
    """The causes where somebody was heard, who may not have taken this device's certificate."""

    HANDSHAKE_REFUSED = "the TLS handshake was refused"
    CLOSED_OFF = "the connection was closed"


@attrs.define
class GatewayUnreachable(PalyraError):
    """A connection to the gateway could not be made, or broke.

    ``cause`` is one of :class:`Unreached` or :class:`Cut`, or other words.  ``transport`` is named
    where it is another one than a person would think of: ``quic``.
    """

    code = "gateway_unreachable"
    category = Category.UNAVAILABLE
    retryable = True
    exit_code = 3
    address: str
    cause: str
    transport: str = ""

    @property
    def where(self) -> str:
        """The address as people are told it: ``HOST:PORT``, or ``quic HOST:PORT``."""
        return f"{self.transport} {self.address}".lstrip()

    @property
    def unreached(self) -> bool:
        """Whether nobody was heard there.  Not so where a certificate did not verify, where the
        gateway refused, or where a connection was made and closed."""
        return self.cause in tuple(Unreached)

    @property
    def cut(self) -> bool:
        """Whether it may be that the gateway did not take this device's certificate."""
        return self.cause in tuple(Cut)

    @property
    def sentence(self) -> str:
        return f"Cannot reach {self.where}: {self.cause}."

    @property
    def hint(self) -> str:
        if self.transport == "quic" and self.unreached:
            port = self.address.rpartition(":")[2]
            return f"let {port}/udp through to it, or take --transport auto or grpc"
        return "on the gateway: palyra doctor"


@attrs.define
class ClockSkew(PalyraError):
    """A gateway's certificate is not valid by this clock; both times are named (texts).

    It begins later, or it ended before (``ends`` is set then).
    """

    code = "clock_skew"
    category = Category.PRECONDITION
    here: str
    begins: str = ""
    ends: str = ""

    @property
    def sentence(self) -> str:
        what = f"before the gateway's certificate begins ({self.begins})"
        if self.ends:
            what = f"after the gateway's certificate ended ({self.ends})"
        return f"This clock ({self.here}) is {what}."

    @property
    def hint(self) -> str:
        return "timedatectl set-ntp true"


@attrs.define
class PortTaken(PalyraError):
    """Another process listens on the address already."""

    code = "port_taken"
    category = Category.PRECONDITION
    listener: str
    port: int
    by: str = ""
    pid: int = 0

    @property
    def sentence(self) -> str:
        whom = f" by {self.by}" if self.by else ""
        pid = f" (pid {self.pid})" if self.pid else ""
        return f"Port {self.port} is taken{whom}{pid}."

    @property
    def hint(self) -> str:
        stop = f", or stop it: kill {self.pid}" if self.pid else ""
        what = "endpoint" if self.listener == "console" else "address"
        return f"set another {self.listener} {what} in palyra.toml{stop}"


@attrs.define
class CannotBind(PalyraError):
    """An address cannot be listened on for a reason other than being taken."""

    code = "cannot_bind"
    category = Category.PRECONDITION
    listener: str
    address: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"Cannot listen on {self.address} for {self.listener}: {self.cause}."

    @property
    def hint(self) -> str:
        return f"set another {self.listener} address in palyra.toml"


def not_listening(listener: str, address: str, port: int, error: OSError | None) -> PalyraError:
    """Why an address cannot be listened on, as the operating system said it."""
    if error is not None and error.errno in (98, 48, 10048):  # EADDRINUSE: Linux, macOS, Windows
        return PortTaken(listener, port)
    cause = (error.strerror or str(error)) if error is not None else "it is not allowed"
    return CannotBind(listener, address, cause.lower())


@attrs.define
class WrongReactor(PalyraError):
    """Another reactor than Twisted's asyncio reactor was chosen, and gRPC cannot run on it."""

    code = "wrong_reactor"
    category = Category.PRECONDITION
    reactor: str

    @property
    def sentence(self) -> str:
        return f"Palyra runs on Twisted's asyncio reactor, not on {self.reactor}."

    @property
    def hint(self) -> str:
        return "leave --reactor out"


@attrs.define
class StateRootLocked(PalyraError):
    """Another process of ours uses this state root."""

    code = "state_root_locked"
    category = Category.CONFLICT
    state_root: str
    pid: int
    who: str = "A gateway"
    stopping: str = ""
    """What stops it, where that is not a signal."""

    @property
    def sentence(self) -> str:
        pid = f" (pid {self.pid})" if self.pid else ""
        return f"{self.who}{pid} already uses state root {self.state_root}."

    @property
    def hint(self) -> str:
        command = self.stopping or (f"kill {self.pid}" if self.pid else "")
        stop = f"stop it with {command}, or " if command else ""
        return f"{stop}use --state-root DIR"


@attrs.define
class SocketPermission(PalyraError):
    """``console.sock``, or another socket, belongs to somebody else; ``ask`` uses it."""

    code = "socket_permission"
    category = Category.FORBIDDEN
    owner: str
    you: str
    socket: str = "console.sock"
    ask: str = "palyra nodes list"

    @property
    def sentence(self) -> str:
        return f"{self.socket} belongs to user {self.owner}; you are {self.you}."

    @property
    def hint(self) -> str:
        return f"sudo -u {self.owner} {self.ask}"


@attrs.define
class StateOfAnother(PalyraError):
    """A file or directory of a state root belongs to another user of this machine."""

    code = "state_of_another"
    category = Category.FORBIDDEN
    path: str
    owner: str
    you: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.path} belongs to {self.owner}; you are {self.you}."

    @property
    def hint(self) -> str:
        return self.remedy or f"sudo -u {self.owner} palyra node status"


@attrs.define
class SocketPathTooLong(PalyraError):
    """A UNIX socket path is limited to 107 bytes by the kernel (unix(7))."""

    code = "socket_path_too_long"
    category = Category.PRECONDITION
    path: str

    @property
    def sentence(self) -> str:
        return f"{self.path} is {len(self.path.encode())} bytes; a socket path has at most 107."

    @property
    def hint(self) -> str:
        return "use a shorter --state-root DIR"
