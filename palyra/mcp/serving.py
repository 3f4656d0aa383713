"""The process: composed, served over stdio or HTTP, and ended."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import attrs
from mcp.server.stdio import stdio_server

from palyra.afar.contexts import MCP_TOKEN, Context, Contexts
from palyra.config.addresses import HostPort
from palyra.core.devices import clean_text
from palyra.mcp import http
from palyra.mcp.calls import Calls
from palyra.mcp.door import Allowed, Door
from palyra.mcp.gatewayclient import GatewayClient
from palyra.mcp.server import NodeServer
from palyra.mcp.shelf import Shelf
from palyra.mcp.token import token_of


@attrs.frozen(kw_only=True)
class Settings:
    """What ``palyra mcp`` was told.

    ``http`` is where it listens, None: stdio.  ``hosts`` and ``origins`` are let in besides those
    of loopback; ``where`` narrows the devices whose capabilities become tools.
    """

    http: HostPort | None = None
    token_file: Path | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    where: str = ""


def run(context: Context, contexts: Contexts, settings: Settings) -> None:
    """Serve until the client goes away (stdio) or the process is told to end (HTTP).

    :raises McpOperatorRefused: the operator decides or administers.
    :raises PalyraError: the gateway cannot be reached now, or something given cannot be used.
    """
    log_to_stderr()
    anyio.run(_serve, context, contexts, settings)


async def _serve(context: Context, contexts: Contexts, settings: Settings) -> None:
    if settings.http is None:
        async with _composed(context, contexts, settings) as server:
            await _over_stdio(server)
    else:
        token_file = settings.token_file or contexts.directory(context.name) / MCP_TOKEN
        token = token_of(token_file)
        with contextlib.closing(http.listening(settings.http)) as listener:
            at = http.bound(listener)
            allowed = Allowed.of(at, token, settings.hosts, settings.origins)
            async with _composed(context, contexts, settings) as server:
                await http.serve(
                    Door(http.app_of(server), allowed),
                    listener,
                    lambda: _tell(f"http://{at}{http.PATH}", token_file),
                )


def _tell(url: str, token_file: Path) -> None:
    """Where it is, and where the token is, which itself is told nowhere."""
    print(f"url\t{url}\ntoken\t{token_file}", file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def _composed(
    context: Context, contexts: Contexts, settings: Settings
) -> AsyncIterator[NodeServer]:
    """A server whose tools follow what is granted, for as long as the block runs."""
    gateway = GatewayClient(context, contexts)
    shelf = Shelf(gateway, where=settings.where)
    try:
        await shelf.load()
        server = NodeServer(gateway, shelf, Calls(gateway))
        async with anyio.create_task_group() as group:
            group.start_soon(shelf.watch)
            yield server
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await gateway.aclose()


async def _over_stdio(server: NodeServer) -> None:
    async with stdio_server() as (incoming, outgoing):
        options = server.protocol.create_initialization_options()
        await server.protocol.run(incoming, outgoing, options)


class _OneLine(logging.Formatter):
    """Nothing that a client or a device says begins a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(clean_text(line, 2_000) for line in super().format(record).splitlines())


def log_to_stderr() -> None:
    """Warnings go to stderr: over stdio, stdout carries frames and nothing else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
