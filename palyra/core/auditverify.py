"""Whether an audit chain holds: row by row, oldest first, without keeping the rows.

What is found: a row that was changed, is missing, stands in another place or was put in; rows that
are missing at the end, as far as an anchor or a later chain vouches for them; a head whose
signature is not the gateway's.  Whoever can write the database can rewrite every row behind the
last anchor that is kept elsewhere: a verdict says which row that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from palyra.core.audit import GENESIS, AuditRow, Chain, Line, details_digest
from palyra.core.audithead import Head, HeadKind

MAX_FAULTS = 20
"""Faults that are told, at most; one change is often two."""
STARTED = "chain.started"
CHAIN = "chain:"
_CITED = re.compile(r"follows row (?P<seq>[0-9]{1,18}), (?P<hash>[0-9a-f]{64})", re.ASCII)


def citation(before: Head) -> str:
    """How the first row of a chain cites the head of the one before it, in its reason."""
    return f"follows row {before.seq}, {before.hash.hex()}"


@attrs.frozen
class Verdict:
    """What was seen of a chain.  ``faults`` are sentences, each naming a row; none: it holds.

    ``anchored_seq`` is the last row that an anchor vouches for, 0 for none.
    """

    chain_id: str
    rows: int
    first_seq: int
    last_seq: int
    anchored_seq: int
    anchored_at_ms: int | None
    faults: tuple[str, ...]


class Examination:
    """Looks through one chain.

    :param segment: the head of rows that were deleted: the chain is looked at behind it.
    :param anchors: heads of this chain that were kept elsewhere; those of others are left.
    :param end: where the chain ended, as the one after it says; None for the present one.
    :param key: whose signatures heads must have; None: they are not looked at.
    """

    def __init__(
        self,
        chain_id: str,
        *,
        segment: Head | None = None,
        anchors: Iterable[Head] = (),
        end: Head | None = None,
        key: Ed25519PublicKey | None = None,
    ) -> None:
        self.faults: list[str] = []
        self._chain = Chain(chain_id)
        self._key = key
        self._segment = segment
        self._end = end
        self._anchors: dict[int, list[Head]] = {}
        self._anchored: Head | None = None
        self._rows = self._first = self._last = 0
        self._next, self._prev = 1, GENESIS
        self._hash = b""
        self.follows: Head | None = None
        """The end of the chain before, as the first row cites it."""
        if segment is not None and self._signed(segment):
            self._next, self._prev = segment.seq + 1, segment.hash
        for each in anchors:
            if each.chain_id == chain_id and self._signed(each):
                self._anchors.setdefault(each.seq, []).append(each)
        self._compare(self._next - 1, self._prev)

    @property
    def chain_id(self) -> str:
        """The chain that is looked through."""
        return self._chain.chain_id

    @property
    def after(self) -> int:
        """The number behind which rows are to be seen."""
        return self._next - 1

    def see(self, row: AuditRow) -> None:
        """Look at the next row."""
        if row.chain_id != self._chain.chain_id:
            self._fault(f"row {row.seq} is one of another chain")
            return
        if row.seq < self._next:
            if self._rows:
                self._fault(f"row {row.seq} stands behind row {self._next - 1}")
            return  # before the first: rows whose deletion is under way
        if row.seq > self._next:
            self._missing(self._next, row.seq - 1)
        elif not self._holds(row):
            self._fault(f"row {row.seq} was changed, or the row before it")
        self._look_at_details(row.seq, row.line)
        self._take(row)

    def finish(self) -> Verdict:
        """What was seen, once every row was."""
        for seq in sorted(seq for seq in self._anchors if seq > self._last):
            self._fault(
                f"rows {self._last + 1} to {seq} are missing: row {seq} was anchored, "
                f"and the chain ends at row {self._last}"
            )
            break
        if self._end is not None and (self._end.seq, self._end.hash) != (self._last, self._hash):
            self._fault(
                f"row {self._last} is not the end that the next chain cites, row {self._end.seq}"
            )
        anchored = self._anchored
        return Verdict(
            self._chain.chain_id,
            self._rows,
            self._first,
            self._last,
            anchored.seq if anchored else 0,
            anchored.at_ms if anchored else None,
            tuple(self.faults),
        )

    def _holds(self, row: AuditRow) -> bool:
        try:
            return self._chain.hash(row.seq, self._prev, row.line) == row.hash
        except (AttributeError, OverflowError, TypeError, ValueError):
            return False  # a value of another type: SQLite keeps whatever is written into it

    def _take(self, row: AuditRow) -> None:
        if not self._rows:
            self._first = row.seq
        if row.seq == 1:
            self.follows = cited(row.line)
        self._rows += 1
        self._last, self._hash = row.seq, row.hash
        self._next, self._prev = row.seq + 1, row.hash
        self._compare(row.seq, row.hash)

    def _compare(self, seq: int, hash: bytes) -> None:
        """With what was anchored of a row that is seen, or that the head of deleted rows is of."""
        for anchor in self._anchors.get(seq, ()):
            if anchor.hash != hash:
                self._fault(f"row {seq} is not the one that was anchored")
            elif not self.faults:
                self._anchored = anchor

    def _look_at_details(self, seq: int, line: Line) -> None:
        if line.details is None:
            if line.salt is not None:
                self._fault(f"row {seq} has a salt without details")
        elif line.details_digest != _digest_of(line.salt, line.details):
            self._fault(f"the details of row {seq} were changed")

    def _missing(self, first: int, last: int) -> None:
        if first == last:
            self._fault(f"row {first} is missing")
        else:
            self._fault(f"rows {first} to {last} are missing")

    def _signed(self, head: Head) -> bool:
        if self._key is None or head.holds(self._key):
            return True
        what = "the head of deleted rows" if head.kind is HeadKind.SEGMENT else "an anchor"
        self._fault(f"{what} for row {head.seq} has a signature that is not this gateway's")
        return False

    def _fault(self, sentence: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(sentence)


def _digest_of(salt: bytes | None, details: str) -> bytes:
    try:
        return b"" if salt is None else details_digest(salt, details.encode())
    except (AttributeError, TypeError, ValueError):
        return b""


def cited(first: Line) -> Head | None:
    """The end of the chain before, as the first row of a chain cites it; None where it does not."""
    found = _CITED.search(first.reason)
    if first.action != STARTED or not first.subject.startswith(CHAIN) or found is None:
        return None
    chain_id = first.subject.removeprefix(CHAIN)
    return Head(
        chain_id, int(found["seq"]), bytes.fromhex(found["hash"]), first.at_ms, HeadKind.START
    )


class Lineage:
    """Looks through the present chain, and then those that it follows, as far as they are kept.

    Whoever has the rows feeds those of ``current`` to it, behind ``current.after``, and calls
    :meth:`advance`, until ``current`` is None.
    """

    def __init__(
        self,
        present: str,
        *,
        segments: Iterable[Head] = (),
        anchors: Iterable[Head] = (),
        key: Ed25519PublicKey | None = None,
    ) -> None:
        self._segments: dict[str, Head] = {}
        for each in segments:
            kept = self._segments.get(each.chain_id)
            if kept is None or kept.seq < each.seq:
                self._segments[each.chain_id] = each
        self._anchors = tuple(anchors)
        self._key = key
        self._verdicts: dict[str, Verdict] = {}
        self._whole = True
        self.current: Examination | None = self._begun(present, None)

    def advance(self) -> None:
        """Every row of the current chain was seen."""
        examined = self.current
        assert examined is not None, "nothing is left to be looked through"
        verdict = examined.finish()
        self._verdicts[verdict.chain_id] = verdict
        follows = examined.follows
        self._whole = self._whole and verdict.first_seq == 1
        known = follows is None or follows.chain_id in self._verdicts
        self.current = None if known or follows is None else self._begun(follows.chain_id, follows)

    def verdict(self) -> Verdict:
        """What was seen of the present chain; the faults are those of all."""
        present, *earlier = self._verdicts.values()
        faults = [*present.faults]
        for each in earlier:
            faults += [f"chain {each.chain_id}: {fault}" for fault in each.faults]
        strangers = {each.chain_id for each in self._anchors} - self._verdicts.keys()
        if self._whole:  # else the chains it followed may have been deleted with its first rows
            faults += [f"chain {each} was anchored and is not kept" for each in sorted(strangers)]
        return attrs.evolve(present, faults=tuple(faults[:MAX_FAULTS]))

    def _begun(self, chain_id: str, end: Head | None) -> Examination:
        return Examination(
            chain_id,
            segment=self._segments.get(chain_id),
            anchors=self._anchors,
            end=end,
            key=self._key,
        )
