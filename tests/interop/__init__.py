"""The gateway's QUIC listener, and a client that shares no code with it."""
