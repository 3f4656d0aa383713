"""Listeners on loopback under a running loop, and clients that speak to them as devices do."""

from __future__ import annotations

import random
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.config.addresses import HostPort
from palyra.core.identifiers import DeviceId
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport import grpclistener
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.grpclistener import MAX_NODE_MESSAGE, GrpcListener
from palyra.wire.service import NodeServiceStub
from tests.gateway.enrolling import wall_ms

LOOPBACK = HostPort("127.0.0.1", 0)
DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
AUTHORITY = Authority.create(
    trust_domain="palyra.test", now_ms=wall_ms() - DAY_MS, entropy=random.Random(3).randbytes
)
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def gateway_pair(gateway_id: str = "g1") -> tuple[bytes, bytes]:
    """Key and chain of a gateway, as the listeners serve them."""
    issued = AUTHORITY.issue_gateway(KEY.public_key(), gateway_id, [], wall_ms())
    return KEY_PEM, issued.pem + AUTHORITY.ca_pem


def device_pair(device_id: str = DEVICE, **changes: Any) -> tuple[bytes, bytes]:
    """Key and certificate of a device."""
    now_ms = changes.pop("now_ms", wall_ms())
    return KEY_PEM, AUTHORITY.issue_device(KEY.public_key(), device_id, now_ms, **changes).pem


async def serve(
    monkeypatch: pytest.MonkeyPatch, servicer: Any, *, mutual: bool, **changes: Any
) -> GrpcListener:
    """A listener that is bound; under a running loop its start cannot be run to the end at once."""
    given: dict[str, Any] = {
        "name": "test",
        "address": LOOPBACK,
        "servicer": servicer,
        "certificate": gateway_pair,
        "client_ca_pem": (lambda: AUTHORITY.ca_pem) if mutual else None,
        "max_message": MAX_NODE_MESSAGE,
        "max_connections": 64,
        **changes,
    }
    listener = GrpcListener(**given)
    starting: list[Any] = []
    monkeypatch.setattr(grpclistener, "run_now", starting.append)
    listener.bind()
    await as_deferred(starting[0])
    return listener


def channel(
    address: HostPort, identity: tuple[bytes, bytes] | None, root: bytes = AUTHORITY.ca_pem
) -> grpc.aio.Channel:
    """A channel as a device opens it; within a task."""
    key, chain = identity if identity is not None else (None, None)
    return grpc.aio.secure_channel(
        str(address),
        grpc.ssl_channel_credentials(root, key, chain),
        options=[
            ("grpc.ssl_target_name_override", "palyrad-node-rpc"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ],
    )


async def call(
    address: HostPort, method: str, request: Any, identity: tuple[bytes, bytes] | None = None
) -> Any:
    """One unary call on a channel of its own: the answer, or the error that ended it."""
    async with channel(address, identity) as opened:
        try:
            return await getattr(NodeServiceStub(opened), method)(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error
