"""A private PostgreSQL server for the tests: in a directory of its own, on a Unix socket only.

A shell guards it: the server ends with the shell, and the shell ends when its input does, which is
when the tests end, however they end.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

OWNER = "palyra"
TEMPLATE = "palyra_template"
INSTALL = "PostgreSQL is not installed: apt-get install postgresql"
OPTIONS = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c shared_buffers=16MB"
GUARD = """
"$1/initdb" -D data -U palyra -A trust -E UTF8 --locale=C --no-sync >log 2>&1 || exit 1
printf '%s\\n' 'local all guarded scram-sha-256' 'local all all trust' >data/pg_hba.conf
"$1/pg_ctl" -w -D data -l log -o "-k '$PWD' $2" start >>log 2>&1 || exit 1
echo ready
cat >/dev/null
"$1/pg_ctl" -w -D data -m immediate stop >>log 2>&1
rm -rf data
"""


def programs() -> Path | None:
    """Where PostgreSQL's programs are: the newest of Debian's, or what is on PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("pg_ctl")
    return Path(on_path).resolve().parent if on_path else None


class Server:
    """A running server.  ``folder`` has its data, its socket and its log."""

    def __init__(self, folder: Path, bin_: Path, user: dict[str, Any]) -> None:
        self.folder = folder
        self._bin = bin_
        self._user = user
        self._made = 0

    def url(self, database: str, user: str = OWNER) -> str:
        """The URL of a database; ``user`` may have a password after a colon."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def restart(self, mode: str = "fast") -> None:
        """Restart the server; ``immediate`` is as a crash."""
        command = [str(self._bin / "pg_ctl"), "-w", "-D", "data", "-l", "log", "-m", mode]
        with open(os.devnull, "w") as nowhere:
            subprocess.run(
                [*command, "restart"], cwd=self.folder, check=True, stdout=nowhere, **self._user
            )

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement as the owner of everything."""
        with psycopg.connect(
            host=str(self.folder), user=OWNER, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def make(self, template: str = "template0") -> str:
        """A new database, as a copy."""
        self._made += 1
        name = f"test_{self._made}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running(bin_: Path) -> Iterator[Server]:
    """A server, from initdb to the removal of its files."""
    folder = Path(tempfile.mkdtemp(prefix="palyra-pg-", dir="/tmp"))  # a socket's path is short
    user = _unprivileged(folder)
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, "guard", str(bin_), OPTIONS],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **user,
    )
    assert guard.stdin is not None and guard.stdout is not None
    try:
        if guard.stdout.readline() != b"ready\n":
            raise RuntimeError((folder / "log").read_text())
        yield Server(folder, bin_, user)
    finally:
        guard.stdin.close()
        guard.wait(30)
        guard.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """What makes a child run as somebody else where we are root: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    name = "postgres" if "postgres" in {each.pw_name for each in pwd.getpwall()} else "nobody"
    entry = pwd.getpwnam(name)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
