"""What ``palyra doctor`` can find out without a gateway: files, modes, room, clock and ports."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from palyra.cli import console_checks, words
from palyra.config import Config, load
from palyra.config.addresses import HostPort
from palyra.console.models import Check
from palyra.errors import (
    RESTORE,
    ConfigInvalid,
    Malformed,
    StoreCorrupt,
    StoreMissing,
)

DATABASE = "palyra.sqlite3"
SNAPSHOT = "node-runtime.v1.json"
LOW_ON_SPACE = 256 * 1024 * 1024
OUT_OF_SPACE = 16 * 1024 * 1024
_HEADER = b"SQLite format 3\x00"
_UNCONFIRMED = "unconfirmed_since_ms"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def state_root(root: Path) -> Check:
    """Whether it exists, is closed to others, and has room."""
    where = str(root)
    if not root.is_dir():
        return Check("FAIL", "state root", f"{where} does not exist", where, "palyra quickstart")
    mode = stat.S_IMODE(root.stat().st_mode)
    if os.name == "posix" and mode & _OTHERS:
        finding = f"{where} may be entered by others (mode {mode:04o})"
        return Check("FAIL", "state root", finding, where, f"chmod 700 {where}")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        owner = _owner(root)
        return Check(
            "FAIL",
            "state root",
            f"{where} belongs to {owner}",
            where,
            f"sudo -u {owner} palyra doctor",
        )
    free = shutil.disk_usage(root).free
    finding = f"{where}, {mode:04o}, {words.size(free)} free"
    if free < LOW_ON_SPACE:
        verdict = "FAIL" if free < OUT_OF_SPACE else "warn"
        return Check(verdict, "state root", finding, where, f"make room on {where}")
    return Check("ok", "state root", finding, where)


def configuration(root: Path) -> tuple[Check, Config]:
    """Whether palyra.toml can be read, and what it says (the defaults where it cannot)."""
    file = root / "palyra.toml"
    try:
        config = load(file)
    except ConfigInvalid as error:
        problem = f"{error.path}: {error.problem}"
        return Check("FAIL", "config", problem, str(file), error.hint), Config()
    finding = "palyra.toml" if file.exists() else "no palyra.toml, all defaults"
    return Check("ok", "config", finding, str(file)), config


def database(root: Path, url: str = "", *, running: bool = False) -> Check:
    """Whether the record is there and begins as a database; a server's is the gateway's to ask.

    ``running``: a gateway answers, and tells itself whether its state waits for a confirmation.
    """
    if url:
        return _on_a_server(url, str(root / "palyra.toml"))
    file = root / DATABASE
    try:
        with file.open("rb") as opened:
            header = opened.read(len(_HEADER))
    except FileNotFoundError:
        return _no_database(root, file)
    except OSError as error:
        return Check(
            "FAIL", "database", f"{DATABASE}: {error.strerror}", str(file), f"ls -l {file}"
        )
    if header and header != _HEADER:
        return Check(
            "FAIL",
            "database",
            f"{DATABASE} is damaged: it is not a database",
            str(file),
            StoreCorrupt(str(file)).hint,
        )
    finding = f"{DATABASE}, {words.size(file.stat().st_size)}"
    since_ms = None if running else _unconfirmed_since(file)
    if since_ms is not None:
        finding += f", restored state of {words.whole_time(since_ms)}, not confirmed"
        return Check("warn", "database", finding, str(file), "palyra state confirm")
    return Check("ok", "database", finding, str(file))


def _unconfirmed_since(file: Path) -> int | None:
    """The age of a restored state that nobody has confirmed; None too where it cannot be read."""
    wal = file.with_name(file.name + "-wal")
    immutable = "" if wal.exists() else "&immutable=1"  # leaves no trace
    uri = f"file:{quote(str(file))}?mode=ro{immutable}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as raw:
            found = raw.execute("SELECT value FROM meta WHERE key = ?", (_UNCONFIRMED,)).fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else int(found[0])


def _on_a_server(url: str, file: str) -> Check:
    from palyra.store.postgres import database_name  # here: SQLAlchemy takes its time to import

    try:
        return Check("ok", "database", database_name(url), file)
    except Malformed as error:
        return Check(
            "FAIL", "database", error.sentence.rstrip("."), file, "correct it in palyra.toml"
        )


def _no_database(root: Path, file: Path) -> Check:
    if (root / "store_epoch").exists():
        return Check(
            "FAIL",
            "database",
            f"{DATABASE} is missing but this root was used before",
            str(file),
            StoreMissing(str(file), (root / SNAPSHOT).exists()).hint,
        )
    return Check("ok", "database", "none yet; the first start makes it", str(file))


def key_files(root: Path) -> Check:
    """Whether others may read what is in the identity directories."""
    folders = [root / "identity", root / "node-host" / "identity"]
    files = [file for folder in folders if folder.is_dir() for file in _files(folder)]
    opened = [file for file in files if stat.S_IMODE(file.stat().st_mode) & _OTHERS]
    secret = [file for file in opened if os.name == "posix" and file.suffix not in (".pem", ".crl")]
    if secret:
        mode = stat.S_IMODE(secret[0].stat().st_mode)
        more = f" and {len(secret) - 1} more" if len(secret) > 1 else ""
        name = secret[0].relative_to(root)
        return Check(
            "FAIL",
            "key files",
            f"{name} may be read by others (mode {mode:04o}){more}",
            str(secret[0]),
            f"chmod 600 {' '.join(map(str, secret))}",
        )
    unread = [file for file in files if not os.access(file, os.R_OK)]
    if unread:
        owner, name = _owner(root), unread[0].relative_to(root)
        finding = f"{name} belongs to {_owner(unread[0])}; {_user()} may not read it"
        hint = f"sudo chown {owner} {unread[0]}"
        return Check("FAIL", "key files", finding, str(unread[0]), hint)
    if not files:
        return Check("ok", "key files", "none yet; the first start makes them", str(folders[0]))
    return Check(
        "ok",
        "key files",
        f"{words.counted(len(files), 'file')}, closed to others",
        str(files[0].parent),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def clock(root: Path, now: datetime) -> Check:
    """Whether this clock stands within the life of the gateway's certificate."""
    file = root / "identity" / "gateway.pem"
    try:
        pem = file.read_bytes()
    except OSError:
        return Check(
            "ok", "clock", f"{now:%Y-%m-%d %H:%M} UTC; no certificate to compare", str(file)
        )
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        return Check(
            "FAIL",
            "clock",
            "gateway.pem is not a certificate",
            str(file),
            RESTORE,
        )
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return _within(now, begins, ends, str(file))


def _within(now: datetime, begins: datetime, ends: datetime, file: str) -> Check:
    here = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < begins:
        finding = f"{here} is before the gateway's certificate begins ({begins:%Y-%m-%d %H:%M} UTC)"
        return Check("FAIL", "clock", finding, file, "timedatectl set-ntp true")
    if now >= ends:
        finding = f"{here} is after the gateway's certificate ended ({ends:%Y-%m-%d %H:%M} UTC)"
        return Check("warn", "clock", finding, file, "twistd -n palyra (it renews at the start)")
    left = words.age(int((ends - now).total_seconds() * 1000))
    return Check("ok", "clock", f"{here}, gateway certificate ends in {left}", file)


def ports(config: Config) -> list[Check]:
    """Whether the configured addresses are free for a gateway to start."""
    return [
        *console_checks.port(config),
        _port("enrolment", config.listen.enrolment),
        _port("nodes", config.listen.node_rpc),
    ]


def _port(name: str, text: str) -> Check:
    try:
        address = HostPort.parse(text, name)
    except Malformed as error:
        return Check("FAIL", name, error.sentence.rstrip("."), text, "correct it in palyra.toml")
    return console_checks.taken(name, address) or Check(
        "ok", name, f"{address} is free", str(address)
    )


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError, NotImplementedError):
        return "another user"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "this account"


def utc_now() -> datetime:
    """This clock."""
    return datetime.now(UTC)
