"""The audit log: who did what to whom, each row linked to the one before (ACCESS: Policy, audit).

Rows are written in the transaction of the change they tell of.  Details are kept beside the chain:
a row holds only their salted digest, so that they can be erased and the chain still holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

import attrs

Details = Mapping[str, str | int | bool]


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
    ``result`` is ``ok`` or why not (``denied, rule 4``).  ``who`` and ``via`` are empty where the
    context says it (:func:`acting`).
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
