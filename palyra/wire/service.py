"""The gRPC service as code: its stub, its servicer, and how a servicer is added to a server."""

from palyra.wire.v1 import node_pb2
from palyra.wire.v1.node_pb2_grpc import (
    NodeServiceServicer,
    NodeServiceStub,
    add_NodeServiceServicer_to_server,
)

messages = node_pb2

__all__ = [
    "NodeServiceServicer",
    "NodeServiceStub",
    "add_NodeServiceServicer_to_server",
    "messages",
]
