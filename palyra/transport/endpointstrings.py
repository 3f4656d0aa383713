"""``palyra:PORT`` as a Twisted endpoint: TLS with the certificate of a gateway's state root.

``palyra:7142:interface=127.0.0.1:stateroot=/srv/palyra`` is for any Twisted server, as in
``twistd web --listen palyra:8443``; ``certificate=`` and ``privateKey=`` name files of one's own
instead.  A client may show a certificate of the gateway's CA
(``request.transport.getPeerCertificate()``); another one ends the handshake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from palyra.config import load
from palyra.config.endpoints import Place, place
from palyra.config.roots import default_state_root
from palyra.errors import not_listening
from palyra.pki.served import CertificateFiles, ServedIdentity
from palyra.transport.consoletls import (
    MAX_CONNECTIONS,
    Refused,
    ServerTls,
    TellingFactory,
    nobody_counts,
)
from palyra.transport.crowd import OfPeer, nobody

LISTENER = "console"


@implementer(IStreamServerEndpoint)
class PalyraEndpoint:
    """Listens with ``tls``.  Plain connections are for whom ``plain_allowed`` says."""

    def __init__(self, reactor: Any, where: Place, tls: ServerTls, plain_allowed: OfPeer) -> None:
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
        self,
        factory: IProtocolFactory,
        *,
        max_connections: int = MAX_CONNECTIONS,
        speaks_for_many: OfPeer = nobody,
        refused: Refused = nobody_counts,
    ) -> TellingFactory:
        """``factory`` behind TLS; the other arguments are those of :class:`TellingFactory`.

        :raises ValueError, OSError, OpenSSL.SSL.Error, PalyraError: what is to be served cannot be.
        """
        self._tls.load()
        return TellingFactory(
            factory,
            self._tls,
            reactor=self._reactor,
            plain_allowed=self._plain_allowed,
            max_connections=max_connections,
            speaks_for_many=speaks_for_many,
            refused=refused,
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
        self._files = None if where.own is None else CertificateFiles(*where.own)
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
