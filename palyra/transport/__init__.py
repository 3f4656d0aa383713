"""Carriers: TLS, gRPC, and the one place where Deferreds and futures meet."""

import os

# Read when grpc is imported, which only modules of this room do: refused handshakes are ours to
# log, and capabilities spawn children.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
