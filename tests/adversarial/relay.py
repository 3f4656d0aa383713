"""A man in the middle who terminates TLS with a CA of his own and speaks to the gateway himself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography import x509

from palyra.wire.service import add_NodeServiceServicer_to_server
from tests.adversarial.detour import HOST
from tests.adversarial.device import Device
from tests.adversarial.forging import SERVER, fresh_key, pem_of, strange_root
from tests.adversarial.house import Gateway
from tests.adversarial.wire import (
    CALL_S,
    TLS_NAME,
    NodeServiceServicer,
    grpc,
    key_pem,
    messages,
)

Opened = messages.BeginPairingSessionResponse
Completed = messages.CompletePairingSessionResponse
Forward = Callable[[Any], Any]


class ManInTheMiddle(NodeServiceServicer):
    """Carries pairing calls on, unless a test makes him do something else with them.

    ``on_begin`` and ``on_complete`` take the message and the call that would carry it on.
    ``heard`` is all he saw of the device.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.address = ""
        self.root = strange_root(_common_name(gateway))
        self.himself = Device(gateway)
        self.heard: list[Any] = []
        self.told: list[Any] = []
        self.on_begin: Callable[[Any, Forward], Opened] = lambda message, forward: forward(message)
        self.on_complete: Callable[[Any, Forward], Completed] = lambda message, forward: forward(
            message
        )

    def BeginPairingSession(self, request: Any, context: Any) -> Any:
        return self._carry("BeginPairingSession", request, context, self.on_begin)

    def CompletePairingSession(self, request: Any, context: Any) -> Any:
        return self._carry("CompletePairingSession", request, context, self.on_complete)

    def GetPairingRequestStatus(self, request: Any, context: Any) -> Any:
        return self._carry(
            "GetPairingRequestStatus", request, context, lambda message, forward: forward(message)
        )

    def _carry(
        self, name: str, request: Any, context: Any, act: Callable[[Any, Forward], Any]
    ) -> Any:
        self.heard.append(request)

        def forward(message: Any) -> Any:
            with self.himself.enrolment() as stub:
                return getattr(stub, name)(message, timeout=CALL_S)

        try:
            answer = act(request, forward)
        except grpc.RpcError as error:
            context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
            context.abort(error.code(), error.details())
        self.told.append(answer)
        return answer


@contextlib.contextmanager
def standing_between(
    gateway: Gateway, shown: x509.Certificate | None = None
) -> Iterator[ManInTheMiddle]:
    """The man, at work; ``address`` is where he waits for devices.

    He shows ``shown`` as his root, where that is given.
    """
    man = ManInTheMiddle(gateway)
    key = fresh_key()
    leaf = man.root.issue(
        key.public_key(), "gateway", "g1", usage=SERVER, dns=(TLS_NAME, "localhost")
    )
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
        add_NodeServiceServicer_to_server(man, server)
        pair = (key_pem(key), pem_of(leaf) + pem_of(shown or man.root.certificate))
        port = server.add_secure_port(f"{HOST}:0", grpc.ssl_server_credentials([pair]))
        man.address = f"{HOST}:{port}"
        server.start()
        try:
            yield man
        finally:
            server.stop(0).wait()


def deceived(man: ManInTheMiddle, name: str = "victim") -> Device:
    """A device that reached the man and believes that his CA is the gateway's."""
    device = Device(man.gateway, name, way=man.address)
    device.ca_der = man.root.der
    return device


def _common_name(gateway: Gateway) -> str:
    """The CA's own name, which costs nothing to bear."""
    subject = x509.load_der_x509_certificate(gateway.ca_der).subject
    (name,) = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)
