"""The pairing options that ``palyra node run`` and ``install`` share, and what they ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from palyra.cli.options import TRANSPORT
from palyra.config.addresses import HostPort, listed
from palyra.core.pin import PinCode
from palyra.core.transports import Preference
from palyra.errors import InsecureCodeArgument, Malformed

if TYPE_CHECKING:
    from palyra.node.pairingrun import NodeRunOptions

ENROLMENT_PORT = 7443
F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--gateway",
        metavar="HOST[:PORT]",
        help="Pair with this gateway by the PIN that it shows "
        f"(port {ENROLMENT_PORT} if left out).",
    ),
    click.option(
        "--pairing-code-stdin",
        is_flag=True,
        help="Read the PIN from stdin, instead of asking for it.",
    ),
    click.option(
        "--pairing-code",
        metavar="PIN",
        help="The PIN itself; only with --allow-insecure-pairing-code-arg.",
    ),
    click.option(
        "--pairing-uri",
        metavar="-|@FILE",
        help="The pairing line: - asks for it or reads stdin, @FILE reads a file.",
    ),
    click.option(
        "--allow-insecure-pairing-code-arg",
        is_flag=True,
        help="Allow the pairing line itself, or the PIN, as an argument.",
    ),
    click.option("--name", help="Name of this device (default: the host name)."),
    click.option("--device-id", metavar="ULID", help="Pair under this id."),
    click.option(
        "--grpc-url",
        metavar="HOST:PORT",
        multiple=True,
        help="Where the gateway serves nodes; again for each further one, in the order of trying.",
    ),
    click.option(
        "--transport",
        type=TRANSPORT,
        help="How to reach the gateway, for this run (default: as it was paired, else [node] "
        "transport, else auto). Given while it pairs, it is kept: pair again without it, or empty "
        "transport in node-host.json, to undo that.",
    ),
    click.option(
        "--gateway-ca-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="The gateway's CA certificate, got another way.",
    ),
)


def pairing_options(command: F) -> F:
    """Give a command those options; it gets them as keywords, for :class:`Asked`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@attrs.frozen(kw_only=True)
class Asked:
    """What those options said.  Nothing was read or asked for yet.

    :raises InsecureCodeArgument, click.UsageError: they cannot be used together.
    """

    gateway: str | None
    pairing_code_stdin: bool
    pairing_code: str | None = attrs.field(repr=False)
    pairing_uri: str | None = attrs.field(repr=False)
    allow_insecure_pairing_code_arg: bool
    name: str | None
    device_id: str | None
    grpc_url: tuple[str, ...]
    transport: str | None
    gateway_ca_file: Path | None

    def __attrs_post_init__(self) -> None:
        given, allowed = self.pairing_code is not None, self.allow_insecure_pairing_code_arg
        if not allowed and (given or _is_line(self.pairing_uri)):
            context = click.get_current_context(silent=True)
            command = context.command_path if context is not None else "palyra node run"
            raise InsecureCodeArgument(pin=given, command=command)
        if self.gateway is not None and self.pairing_uri is not None:
            problem = "--gateway pairs by PIN, --pairing-uri by a line; give one of them"
            raise click.UsageError(problem)
        if self.gateway is None and (self.pairing_code_stdin or self.pairing_code is not None):
            raise click.UsageError("a PIN goes with --gateway")
        if self.pairing_code_stdin and self.pairing_code is not None:
            raise click.UsageError("give the PIN once")

    @property
    def pairs(self) -> bool:
        """Whether they name a gateway to be paired with."""
        return self.gateway is not None or self.pairing_uri is not None

    def options(self, state_root: Path) -> NodeRunOptions:
        """All of it, once the line or the PIN has been read, or asked for.

        :raises PalyraError, click.UsageError: it is none, or nobody can be asked.
        """
        address = self._address()  # before anybody types a PIN
        line = pairing_line(self.pairing_uri, allow_insecure=self.allow_insecure_pairing_code_arg)
        given, on_stdin = self.pairing_code, self.pairing_code_stdin
        from palyra.node.foreground import NodeRunOptions

        return NodeRunOptions(
            state_root=state_root,
            pairing_uri=line,
            gateway=address,
            pin=None if address is None else _pin(given, on_stdin),
            pin_typed=address is not None and given is None and not on_stdin,
            name=self.name,
            device_id=self.device_id,
            grpc_url=self.grpc_url,
            transport=None if self.transport is None else Preference(self.transport),
            ca_file=self.gateway_ca_file,
        )

    def _address(self) -> HostPort | None:
        try:
            listed(self.grpc_url, "--grpc-url")
            if self.gateway is None:
                return None
            return HostPort.parse(self.gateway, "--gateway", ENROLMENT_PORT)
        except Malformed as error:
            raise click.UsageError(error.sentence.removesuffix(".")) from error


def _pin(given: str | None, on_stdin: bool) -> PinCode:
    """The PIN for the first try: the argument, from stdin, or of a person.

    :raises Malformed: it is no PIN, and no person can be asked again.
    """
    if given is not None:
        return PinCode.parse(given)
    if on_stdin:
        return PinCode.parse(sys.stdin.readline())
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked for the PIN here; give --pairing-code-stdin")
    while True:
        try:
            return PinCode.parse(_hidden("PIN shown by the gateway"))
        except Malformed as error:
            click.echo(f"!!  {error.sentence}", err=True)


def _is_line(given: str | None) -> bool:
    """Whether an option has the line itself, and does not say where it is."""
    return given is not None and given != "-" and not given.startswith("@")


def pairing_line(given: str | None, *, allow_insecure: bool) -> str | None:
    """The pairing line that an option names, without blanks around it; None where none is given.

    :raises InsecureCodeArgument: for the line itself as an argument, unless that is allowed.
    """
    if given is None:
        return None
    if _is_line(given):
        if not allow_insecure:
            raise InsecureCodeArgument()
        line = given
    else:
        line = _asked() if given == "-" else _from_file(Path(given[1:]))
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
        cause = getattr(error, "strerror", None) or str(error)
        raise click.UsageError(f"--pairing-uri: {path} cannot be read ({cause.lower()})") from error
