"""``palyra:PORT`` as a Twisted endpoint: TLS with the certificate of a gateway's state root.

``palyra:7142:interface=127.0.0.1:stateroot=/srv/palyra`` is for any Twisted server, as in
``twistd web --listen palyra:8443``; ``certificate=`` and ``privateKey=`` name files of one's own
instead.  A client may show a certificate of the gateway's CA
(``request.transport.getPeerCertificate()``); another one ends the handshake.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from palyra.config import load
from palyra.config.addresses import HostPort
from palyra.config.roots import default_state_root
from palyra.errors import Malformed, not_listening
from palyra.pki.served import CertificateFiles, ServedIdentity
from palyra.transport.consoletls import MAX_CONNECTIONS, PlainAllowed, ServerTls, TellingFactory

PREFIX = "palyra"
LISTENER = "console"
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
    def files(self) -> CertificateFiles | None:
        """A certificate of one's own; None where none is named."""
        if not self.certificate:
            return None
        certificate, key = Path(self.certificate), Path(self.private_key)
        return CertificateFiles(certificate.expanduser(), key.expanduser())


def place(
    port: str,
    interface: str = "127.0.0.1",
    stateroot: str = "",
    certificate: str = "",
    privateKey: str = "",
    backlog: str = str(BACKLOG),
) -> Place:
    """The arguments of an endpoint string.

    :raises Malformed: one of them makes no sense.
    """
    if bool(certificate) != bool(privateKey):
        raise Malformed("console", "certificate= and privateKey= belong together")
    if not backlog.isascii() or not backlog.isdigit():
        raise Malformed("console", "backlog= must be a number")
    shown = f"[{interface}]:{port}" if ":" in interface else f"{interface or '0.0.0.0'}:{port}"
    address = HostPort.parse(shown, "console")
    return Place(address, stateroot, certificate, privateKey, int(backlog))


@implementer(IStreamServerEndpoint)
class PalyraEndpoint:
    """Listens with ``tls``.  Plain connections are for whom ``plain_allowed`` says."""

    def __init__(
        self, reactor: Any, where: Place, tls: ServerTls, plain_allowed: PlainAllowed
    ) -> None:
        self._reactor = reactor
        self.where = where
        self._tls = tls
        self._plain_allowed = plain_allowed

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Fires with the port once it is listened on, as IStreamServerEndpoint says."""
        return execute(self._listen, self.telling(protocolFactory))

    def bind(self, telling: TellingFactory) -> IListeningPort:
        """Listen now.

        :raises PortTaken, CannotBind: it is not possible.
        """
        try:
            return self._listen(telling)
        except CannotListenError as error:
            where = self.where.address
            cause = error.socketError
            raise not_listening(LISTENER, str(where), where.port, cause) from error

    def telling(
        self, factory: IProtocolFactory, *, max_connections: int = MAX_CONNECTIONS
    ) -> TellingFactory:
        """``factory`` behind TLS.

        :raises ValueError, OSError, OpenSSL.SSL.Error, PalyraError: what is to be served cannot be.
        """
        self._tls.load()
        return TellingFactory(
            factory,
            self._tls,
            reactor=self._reactor,
            plain_allowed=self._plain_allowed,
            max_connections=max_connections,
        )

    def _listen(self, telling: TellingFactory) -> IListeningPort:
        address = self.where.address
        port: IListeningPort = self._reactor.listenTCP(
            address.port, telling, self.where.backlog, address.host
        )
        return port


class _StateRoot:
    """What the gateway of a state root serves; nothing is looked at before it is asked for."""

    def __init__(self, where: Place) -> None:
        self._root = Path(where.state_root).expanduser() if where.state_root else None
        self._files = where.files
        self._found: ServedIdentity | None = None

    def certificate(self) -> tuple[bytes, bytes]:
        """Key and chain."""
        if self._files is not None:
            return self._files.served()
        served = self._identity().served()
        return served.key_pem, served.chain_pem

    def roots(self) -> bytes:
        """The CAs of the gateway, which issue the certificates of clients."""
        return self._identity().served().roots_pem

    def _identity(self) -> ServedIdentity:
        if self._found is None:
            root = self._root or default_state_root()
            named = load(root / "palyra.toml").gateway.store_key_file
            key_file = Path(named).expanduser() if named else None
            self._found = ServedIdentity(root / "identity", store_key_file=key_file)
        return self._found


def endpoint(reactor: Any, *args: str, **kwargs: str) -> PalyraEndpoint:
    """The endpoint that the arguments of ``palyra:`` say, for a server that is no gateway.

    It takes TLS alone, and reads the state root without touching it: the gateway that owns it may
    run.
    """
    where = place(*args, **kwargs)
    root = _StateRoot(where)
    return PalyraEndpoint(
        reactor, where, ServerTls(root.certificate, root.roots), lambda peer: False
    )


def read_place(text: str, field: str) -> Place:
    """What a Twisted endpoint string of ours says, read without looking for plugins.

    :raises Malformed: it is none; ``field`` is where it was given.
    """
    prefix, *parts = _PART.findall(text)
    if prefix != PREFIX:
        raise Malformed(field, "must begin with palyra:")
    named = [_NAMED.match(part) for part in parts]
    args = [_plain(part) for part, found in zip(parts, named, strict=True) if found is None]
    kwargs = {_plain(found[1]): _plain(found[2]) for found in named if found is not None}
    try:
        return place(*args, **kwargs)
    except TypeError as error:
        raise Malformed(
            field, f"must be palyra:PORT:interface=ADDRESS (got {text[:80]!r})"
        ) from error


def _plain(quoted: str) -> str:
    return _QUOTED.sub(r"\1", quoted)
