"""Promises of verifying: nothing can be changed unseen up to the last anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.audit import GENESIS, AuditEntry, AuditRow, Chain, Line, line_of
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditverify import MAX_FAULTS, Examination, Lineage, citation, cited

CHAIN, EARLIER = "01JZ0000000000000000000002", "01JZ0000000000000000000001"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key()
SALT = bytes(range(16))


def linked(entries: Sequence[AuditEntry], chain_id: str = CHAIN) -> list[AuditRow]:
    """The rows of a chain."""
    chain, prev, rows = Chain(chain_id), GENESIS, list[AuditRow]()
    for seq, entry in enumerate(entries, start=1):
        line = line_of(entry, SALT)
        prev = chain.hash(seq, prev, line)
        rows.append(AuditRow(chain_id, seq, line, prev))
    return rows


def entries(count: int) -> list[AuditEntry]:
    return [
        AuditEntry(number, f"a.{number}", f"s:{number}", "n", "ok", "r", "w", "v", {"d": number})
        for number in range(1, count + 1)
    ]


ROWS = linked(entries(6))


def anchor(row: AuditRow, at_ms: int = 99) -> Head:
    return Head(row.chain_id, row.seq, row.hash, at_ms).signed(KEY)


def faults(rows: Sequence[AuditRow], **how: Any) -> tuple[str, ...]:
    """What is wrong with rows of the chain."""
    examination = Examination(CHAIN, key=PUBLIC, **how)
    for row in rows:
        examination.see(row)
    return examination.finish().faults


def test_a_chain_that_holds_has_no_fault() -> None:
    """And is told from where to where it goes, and how far it is anchored."""
    examination = Examination(CHAIN, anchors=[anchor(ROWS[3])], key=PUBLIC)
    for row in ROWS:
        examination.see(row)
    verdict = examination.finish()
    assert (verdict.rows, verdict.first_seq, verdict.last_seq) == (6, 1, 6)
    assert (verdict.anchored_seq, verdict.anchored_at_ms, verdict.faults) == (4, 99, ())


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value + 1 if isinstance(value, int) else value + "x"


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("field", Line._fields)
def test_any_changed_value_is_found(field: str, at: int) -> None:
    """In any column of any row, and the row is named."""
    row = ROWS[at]
    changed = row.line._replace(**{field: other(getattr(row.line, field))})
    found = faults([*ROWS[:at], attrs.evolve(row, line=changed), *ROWS[at + 1 :]])
    assert found
    assert f"row {row.seq} " in found[0]


@pytest.mark.parametrize("field", Line._fields)
def test_a_value_of_another_type_is_found(field: str) -> None:
    """SQLite keeps whatever is written into it; verifying goes on."""
    row = ROWS[2]
    wrong: Any = 7 if not isinstance(getattr(row.line, field), int) else "7"
    changed = attrs.evolve(row, line=row.line._replace(**{field: wrong}))
    assert faults([*ROWS[:2], changed, *ROWS[3:]])


@pytest.mark.parametrize("at", range(6))
def test_a_changed_hash_is_found(at: int) -> None:
    """The row's own hash counts as part of the row."""
    changed = attrs.evolve(ROWS[at], hash=other(ROWS[at].hash))
    assert faults([*ROWS[:at], changed, *ROWS[at + 1 :]])


@pytest.mark.parametrize("at", range(5))
def test_a_rewritten_row_is_found_by_the_next(at: int) -> None:
    """A row that was changed and hashed anew does not fit the one behind it."""
    row = ROWS[at]
    line = row.line._replace(who="nobody")
    prev = ROWS[at - 1].hash if at else GENESIS
    rewritten = AuditRow(CHAIN, row.seq, line, Chain(CHAIN).hash(row.seq, prev, line))
    assert faults([*ROWS[:at], rewritten, *ROWS[at + 1 :]])


def test_a_rewritten_end_is_found_by_its_anchor() -> None:
    """Whoever owns the database can rewrite the last rows; not those that were anchored."""
    rewritten = linked([*entries(4), AuditEntry(5, "other"), AuditEntry(6, "other")])
    assert not faults(rewritten)
    assert not faults(rewritten, anchors=[anchor(ROWS[3])])
    found = faults(rewritten, anchors=[anchor(ROWS[4])])
    assert found == ("row 5 is not the one that was anchored",)


@pytest.mark.parametrize("at", range(5))
def test_a_missing_row_is_found(at: int) -> None:
    """In the beginning and in the middle."""
    assert faults([*ROWS[:at], *ROWS[at + 1 :]]) == (f"row {at + 1} is missing",)


def test_missing_rows_are_told_together() -> None:
    """From where to where."""
    assert faults([*ROWS[:1], *ROWS[4:]]) == ("rows 2 to 4 are missing",)


def test_a_cut_end_is_found_by_its_anchor() -> None:
    """Rows that are missing at the end."""
    assert not faults(ROWS[:4])
    found = faults(ROWS[:4], anchors=[anchor(ROWS[5])])
    assert found == ("rows 5 to 6 are missing: row 6 was anchored, and the chain ends at row 4",)
    assert faults([], anchors=[anchor(ROWS[5])])


def test_reordered_rows_are_found() -> None:
    """Two rows that changed places, as they stand and with each other's number."""
    assert faults([*ROWS[:2], ROWS[3], ROWS[2], *ROWS[4:]])
    one, two = ROWS[2], ROWS[3]
    moved = [attrs.evolve(two, seq=one.seq), attrs.evolve(one, seq=two.seq)]
    assert faults([*ROWS[:2], *moved, *ROWS[4:]])


def test_a_row_that_was_put_in_is_found() -> None:
    """Also one that would be right in another chain."""
    assert faults([*ROWS[:3], ROWS[2], *ROWS[3:]])
    foreign = linked(entries(6), EARLIER)
    found = faults([*ROWS[:3], foreign[3], *ROWS[3:]])
    assert found == ("row 4 is one of another chain",)
    assert faults([attrs.evolve(row, chain_id=CHAIN) for row in foreign])


def test_erased_details_are_no_fault() -> None:
    """They can be taken away, but not a part of them, and nothing can be put in their place."""
    row = ROWS[2]

    def changed(**values: Any) -> list[AuditRow]:
        line = row.line._replace(**values)
        return [*ROWS[:2], attrs.evolve(row, line=line), *ROWS[3:]]

    assert not faults(changed(salt=None, details=None))
    assert faults(changed(details=None)) == ("row 3 has a salt without details",)
    assert faults(changed(salt=None)) == ("the details of row 3 were changed",)
    assert faults(changed(salt=None, details="{}")) == ("the details of row 3 were changed",)


def test_details_cannot_be_put_where_none_were() -> None:
    """The digest of none is the hash of nothing."""
    bare = linked([AuditEntry(1, "a")])
    line = bare[0].line._replace(salt=SALT, details="{}")
    assert faults([attrs.evolve(bare[0], line=line)]) == ("the details of row 1 were changed",)


def test_a_wrong_signature_is_found() -> None:
    """An anchor that the gateway did not sign proves nothing, and is told."""
    forged = attrs.evolve(anchor(ROWS[3]), signature=bytes(64))
    found = faults(ROWS, anchors=[forged])
    assert found == ("an anchor for row 4 has a signature that is not this gateway's",)


def test_it_begins_behind_deleted_rows() -> None:
    """Where a signed head says what they were; a forged one says nothing."""
    segment = attrs.evolve(anchor(ROWS[2]), kind=HeadKind.SEGMENT, signature=b"").signed(KEY)
    assert not faults(ROWS[3:], segment=segment)
    assert not faults(ROWS[1:], segment=segment)
    assert not faults(ROWS[3:], segment=segment, anchors=[anchor(ROWS[0])])
    assert not faults(ROWS[3:], segment=segment, anchors=[anchor(ROWS[2])])
    assert faults(ROWS[4:], segment=segment) == ("row 4 is missing",)
    other_rows = linked([AuditEntry(1, "x")] * 6)
    assert faults(other_rows[3:], segment=segment)
    forged = attrs.evolve(segment, signature=bytes(64))
    assert faults(ROWS[3:], segment=forged)[0].startswith("the head of deleted rows for row 3")


def test_faults_are_bounded() -> None:
    """A chain that was replaced as a whole is told in few lines."""
    wrong = [attrs.evolve(row, hash=bytes(32)) for row in linked(entries(100))]
    assert len(faults(wrong)) == MAX_FAULTS


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            AuditEntry,
            at_ms=st.integers(0, 2**50),
            action=st.text(max_size=8),
            subject=st.text(max_size=8),
            reason=st.text(max_size=8),
            who=st.text(max_size=4),
            details=st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
        ),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_any_chain_holds_until_it_is_changed(said: list[AuditEntry], data: st.DataObject) -> None:
    """Whatever rows say; and any change of any of them is found."""
    rows = linked(said)
    assert not faults(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from([*Line._fields[:9], "details_digest"]))
    line = rows[at].line
    changed = line._replace(
        **{field: other(getattr(line, field) or ("" if field != "at_ms" else 0))}
    )
    assert faults([*rows[:at], attrs.evolve(rows[at], line=changed), *rows[at + 1 :]])


# -- chains that follow one another -----------------------------------------------------------


def following(before: AuditRow) -> list[AuditRow]:
    """A chain whose first row cites another's end."""
    head = anchor(before)
    why = f"restored; {citation(head)}"
    return linked([AuditEntry(9, "chain.started", f"chain:{EARLIER}", reason=why), *entries(2)])


def looked_through(kept: dict[str, list[AuditRow]], **how: Any) -> Any:
    lineage = Lineage(CHAIN, key=PUBLIC, **how)
    while (examination := lineage.current) is not None:
        for row in kept.get(examination.chain_id, []):
            if row.seq > examination.after:
                examination.see(row)
        lineage.advance()
    return lineage.verdict()


OLD = linked(entries(4), EARLIER)


def test_a_chain_is_followed_to_the_one_before() -> None:
    """Both hold; an anchor of the older one is known; the rows told are the present chain's."""
    verdict = looked_through({EARLIER: OLD, CHAIN: following(OLD[3])}, anchors=[anchor(OLD[1])])
    assert (verdict.chain_id, verdict.rows, verdict.faults) == (CHAIN, 3, ())


def test_the_end_of_the_chain_before_is_cited() -> None:
    """Rows that are missing there, or came behind, are found."""
    shorter = looked_through({EARLIER: OLD[:3], CHAIN: following(OLD[3])})
    assert shorter.faults == (
        f"chain {EARLIER}: row 3 is not the end that the next chain cites, row 4",
    )
    assert looked_through({CHAIN: following(OLD[3])}).faults
    assert looked_through({EARLIER: OLD, CHAIN: following(OLD[2])}).faults


def test_an_anchored_chain_that_nobody_follows_is_missed() -> None:
    """Replacing the whole chain by a new one is found by an anchor of the old one."""
    verdict = looked_through({CHAIN: ROWS}, anchors=[anchor(OLD[3])])
    assert verdict.faults == (f"chain {EARLIER} was anchored and is not kept",)


def test_chains_before_deleted_rows_are_not_missed() -> None:
    """Once the first rows are deleted, nobody can tell any more which chain they followed."""
    segment = attrs.evolve(anchor(ROWS[2]), kind=HeadKind.SEGMENT).signed(KEY)
    verdict = looked_through({CHAIN: ROWS[3:]}, segments=[segment], anchors=[anchor(OLD[3])])
    assert verdict.faults == ()


def test_only_a_first_row_cites() -> None:
    """And only one that says it began a chain."""
    assert cited(ROWS[0].line) is None
    first = following(OLD[3])[0].line
    assert cited(first) == Head(EARLIER, 4, OLD[3].hash, 9, HeadKind.START)
    assert cited(first._replace(subject="device:x")) is None


def test_deleted_rows_end_where_they_were_anchored() -> None:
    """An anchor at the very row of their head is of the same row, and vouches for it."""
    segment = attrs.evolve(anchor(ROWS[2]), kind=HeadKind.SEGMENT, signature=b"").signed(KEY)
    examination = Examination(CHAIN, segment=segment, anchors=[anchor(ROWS[2], 7)], key=PUBLIC)
    for row in ROWS[3:]:
        examination.see(row)
    verdict = examination.finish()
    assert (verdict.anchored_seq, verdict.anchored_at_ms, verdict.faults) == (3, 7, ())
    other = attrs.evolve(anchor(ROWS[2]), hash=bytes(32), signature=b"").signed(KEY)
    found = faults(ROWS[3:], segment=segment, anchors=[other])
    assert found == ("row 3 is not the one that was anchored",)
