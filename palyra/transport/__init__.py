"""Carriers: TLS, gRPC, and the one place where Deferreds and futures meet."""
