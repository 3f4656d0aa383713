"""``palyra context``: which gateway from afar the commands ask."""

from __future__ import annotations

import hmac
from pathlib import Path

import click
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from palyra.afar.contexts import Context, Contexts, address_of, checked_url
from palyra.afar.remote import fetch_chain
from palyra.cli import completion, words
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.cli.present import Screen
from palyra.cli.tables import Column, cell
from palyra.core.identifiers import grouped, sha256_hex
from palyra.errors import Malformed
from palyra.pki.certificates import read_certificate, read_root

_COLUMNS = (Column("NAME", cut="middle"), Column("GATEWAY"), Column("OPERATOR"), Column("IN USE"))


class Listed(msgspec.Struct, frozen=True):
    """A context as ``--json`` shows it."""

    name: str
    url: str
    operator: str
    operator_id: str
    in_use: bool


class Listing(msgspec.Struct, frozen=True):
    """``palyra context list --json``."""

    contexts: list[Listed]


@click.group(cls=VerbGroup)
def context() -> None:
    """Choose which gateway from afar the commands ask."""


@context.command()
@click.argument("name", metavar="NAME")
@click.option("--url", required=True, help="Its console, as https://HOST:7142.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Its CA certificate (PEM).",
)
@click.option("--pin", metavar="SHA256", help="The fingerprint of its CA certificate (hex).")
@click.option(
    "--identity",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Key and certificate of the operator (PEM, unencrypted).",
)
@pass_call
def add(
    call: Call, name: str, url: str, ca_file: Path | None, pin: str | None, identity: Path
) -> None:
    """Add a gateway with a certificate that you have; palyra operators accept does it by itself."""
    if (ca_file is None) == (pin is None):
        raise click.UsageError("give --ca-file or --pin, one of them")
    address = checked_url(url)
    pair = identity.read_bytes()
    operator_id = _operator_of(pair)
    ca_pem = ca_file.read_bytes() if ca_file is not None else _pinned(address, pin or "")
    made = Context(name, address, operator_id=operator_id, own_roots=ca_file is not None)
    Contexts.of_user().add(made, ca_pem, pair)
    _tell(call.screen, "added", made)


@context.command()
@click.argument("name", metavar="NAME", required=False, shell_complete=completion.contexts)
@click.option("--none", "nobody", is_flag=True, help="The gateway of this machine again.")
@pass_call
def use(call: Call, name: str | None, nobody: bool) -> None:
    """Ask this gateway from now on, where no state root is named and none runs here."""
    if (name is None) != nobody:
        raise click.UsageError("name a context, or give --none")
    contexts = Contexts.of_user()
    if name is None:
        contexts.use_none()
        if call.screen.as_json:
            return call.screen.json(b'{"name":null}')
        if not call.screen.tty:
            return call.screen.pair("context", "-")
        return call.screen.line("the gateway of this machine is in use")
    return _tell(call.screen, "in use", contexts.use(name))


@context.command("list")
@pass_call
def list_(call: Call) -> None:
    """List the gateways that this account knows from afar."""
    contexts = Contexts.of_user()
    current = contexts.current()
    found = [
        Listed(each.name, each.url, each.operator, each.operator_id, each == current)
        for each in contexts.all()
    ]
    if call.screen.as_json:
        return call.screen.json(msgspec.json.encode(Listing(found)))
    if call.screen.tty and not found:
        call.screen.aside("no contexts")
        return call.screen.hint("palyra operators accept -")
    rows = [
        [cell(each.name), cell(each.url), cell(each.operator), cell("yes" if each.in_use else "")]
        for each in found
    ]
    return call.screen.table(_COLUMNS, rows)


@context.command()
@click.argument("name", metavar="NAME", shell_complete=completion.contexts)
@pass_call
def remove(call: Call, name: str) -> None:
    """Forget a gateway, its key too; on the gateway the operator stays until they are revoked."""
    _tell(call.screen, "removed", Contexts.of_user().remove(name))


def _tell(screen: Screen, what: str, about: Context) -> None:
    if screen.as_json:
        return screen.json(msgspec.json.encode(about))
    if not screen.tty:
        screen.pair("context", about.name)
        return screen.pair("gateway", about.url)
    return screen.line(f"{words.escaped(about.name)} {what}: {words.escaped(about.url)}")


def _operator_of(pair: bytes) -> str:
    """The operator id in a file of key and certificate.

    :raises Malformed: the two are not there, or do not belong together.
    """
    try:
        key = load_pem_private_key(pair, None)
        certificate = x509.load_pem_x509_certificate(pair)
    except (ValueError, TypeError) as error:
        raise Malformed("identity", "must hold a key and its certificate, unencrypted") from error
    if key.public_key() != certificate.public_key():
        raise Malformed("identity", "its key and its certificate do not belong together")
    return read_certificate(certificate.public_bytes(Encoding.PEM)).subject.id


def _pinned(url: str, pin: str) -> bytes:
    """The CA certificate that the console shows, which has the fingerprint.

    :raises Malformed: it has another one.
    """
    wanted = pin.replace(" ", "").replace(":", "").lower()
    shown = fetch_chain(address_of(url))
    found = sha256_hex(shown[-1]) if shown else ""
    if not hmac.compare_digest(found, wanted):
        raise Malformed("pin", f"is not that of the CA that {url} shows ({grouped(found, 64)})")
    return read_root(shown[-1]).public_bytes(Encoding.PEM)
