"""A client of a console that answers what it is told to, for as long as a block runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from palyra.mcp.gatewayclient import GatewayClient
from tests.cli.farconsole import FarConsole
from tests.mcp.things import kept


@contextlib.asynccontextmanager
async def asking(
    far: FarConsole, root: Path, *, timeout_s: float = 10.0
) -> AsyncIterator[GatewayClient]:
    """An operator who has a certificate of that gateway."""
    context, contexts = kept(far, root)
    client = GatewayClient(context, contexts, timeout_s=timeout_s)
    try:
        yield client
    finally:
        await client.aclose()
