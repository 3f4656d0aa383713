"""What ``palyra state`` says: what a backup holds, and what restoring it means."""

from __future__ import annotations

from pathlib import Path

import msgspec

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.present import Screen
from palyra.config import load
from palyra.console.models import Contract, StateAnswer
from palyra.store.archive import Manifest
from palyra.store.gathering import CONFIG, DATABASE, IDENTITY, STORE_KEY
from palyra.store.restore import Voided

LEFT_OUT = "node-host/, node-runtime.v1.json, sockets, locks, pid files, logs"


class Saved(msgspec.Struct, frozen=True):
    """``palyra state backup --json``."""

    contract: Contract
    file: str
    size: int
    gateway_id: str
    schema: str | None
    created_unix_ms: int
    files: list[str]


class Exported(msgspec.Struct, frozen=True):
    """``palyra state export FILE --json``."""

    contract: Contract
    file: str
    size: int


class Restored(msgspec.Struct, frozen=True):
    """``palyra state restore --json``: what is void, and what became of jobs."""

    contract: Contract
    state_root: str
    gateway_id: str
    created_unix_ms: int
    database: bool
    jobs_unknown: int
    jobs_queued: int
    codes_void: int
    requests_void: int


class Imported(msgspec.Struct, frozen=True):
    """``palyra state import --json``."""

    contract: Contract
    state_root: str
    gateway_id: str
    devices: int
    identity: bool


def saved(screen: Screen, file: Path, size: int, manifest: Manifest) -> None:
    """What a backup holds and what it leaves out."""
    names = [member.name for member in manifest.files]
    if screen.as_json:
        report = Saved(
            contract=Contract(),
            file=str(file),
            size=size,
            gateway_id=manifest.gateway_id,
            schema=manifest.schema,
            created_unix_ms=manifest.created_unix_ms,
            files=names,
        )
        return screen.json(msgspec.json.encode(report))
    identity = sum(name.startswith(f"{IDENTITY}/") for name in names)
    plain = [name for name in names if name == CONFIG]
    database = [f"database (schema {manifest.schema})"] if DATABASE in names else []
    held = [*database, f"{IDENTITY}/ ({words.counted(identity, 'file')})", *plain]
    key = "store key under the passphrase"
    missing = LEFT_OUT if database else f"the database, {LEFT_OUT}"
    found = [
        Fact("saved", f"{words.escaped(str(file))}  {words.size(size)}", str(file)),
        Fact("holds", ", ".join(held) + f",\n{key}", ", ".join([*held, key])),
        Fact.same("without", missing),
    ]
    facts.show(screen, found)
    if not database:
        screen.aside("note  the database is saved by pg_dump")
    screen.hint("palyra state restore FILE --state-root DIR  (an empty one)")
    return None


def exported(screen: Screen, file: Path, size: int) -> None:
    """Where the document is now; only ``--json`` has something to put on stdout."""
    if screen.as_json:
        return screen.json(msgspec.json.encode(Exported(Contract(), str(file), size)))
    return screen.aside(f"exported  {words.escaped(str(file))}  {words.size(size)}")


def document(screen: Screen, text: bytes) -> None:
    """The document itself on stdout, as it is, or on one line with ``--json``."""
    if screen.as_json:
        return screen.json(text)
    screen.out.write(text.decode())
    return None


def restored(screen: Screen, root: Path, manifest: Manifest, voided: Voided) -> None:
    """What was restored, what is void, and what to do before devices are served."""
    database = manifest.schema is not None
    if screen.as_json:
        report = Restored(
            contract=Contract(),
            state_root=str(root),
            gateway_id=manifest.gateway_id,
            created_unix_ms=manifest.created_unix_ms,
            database=database,
            jobs_unknown=voided.unknown,
            jobs_queued=voided.queued,
            codes_void=voided.codes,
            requests_void=voided.requests,
        )
        return screen.json(msgspec.json.encode(report))
    at_ms = manifest.created_unix_ms
    found = [
        Fact("restored", words.escaped(str(root)), str(root)),
        Fact("state of", words.whole_time(at_ms), words.utc(at_ms)),
    ]
    if database:
        codes = words.counted(voided.codes, "code")
        requests = words.counted(voided.requests, "pairing request")
        found += [
            Fact.same("jobs", f"{voided.unknown} outcome unknown, {voided.queued} queued"),
            Fact.same("void", f"{codes}, {requests}"),
        ]
    facts.show(screen, found)
    _advise(screen, root, database, voided)
    return None


def _advise(screen: Screen, root: Path, database: bool, voided: Voided) -> None:
    """What a person should know before the first start."""
    screen.aside("note  did a CA rotation switch the listeners after this was saved?  Then devices")
    screen.aside("      do not trust its CA: restore a newer backup, or pair them again")
    if voided.queued:
        screen.aside("note  these jobs begin when it serves: palyra jobs list --state queued")
    if not database:
        screen.aside(
            "note  pg_restore the database, then revoke or remove again what was revoked, removed "
            "or paired with another key since"
        )
    named = load(root / CONFIG).gateway.store_key_file
    if named and not Path(named).exists():
        screen.aside(
            f"note  the store key is in {root / IDENTITY / STORE_KEY}, but palyra.toml names "
            f"{words.escaped(named)}: put it there, or take gateway.store_key_file out"
        )
    screen.hint("twistd -n palyra, then: palyra state confirm")


def imported(screen: Screen, report: Imported) -> None:
    """What the next start will know."""
    if screen.as_json:
        return screen.json(msgspec.json.encode(report))
    found = [
        Fact.same("imported", words.escaped(report.state_root)),
        Fact.same("devices", str(report.devices)),
    ]
    facts.show(screen, found)
    if not report.identity:
        screen.aside("note  no identity/ here: the CA will be new, and every device pairs again")
    screen.hint("twistd -n palyra, then: palyra state confirm")
    return None


def serving(screen: Screen, answer: StateAnswer) -> None:
    """Whether devices are served."""
    since_ms = answer.unconfirmed_since_unix_ms
    found = [Fact.same("serving", "yes" if answer.serving else "no")]
    if since_ms is not None:
        shown = f"!! restored, of {words.when(since_ms, screen.now())}, not confirmed"
        found.append(Fact("state", shown, words.utc(since_ms)))
    facts.show(screen, found)
    if since_ms is not None:
        screen.hint("palyra state confirm")
