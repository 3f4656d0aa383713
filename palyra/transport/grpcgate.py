"""What every gRPC call passes on its way in and out: who calls, and how a refusal ends it."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from palyra.core.identifiers import parse_ulid
from palyra.errors import CertificateRefused, PalyraError
from palyra.transport.interfaces import INodeDesk, Peer
from palyra.transport.statuses import status_of

TRANSPORT = "grpc"
LAST_WRITE_S = 0.8
"""How long a message that is being written may take when its stream ends (within a second)."""
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


async def answered(context: Context, asked: Awaitable[T]) -> T:
    """Await a desk, and end the call with the status of its refusal."""
    try:
        return await asked
    except PalyraError as error:
        await abort(context, error)
        raise AssertionError("abort raises") from error


async def abort(context: Context, error: PalyraError) -> None:
    """End the call with the status of a refusal; raises what gRPC wants raised."""
    status, details, metadata = status_of(error)
    await context.abort(status, details, metadata)


def admit(desk: INodeDesk, context: Context, claimed: str | None) -> Peer:
    """The trust gate: who calls, and that they speak for the device ``claimed``, if any."""
    if claimed is not None:
        parse_ulid(claimed, "device_id")
    certificates = context.auth_context().get("x509_pem_cert")
    if not certificates:
        raise CertificateRefused("no_certificate")
    return desk.admit(next(iter(certificates)), claimed, address(context), TRANSPORT)


def address(context: Context) -> str:
    """The peer's IP address."""
    return _address_of(context.peer())


@functools.lru_cache(maxsize=4096)
def _address_of(peer: str) -> str:
    """The IP address in ``ipv4:1.2.3.4:5`` or ``ipv6:%5B::1%5D:5``."""
    family, _, rest = urllib.parse.unquote(peer).partition(":")
    if family == "ipv6":
        return rest.partition("]")[0].removeprefix("[")
    return rest.rpartition(":")[0]
