"""``palyra mcp``: paired nodes as tools of AI clients."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import click

from palyra.afar.contexts import Context, Contexts
from palyra.cli import completion
from palyra.cli.options import GATEWAY_URL
from palyra.cli.where import given
from palyra.config.addresses import HostPort
from palyra.errors import Malformed, McpContextMissing, McpMissing

LOOPBACK = "127.0.0.1"


def _address(value: str) -> HostPort:
    """``PORT`` or ``HOST:PORT``; port 0 is any that is free."""
    host, _, port = value.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not [HOST:]PORT")
    return HostPort(host.strip("[]") or LOOPBACK, int(port))


@click.command()
@click.option(
    "--context",
    "name",
    metavar="NAME",
    default="",
    shell_complete=completion.contexts,
    help="The gateway, by the name of its context; the operator is that of the context.",
)
@click.option("--gateway-url", metavar="URL", default="", help="The gateway, by its address.")
@click.option(
    "--http",
    "address",
    type=_address,
    metavar="[HOST:]PORT",
    help="Serve streamable HTTP on loopback (default: stdio).",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The bearer token of HTTP; made where it is missing (default: beside the context).",
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="HOST:PORT", help="Another Host header."
)
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="An Origin of pages."
)
@click.option(
    "--tools-where",
    "where",
    type=given,
    default=None,
    metavar="EXPR",
    help="Show the capabilities of these devices only; it is no permission.",
)
def mcp(
    name: str,
    gateway_url: str,
    address: HostPort | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    where: str | None,
) -> None:
    """Serve paired nodes to AI clients over the Model Context Protocol.

    It has the rights of the context's operator, who must neither decide nor administer: give AI
    clients an operator of their own. Over stdio the client starts this command itself.

    A client that runs as the gateway's own account is confined by nothing of this: it can be an
    admin there.
    """
    if address is None and (token_file or hosts or origins):
        raise click.UsageError("--token-file, --allow-host and --allow-origin are of --http")
    if find_spec("mcp") is None:
        raise McpMissing()
    contexts = Contexts.of_user()
    context = _meant(contexts, name, gateway_url)
    from palyra.mcp import serving

    settings = serving.Settings(
        http=address, token_file=token_file, hosts=hosts, origins=origins, where=where or ""
    )
    try:
        serving.run(context, contexts, settings)
    except OSError as error:
        raise Malformed("http", error.strerror or str(error)) from error


def _meant(contexts: Contexts, name: str, url: str) -> Context:
    """The context that was named, else that of PALYRA_GATEWAY_URL, else the one in use.

    Never a state root: over its socket everybody is an admin.

    :raises ContextUnknown, McpContextMissing: there is none.
    """
    if name:
        return contexts.get(name)
    url = url or os.environ.get(GATEWAY_URL, "")
    found = contexts.by_url(url) if url else contexts.current()
    if found is None:
        raise McpContextMissing()
    return found
