"""``palyra node``: the node host on this device."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.errors import InsecureCodeArgument, Malformed


@click.group(cls=VerbGroup)
def node() -> None:
    """Run the node host on this device."""


@node.command()
@click.option(
    "--pairing-uri",
    metavar="-|@FILE",
    help="The pairing line: - asks for it or reads stdin, @FILE reads a file.",
)
@click.option(
    "--allow-insecure-pairing-code-arg",
    is_flag=True,
    help="Allow the pairing line itself as the argument of --pairing-uri.",
)
@click.option("--name", help="Name of this device (default: the host name).")
@click.option("--device-id", metavar="ULID", help="Pair under this id.")
@click.option("--grpc-url", metavar="HOST:PORT", help="Where the gateway serves nodes.")
@click.option(
    "--transport",
    type=click.Choice(["grpc", "auto"]),
    default="auto",
    show_default=True,
    help="How to reach the gateway.",
)
@click.option(
    "--gateway-ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The gateway's CA certificate, got another way; must be the pairing line's.",
)
@pass_call
def run(
    call: Call,
    pairing_uri: str | None,
    allow_insecure_pairing_code_arg: bool,
    name: str | None,
    device_id: str | None,
    grpc_url: str | None,
    transport: str,
    gateway_ca_file: Path | None,
) -> int:
    """Run the node host until Ctrl-C; pair it first where a pairing line is given."""
    line = pairing_line(pairing_uri, allow_insecure=allow_insecure_pairing_code_arg)
    from palyra.node.foreground import NodeRunOptions
    from palyra.node.foreground import run as run_node

    return run_node(
        NodeRunOptions(
            state_root=call.state_root,
            pairing_uri=line,
            name=name,
            device_id=device_id,
            grpc_url=grpc_url,
            transport=transport,
            ca_file=gateway_ca_file,
        )
    )


def pairing_line(given: str | None, *, allow_insecure: bool) -> str | None:
    """The pairing line that an option names, without blanks around it; None where none is given.

    :raises InsecureCodeArgument: for the line itself as an argument, unless that is allowed.
    """
    if given is None:
        return None
    if given == "-":
        line = _asked()
    elif given.startswith("@"):
        line = _from_file(Path(given[1:]))
    elif allow_insecure:
        line = given
    else:
        raise InsecureCodeArgument()
    if not line.strip():
        raise Malformed("pairing line", "is empty")
    return line.strip()


def _asked() -> str:
    """From a person, without echo, or the first line of stdin."""
    if sys.stdin.isatty():
        answer: str = click.prompt("Pairing line", hide_input=True, prompt_suffix=":", err=True)
        return answer
    return sys.stdin.readline()


def _from_file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--pairing-uri: {path} cannot be read ({error})") from error
