"""Promises of the audit chain's rows and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from palyra.core.audit import (
    GATEWAY,
    GENESIS,
    NO_DETAILS,
    Acting,
    AuditEntry,
    Chain,
    acting,
    acts_for,
    details_of,
    line_of,
)
from palyra.core.transcript import lp

VECTORS: Any = json.loads(Path(__file__, "../vectors/audit.json").resolve().read_text())
SALT = bytes(range(16))


def test_rows_are_hashed_as_written_down() -> None:
    """The vectors hold: another program can verify an export with them."""
    chain, prev = Chain(VECTORS["chain_id"]), GENESIS
    for seq, row in enumerate(VECTORS["rows"], start=1):
        line = line_of(AuditEntry(**row["entry"]), bytes.fromhex(row["salt"]))
        assert line.details == row["details"]
        assert line.details_digest.hex() == row["details_digest"]
        prev = chain.hash(seq, prev, line)
        assert prev.hex() == row["hash"]


def test_the_hash_is_made_of_length_prefixed_fields() -> None:
    """Byte for byte what the module's docstring says, so that no two rows give the same bytes."""
    entry = AuditEntry(7, "a.b", "s:1", "name", "ok", "why", "ana", "sock", {"k": 1}, "OP")
    line = line_of(entry, SALT)
    digest = hashlib.sha256(SALT + b'{"k":1}').digest()
    texts = (b"OP", b"ana", b"sock", b"a.b", b"s:1", b"name", b"ok", b"why")
    row = lp((7).to_bytes(8, "little"), *texts, digest)
    prev = bytes([9]) * 32
    whole = lp(b"palyra-audit-v1", b"CHAIN", (5).to_bytes(8, "little"), prev, row)
    assert Chain("CHAIN").hash(5, prev, line) == hashlib.sha256(whole).digest()


def test_who_acts_is_told_whole() -> None:
    """The context gives id and way also where the entry names the same person, and no other."""
    by = Acting("OP", "ana", "console.sock")
    for who in ("", "ana"):
        line = line_of(AuditEntry(1, "a", who=who), SALT, by)
        assert (line.who, line.operator_id, line.via) == ("ana", "OP", "console.sock")
    line = line_of(AuditEntry(1, "a", who="bo"), SALT, by)
    assert (line.who, line.operator_id, line.via) == ("bo", "", "")
    assert line_of(AuditEntry(1, "a"), SALT).who == GATEWAY


def test_details_are_canonical() -> None:
    """The order in which details are said does not matter."""
    one = line_of(AuditEntry(1, "a", details={"x": 1, "b": True}), SALT)
    other = line_of(AuditEntry(1, "a", details={"b": True, "x": 1}), SALT)
    assert one == other
    assert one.details == '{"b":true,"x":1}'


def test_without_details_there_is_no_salt() -> None:
    """Such a row has nothing to erase."""
    line = line_of(AuditEntry(1, "a"), SALT)
    assert (line.salt, line.details, line.details_digest) == (None, None, NO_DETAILS)
    assert details_of(line) == {}


def test_erased_details_are_none() -> None:
    """What was erased is told from what never was."""
    line = line_of(AuditEntry(1, "a", details={"x": 1}), SALT)
    assert details_of(line) == {"x": 1}
    assert details_of(line._replace(salt=None, details=None)) is None


def test_details_that_are_none_of_ours_are_refused() -> None:
    """Whoever writes rubbish into the database is told so."""
    line = line_of(AuditEntry(1, "a", details={"x": 1}), SALT)
    with pytest.raises(ValueError):
        details_of(line._replace(details="[]"))


def test_whoever_is_acted_for_is_told() -> None:
    """Only where the entry does not say; else the gateway itself."""
    ana = Acting("ANA", "ana", "console.sock")
    told = line_of(AuditEntry(1, "a"), SALT, ana)
    assert (told.operator_id, told.who, told.via) == ("ANA", "ana", "console.sock")
    said = line_of(AuditEntry(1, "a", who="bo"), SALT, ana)
    assert (said.operator_id, said.who, said.via) == ("", "bo", "")
    nobody = line_of(AuditEntry(1, "a"), SALT)
    assert (nobody.operator_id, nobody.who, nobody.via) == ("", GATEWAY, "")


def test_acting_ends_with_its_block() -> None:
    """Also where the block fails."""
    ana = Acting("ANA", "ana", "console.sock")
    with pytest.raises(RuntimeError), acts_for(ana):
        assert acting() is ana
        raise RuntimeError
    assert acting() is None


def test_text_that_is_not_utf_8_can_be_kept() -> None:
    """Names of accounts and files may be anything: what UTF-8 has no word for is replaced."""
    entry = AuditEntry(1, "a", reason="\0", who="al\udcffx", details={"path": "/\udc80", "n": 1})
    line = line_of(entry, bytes(16))
    assert (line.who, line.reason) == ("al\ufffdx", "\ufffd")
    assert details_of(line) == {"path": "/\ufffd", "n": 1}
    assert len(Chain("c").hash(1, GENESIS, line)) == 32
