"""The record, its files, and the way back from a backup."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError

RESTORE = "palyra state restore FILE --state-root DIR (an empty one)"
"""What comes next where a part of a gateway's state is damaged or gone."""


@attrs.define
class StoreCorrupt(PalyraError):
    """A database, snapshot or identity file is damaged; it was left as it is."""

    code = "store_corrupt"
    category = Category.INTERNAL
    file: str
    detail: str = ""

    @property
    def sentence(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.file} is damaged{detail}; it was left as it is."

    @property
    def hint(self) -> str:
        if self.file.endswith("palyra.sqlite3"):
            return RESTORE  # without it nothing starts anew: store_epoch says that it was there
        return "move it away to start anew, or put a backup in its place"


@attrs.define
class StoreMissing(PalyraError):
    """The state root was used before but its database is gone: an error, never a fresh start.

    ``snapshot``: node-runtime.v1.json is there, of which a database can be made.
    """

    code = "store_missing"
    category = Category.INTERNAL
    file: str
    snapshot: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.file} is missing although this state root was used before; nothing was made."

    @property
    def hint(self) -> str:
        # Without the snapshot a removed store_epoch would mean an empty database under a known CA.
        if not self.snapshot:
            return RESTORE
        return f"{RESTORE}, or remove store_epoch to start from node-runtime.v1.json"


@attrs.define
class RestoreUnconfirmed(PalyraError):
    """The state is a restored or imported one (``since`` is a text), and nobody has confirmed yet
    that who lost trust since then has lost it here too."""

    code = "restore_unconfirmed"
    category = Category.UNAVAILABLE
    since: str

    @property
    def sentence(self) -> str:
        return (
            f"This state is of {self.since}; devices that were revoked, removed or paired with "
            "another key since then must be revoked or removed again before it is served."
        )

    @property
    def hint(self) -> str:
        return "palyra nodes revoke or remove each of them, then: palyra state confirm"


@attrs.define
class StateRootNotEmpty(PalyraError):
    """A backup is restored, or a document imported, into an empty state root only."""

    code = "state_root_not_empty"
    category = Category.CONFLICT
    root: str
    found: str

    @property
    def sentence(self) -> str:
        return f"{self.root} is not empty ({self.found}); nothing was changed."

    @property
    def hint(self) -> str:
        return "choose another directory with --state-root, or move this one away"


@attrs.define
class NoGatewayState(PalyraError):
    """A directory holds no state of a gateway, or not the part of it that was asked for."""

    code = "no_gateway_state"
    category = Category.NOT_FOUND
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.root} holds no state of a gateway."

    @property
    def hint(self) -> str:
        return "name the gateway's state root with --state-root"


@attrs.define
class DatabaseElsewhere(PalyraError):
    """The record of a gateway is in a database server, which has its own backups; ``then`` is the
    command that goes with those."""

    code = "database_elsewhere"
    category = Category.PRECONDITION
    database: str
    then: str

    @property
    def sentence(self) -> str:
        return f"The record of this gateway is in {self.database}, not in its state root."

    @property
    def hint(self) -> str:
        return self.then


@attrs.define
class BackupInvalid(PalyraError):
    """A file is not a backup, or it is damaged, or the passphrase does not open it."""

    code = "backup_invalid"
    category = Category.INVALID
    file: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.file} cannot be restored: {self.problem}."

    @property
    def hint(self) -> str:
        return "try another backup, or type the passphrase again"


@attrs.define
class StoreUnavailable(PalyraError):
    """A database cannot be read or written now: read-only, locked, or an I/O error."""

    code = "store_unavailable"
    category = Category.UNAVAILABLE
    retryable = True
    file: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"{self.file} cannot be used ({self.cause}); nothing was accepted."


@attrs.define
class StoreInUse(PalyraError):
    """Another gateway uses the database, or used it while this one had no connection."""

    code = "store_in_use"
    category = Category.UNAVAILABLE
    store: str

    @property
    def sentence(self) -> str:
        return f"Another gateway uses {self.store}."

    @property
    def hint(self) -> str:
        return "stop that gateway and restart this one, or give this one its own [store] url"


@attrs.define
class StoreEmpty(PalyraError):
    """The state root was used before but its database server has nothing: never a fresh start."""

    code = "store_empty"
    category = Category.INTERNAL
    store: str

    @property
    def sentence(self) -> str:
        return f"{self.store} is empty although this state root was used before; nothing was made."

    @property
    def hint(self) -> str:
        return "correct [store] url, or pg_restore it; to begin anew move node-runtime.v1.json away"


@attrs.define
class StoreDriverMissing(PalyraError):
    """A PostgreSQL database is configured, but its driver cannot be imported."""

    code = "store_driver_missing"
    category = Category.PRECONDITION
    detail: str

    @property
    def sentence(self) -> str:
        return f"The PostgreSQL driver cannot be loaded ({self.detail})."

    @property
    def hint(self) -> str:
        return "pip install 'palyra[postgres]' 'psycopg[binary]'"


@attrs.define
class TracingMissing(PalyraError):
    """Tracing is configured, but OpenTelemetry cannot be imported."""

    code = "tracing_missing"
    category = Category.PRECONDITION
    detail: str

    @property
    def sentence(self) -> str:
        return f"OpenTelemetry cannot be loaded ({self.detail})."

    @property
    def hint(self) -> str:
        return "pip install 'palyra[tracing]', or empty [tracing] endpoint"


@attrs.define
class StoreTooNew(PalyraError):
    """A database was written by a newer version, with a schema that this one does not know."""

    code = "store_too_new"
    category = Category.PRECONDITION
    file: str
    revision: str

    @property
    def sentence(self) -> str:
        return f"{self.file} was written by a newer Palyra (schema {self.revision})."

    @property
    def hint(self) -> str:
        return "pip install --upgrade palyra"


@attrs.define
class DiskFull(PalyraError):
    """The store cannot grow; what was asked was not accepted."""

    code = "disk_full"
    category = Category.UNAVAILABLE
    retryable = True
    where: str

    @property
    def sentence(self) -> str:
        return f"No space left on {self.where}; nothing was accepted."

    @property
    def hint(self) -> str:
        return "palyra doctor"
