"""``palyra state``: backups of a gateway's state, and its readable document."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from palyra import __version__
from palyra._files import write_atomic
from palyra.cli import passphrase, statelines, words
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.config import Config, load
from palyra.console.models import ConfirmState, Contract, StateAnswer
from palyra.errors import DatabaseElsewhere, NoGatewayState, SealedEntryUnreadable
from palyra.store.archive import Archive, put_new, write_backup
from palyra.store.gathering import CONFIG, IDENTITY
from palyra.store.restore import (
    MAX_DOCUMENT,
    export_document,
    import_document,
    require_empty,
    restore_backup,
)

_ENDS = ("SIGTERM", "SIGHUP")
_old_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=VerbGroup)
def state() -> None:
    """Back up, restore, export and import the gateway's state."""


@state.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@passphrase.option
@click.option(
    "--without-database", is_flag=True, help="The record is in PostgreSQL; leave it to pg_dump."
)
@click.option(
    "--store-key-file",
    type=_old_file,
    metavar="FILE",
    help="The store key, where systemd hands it to the gateway as a credential.",
)
@pass_call
def backup(
    call: Call,
    file: Path,
    passphrase_file: Path | None,
    without_database: bool,
    store_key_file: Path | None,
) -> None:
    """Write everything the gateway cannot lose to FILE; it may run meanwhile."""
    root = call.state_root
    with _files(), _new(file), _cleaned_up():
        config = load(root / CONFIG)
        _require_choice(config, without_database)
        store_key = _store_key(root, config, store_key_file)
        typed = passphrase.asked(passphrase_file, new=True)
        with call.screen.working("backing up"):
            manifest = write_backup(
                root,
                file.absolute(),
                store_key=store_key,
                passphrase=typed,
                version=__version__,
                now_ms=_now_ms(),
                database=not without_database,
            )
        size = file.stat().st_size
    statelines.saved(call.screen, file, size, manifest)


@state.command()
@click.argument("file", type=_old_file)
@passphrase.option
@pass_call
def restore(call: Call, file: Path, passphrase_file: Path | None) -> None:
    """Make an empty state root what FILE was made of.  Devices wait for: palyra state confirm."""
    root = call.state_root
    with _files(), _cleaned_up(), Archive.open(file) as archive:
        require_empty(root)
        typed = passphrase.asked(passphrase_file, new=False)
        with call.screen.working("restoring"):
            store_key = archive.unlock(typed)
            archive.verify()
            voided = restore_backup(archive, root, store_key=store_key, now_ms=_now_ms())
        manifest = archive.manifest
    statelines.restored(call.screen, root, manifest, voided)


@state.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def confirm(call: Call, yes: bool) -> int:
    """Serve a restored state: who lost trust since it was saved has lost it here too."""
    screen, console = call.screen, call.console
    answer = console.get("state", StateAnswer)
    since_ms = answer.value.unconfirmed_since_unix_ms
    if since_ms is None:
        if screen.as_json:
            screen.json(answer.body)
        screen.aside("nothing to confirm: devices are served")
        return 0
    since = words.when(since_ms, screen.now())
    if screen.interactive and not yes:
        screen.aside("Jobs that waited begin then: palyra jobs list --state queued")
        screen.aside(f"Revoked, removed or paired with another key since {since}?  Then first:")
        screen.aside(
            "palyra nodes revoke NAME, or palyra nodes remove NAME where it may pair again"
        )
        if not screen.agreed("Serve now?"):
            screen.aside("not confirmed; no device is served")
            return 1
    answer = console.post("state/confirm", ConfirmState(), StateAnswer)
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        screen.parts(("confirmed", "green"), (f"  the state of {since}; devices are served", ""))
    else:
        screen.pair("confirmed", words.utc(since_ms))
    return 0


@state.command()
@pass_call
def show(call: Call) -> None:
    """Show whether the gateway serves devices, or waits for a confirmation."""
    answer = call.console.get("state", StateAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return statelines.serving(call.screen, answer.value)


@state.command("export")
@click.argument(
    "file", metavar="FILE|-", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@pass_call
def export(call: Call, file: Path) -> None:
    """Write node-runtime.v1.json, the readable document of devices and jobs, to FILE."""
    if str(file) == "-":
        with _files():
            document = export_document(call.state_root, now_ms=_now_ms())
        return statelines.document(call.screen, document)
    with _files(), _new(file):
        document = export_document(call.state_root, now_ms=_now_ms())
        with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".palyra-") as scratch:
            made = Path(scratch, "document")
            write_atomic(made, document)
            put_new(made, file.absolute())
    return statelines.exported(call.screen, file, len(document))


@state.command("import")
@click.argument("file", type=_old_file)
@pass_call
def import_(call: Call, file: Path) -> None:
    """Have the next start make a database of an exported FILE.

    Only where there is no database and never was one.
    """
    root = call.state_root
    config = load(root / CONFIG)
    if config.store.url:
        raise DatabaseElsewhere(_database_name(config), "pg_restore fills it")
    with _files():
        if file.stat().st_size > MAX_DOCUMENT:
            raise click.UsageError(f"{file} is over {words.size(MAX_DOCUMENT)}")
        found = import_document(file.read_bytes(), root, file=str(file), now_ms=_now_ms())
    identity = (root / IDENTITY).is_dir()
    report = statelines.Imported(
        Contract(), str(root), found.gateway_id, len(found.devices), identity
    )
    statelines.imported(call.screen, report)


def _require_choice(config: Config, without_database: bool) -> None:
    """The record of PostgreSQL is never left out silently, that of SQLite never at all."""
    if not config.store.url:
        if without_database:
            raise click.UsageError("--without-database is for a gateway on PostgreSQL")
        return
    if not without_database:
        then = "pg_dump, and with it: palyra state backup FILE --without-database"
        raise DatabaseElsewhere(_database_name(config), then)


def _database_name(config: Config) -> str:
    from palyra.store.postgres import database_name  # here: it takes its time to import

    return database_name(config.store.url)


def _store_key(root: Path, config: Config, named: Path | None) -> bytes:
    """The store key; only the one that the sealed files were sealed with."""
    from palyra.pki.sealing import Sealer
    from palyra.pki.storekey import load_store_key

    if not (root / IDENTITY).is_dir():
        raise NoGatewayState(str(root))
    configured = config.gateway.store_key_file
    key_file = named or (Path(configured) if configured else None)
    key = load_store_key(root / IDENTITY, store_key_file=key_file)
    sealer = Sealer(key, entropy=os.urandom)
    for file in sorted((root / IDENTITY).glob("*.sealed")):
        if not sealer.sealed(file.read_bytes()):
            raise SealedEntryUnreadable(
                f"{IDENTITY}/{file.name}", "it was sealed with another store key"
            )
    return key


@contextlib.contextmanager
def _files() -> Iterator[None]:
    """What the system refuses is told with the file it is about."""
    try:
        yield
    except OSError as error:
        raise click.FileError(str(error.filename or "file"), error.strerror) from error


@contextlib.contextmanager
def _new(file: Path) -> Iterator[None]:
    """Nothing is written over: a file that is there, or comes meanwhile, is a usage error."""
    taken = click.UsageError(f"{file} exists already")
    if file.exists():
        raise taken
    try:
        yield
    except FileExistsError as error:
        raise taken from error


@contextlib.contextmanager
def _cleaned_up() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, end the command as an exception does: nothing that was
    unpacked stays behind."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    found = [getattr(signal, name) for name in _ENDS if hasattr(signal, name)]
    ends = [number for number in found if signal.getsignal(number) is signal.SIG_DFL]  # nohup
    for number in ends:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)


def _now_ms() -> int:
    return int(time.time() * 1000)
