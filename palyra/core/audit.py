"""The audit log: who did what to whom, each row linked to the one before (ACCESS: Policy, audit).

Rows are written in the transaction of the change they tell of.  Details are kept beside the chain:
a row holds only their salted digest, so that they can be erased and the chain still holds.

    hash = H(LP("palyra-audit-v1", chain_id, LE64 seq, prev, row))
    row  = LP(LE64 at_ms, operator_id, who, via, action, subject, subject_name, result, reason,
              details_digest)
    details_digest = H(salt, details)

``prev`` is the hash of the row before, 32 zero bytes for row 1; LP and H as in PROTOCOL section 7;
text is UTF-8; ``details`` is JSON with sorted keys and no blanks.  A row without details has the
digest of 32 zero bytes and no salt.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import NamedTuple

import attrs
import msgspec

from palyra.core.transcript import lp

Details = Mapping[str, str | int | bool]

GENESIS = bytes(32)
"""``prev`` of the first row of a chain."""
NO_DETAILS = bytes(32)
"""``details_digest`` of a row that never had details."""
SALT_BYTES = 16
GATEWAY = "gateway"
"""Who acts where nobody asked."""

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(dict[str, str | int | bool]).decode
_sha256 = hashlib.sha256


@attrs.frozen
class Acting:
    """On whose behalf the present context runs, as an audit row tells it."""

    operator_id: str
    name: str
    via: str


_ACTING: ContextVar[Acting | None] = ContextVar("palyra_acting", default=None)


@attrs.frozen
class AuditEntry:
    """One thing that happened, as whoever did it says it.

    ``action`` is dotted, ``pairing.approved``; ``subject`` is what it was done to, as
    ``device:<ULID>``, ``job:<ULID>``, ``operator:<id>``; ``subject_name`` as people call it.
    ``result`` is ``ok`` or why not (``denied, rule 4``).  ``who``, ``operator_id`` and ``via`` are
    empty where the context says it (:func:`acting`); the others may be where ``who`` is the same.
    """

    at_ms: int
    action: str
    subject: str = ""
    subject_name: str = ""
    result: str = "ok"
    reason: str = ""
    who: str = ""
    via: str = ""
    details: Details = attrs.field(factory=dict)
    operator_id: str = ""


class Line(NamedTuple):
    """An entry as it is kept, without its place in the chain.

    ``salt`` and ``details`` are None where there are no details, or they were erased.
    """

    at_ms: int
    operator_id: str
    who: str
    via: str
    action: str
    subject: str
    subject_name: str
    result: str
    reason: str
    salt: bytes | None
    details: str | None
    details_digest: bytes


@attrs.frozen
class AuditRow:
    """A row of a chain; ``hash`` is the one that was kept with it."""

    chain_id: str
    seq: int
    line: Line
    hash: bytes


@attrs.frozen
class AuditPage:
    """Rows as they were asked for, and the hash each follows (None: that row is not kept).

    ``reached`` is the number of the last row that was looked at: a page with a filter looks at so
    many rows and not more.  ``oldest`` and ``newest`` are the ends of what is kept, 0 for nothing.
    """

    rows: tuple[AuditRow, ...]
    prev: tuple[bytes | None, ...]
    reached: int
    oldest: int
    newest: int


def acting() -> Acting | None:
    """On whose behalf the present context runs; None: on the gateway's own."""
    return _ACTING.get()


@contextlib.contextmanager
def acts_for(who: Acting | None) -> Iterator[None]:
    """What is begun inside is done on ``who``'s behalf, also what it waits for later."""
    token = _ACTING.set(who)
    try:
        yield
    finally:
        _ACTING.reset(token)


def line_of(entry: AuditEntry, salt: bytes, by: Acting | None = None) -> Line:
    """An entry as it is kept.  ``salt`` is SALT_BYTES of fresh randomness, ``by`` who acts where
    the entry does not say.

    What no store can keep becomes U+FFFD (:func:`clean`): what is hashed is what is kept.
    """
    who, operator_id, via = entry.who, entry.operator_id, entry.via
    if by is not None and who in ("", by.name):
        who, operator_id, via = by.name, operator_id or by.operator_id, via or by.via
    return Line(
        entry.at_ms,
        clean(operator_id),
        clean(who or GATEWAY),
        clean(via),
        clean(entry.action),
        clean(entry.subject),
        clean(entry.subject_name),
        clean(entry.result),
        clean(entry.reason),
        *kept_details(entry.details, salt),
    )


def kept_details(details: Details, salt: bytes) -> tuple[bytes | None, str | None, bytes]:
    """Salt, details and digest as a row keeps them."""
    if not details:
        return None, None, NO_DETAILS
    encoded = _encode({key: _cleaned(value) for key, value in details.items()})
    return salt, encoded.decode(), details_digest(salt, encoded)


def details_digest(salt: bytes, details: bytes) -> bytes:
    """What a row holds of its details."""
    return _sha256(salt + details).digest()


def details_of(line: Line) -> dict[str, str | int | bool] | None:
    """The details of a row; None where they were erased.

    :raises ValueError: they are not what a row can have: somebody changed them.
    """
    if line.details is None:
        return {} if line.details_digest == NO_DETAILS else None
    try:
        return _decode(line.details)
    except msgspec.MsgspecError as error:  # no ValueError before msgspec 0.20
        raise ValueError(str(error)) from error


class Chain:
    """How the rows of one chain are hashed."""

    def __init__(self, chain_id: str) -> None:
        self.chain_id = chain_id
        self._head = lp(b"palyra-audit-v1", chain_id.encode()) + _EIGHT

    def hash(self, seq: int, prev: bytes, line: Line) -> bytes:
        """The hash of row ``seq``, which follows a row whose hash is ``prev``."""
        row = _row(line)
        parts = (
            self._head,
            seq.to_bytes(8, "little"),
            len(prev).to_bytes(4, "little"),
            prev,
            len(row).to_bytes(4, "little"),
            row,
        )
        return _sha256(b"".join(parts)).digest()


_UNKEPT = re.compile("[\0\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EIGHT = (8).to_bytes(4, "little")


def _row(line: Line) -> bytes:
    """``row`` of the module's first paragraph.  Every job passes here twice."""
    parts = [_EIGHT, line[0].to_bytes(8, "little", signed=True)]
    for text in line[1:9]:
        field = text.encode()
        parts.append(len(field).to_bytes(4, "little"))
        parts.append(field)
    parts.append(len(line[11]).to_bytes(4, "little"))
    parts.append(line[11])
    return b"".join(parts)


def clean(text: str) -> str:
    """Text as every store can keep it, with U+FFFD for U+0000, which PostgreSQL refuses, and for
    lone surrogates, which are not UTF-8: names of accounts and files may have them."""
    return _UNKEPT.sub("\ufffd", text)


def _cleaned(value: str | int | bool) -> str | int | bool:
    # JSON escapes U+0000 and has no word for a surrogate.
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value
