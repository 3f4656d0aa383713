"""``palyra node``: the node host on this device."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from palyra.cli import nodecontrol
from palyra.cli.options import TRANSPORT, Call, VerbGroup, pass_call
from palyra.config.addresses import HostPort
from palyra.core.pin import PinCode
from palyra.core.transports import Preference
from palyra.errors import InsecureCodeArgument, Malformed

ENROLMENT_PORT = 7443


@click.group(cls=VerbGroup)
def node() -> None:
    """Run the node host on this device; say what may run there."""


@node.command()
@click.option(
    "--gateway",
    metavar="HOST[:PORT]",
    help=f"Pair with this gateway by the PIN that it shows (port {ENROLMENT_PORT} if left out).",
)
@click.option(
    "--pairing-code-stdin", is_flag=True, help="Read the PIN from stdin, instead of asking for it."
)
@click.option(
    "--pairing-code",
    metavar="PIN",
    help="The PIN itself; only with --allow-insecure-pairing-code-arg.",
)
@click.option(
    "--pairing-uri",
    metavar="-|@FILE",
    help="The pairing line: - asks for it or reads stdin, @FILE reads a file.",
)
@click.option(
    "--allow-insecure-pairing-code-arg",
    is_flag=True,
    help="Allow the pairing line itself, or the PIN, as an argument.",
)
@click.option("--name", help="Name of this device (default: the host name).")
@click.option("--device-id", metavar="ULID", help="Pair under this id.")
@click.option("--grpc-url", metavar="HOST:PORT", help="Where the gateway serves nodes.")
@click.option(
    "--transport",
    type=TRANSPORT,
    help="How to reach the gateway, for this run (default: as it was paired, else [node] "
    "transport, else auto). Given while it pairs, it is kept: pair again without it, or empty "
    "transport in node-host.json, to undo that.",
)
@click.option(
    "--gateway-ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The gateway's CA certificate, got another way.",
)
@pass_call
def run(
    call: Call,
    gateway: str | None,
    pairing_code_stdin: bool,
    pairing_code: str | None,
    pairing_uri: str | None,
    allow_insecure_pairing_code_arg: bool,
    name: str | None,
    device_id: str | None,
    grpc_url: str | None,
    transport: str | None,
    gateway_ca_file: Path | None,
) -> int:
    """Run the node host until Ctrl-C, and pair it first if told to.

    It is paired where a gateway or a pairing line is given.
    """
    insecure = allow_insecure_pairing_code_arg
    if pairing_code is not None and not insecure:
        raise InsecureCodeArgument(pin=True)
    _check_together(gateway, pairing_uri, pairing_code_stdin, pairing_code)
    address = None
    if gateway is not None:
        address = HostPort.parse(gateway, "--gateway", ENROLMENT_PORT)
    line = pairing_line(pairing_uri, allow_insecure=insecure)
    from palyra.node.foreground import NodeRunOptions
    from palyra.node.foreground import run as run_node

    return run_node(
        NodeRunOptions(
            state_root=call.state_root,
            pairing_uri=line,
            gateway=address,
            pin=None if address is None else _pin(pairing_code, pairing_code_stdin),
            pin_typed=address is not None and pairing_code is None and not pairing_code_stdin,
            name=name,
            device_id=device_id,
            grpc_url=grpc_url,
            transport=None if transport is None else Preference(transport),
            ca_file=gateway_ca_file,
        )
    )


for _verb in nodecontrol.VERBS:
    node.add_command(_verb)


def _check_together(
    gateway: str | None, pairing_uri: str | None, pin_on_stdin: bool, pin: str | None
) -> None:
    if gateway is not None and pairing_uri is not None:
        raise click.UsageError("--gateway pairs by PIN, --pairing-uri by a line; give one of them")
    if gateway is None and (pin_on_stdin or pin is not None):
        raise click.UsageError("a PIN goes with --gateway")
    if pin_on_stdin and pin is not None:
        raise click.UsageError("give the PIN once")


def _pin(given: str | None, on_stdin: bool) -> PinCode:
    """The PIN for the first try: the argument, from stdin, or of a person.

    :raises Malformed: it is no PIN, and no person can be asked again.
    """
    if given is not None:
        return PinCode.parse(given)
    if on_stdin:
        return PinCode.parse(sys.stdin.readline())
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked for the PIN here; give --pairing-code-stdin")
    while True:
        try:
            return PinCode.parse(_hidden("PIN shown by the gateway"))
        except Malformed as error:
            click.echo(error.sentence, err=True)


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
        return _hidden("Pairing line")
    return sys.stdin.readline()


def _hidden(prompt: str) -> str:
    """What a person types, without echo."""
    answer: str = click.prompt(prompt, hide_input=True, prompt_suffix=":", err=True)
    return answer


def _from_file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--pairing-uri: {path} cannot be read ({error})") from error
