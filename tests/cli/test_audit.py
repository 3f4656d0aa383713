"""Tests of :mod:`palyra.cli.audit`, by what an operator sees of the chain."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palyra.cli import auditlines
from palyra.cli.auditlines import Tail, show_verdict
from palyra.console.models import (
    AuditHeads,
    AuditItem,
    AuditList,
    AuditVerification,
    Contract,
    Page,
)
from palyra.core.audit import GENESIS, AuditEntry, Chain, details_of, line_of
from palyra.core.audithead import Head
from tests.cli.conftest import FakeConsole
from tests.cli.things import NOW, H, S, screen, shown, told
from tests.store.reactorless import Calls

CHAIN = "01JZ0000000000000000000002"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NARROW = """\
 SEQ  TIME      WHO  WHAT              ON         RESULT
1041  03:43:10  ana  pairing.approved  pi T6MW3K  ok
1042  03:44:02  bo   job.submitted     nas        denied, rule 4
"""
WIDE = (
    " SEQ  TIME      WHO  WHAT              ON         RESULT          "
    "FROM          REASON                HASH\n"
    "1041  03:43:10  ana  pairing.approved  pi T6MW3K  ok              "
    'console.sock  "new pi for the lab"  5be1c07a\n'
    "1042  03:44:02  bo   job.submitted     nas        denied, rule 4  "
    "-             -                     00000000\n"
)


def item(seq: int, at_ms: int, **changes: Any) -> AuditItem:
    given: dict[str, Any] = {
        "chain_id": CHAIN,
        "seq": seq,
        "at_unix_ms": at_ms,
        "who": "ana",
        "operator_id": "",
        "via": "",
        "action": "job.submitted",
        "subject": "job:01JZ00000000000000NAS00000",
        "subject_name": "nas",
        "result": "ok",
        "reason": "",
        "details": {},
        "salt": "",
        "details_digest": "00" * 32,
        "prev": "00" * 32,
        "hash": "00" * 32,
    }
    return AuditItem(**(given | changes))


APPROVED = item(
    1041,
    NOW - 64 * S,
    action="pairing.approved",
    subject="device:01JZ000000T6MW3K0000000000",
    subject_name="pi",
    via="console.sock",
    reason="new pi for the lab",
    hash="5be1c07a" + "0" * 56,
)
DENIED = item(1042, NOW - 12 * S, who="bo", result="denied, rule 4")


def chain(count: int) -> list[AuditItem]:
    """Rows of a chain that holds."""
    links, prev, rows = Chain(CHAIN), GENESIS, []
    for seq in range(1, count + 1):
        entry = AuditEntry(NOW + seq, f"n.{seq}", "job:1", "pi", who="ana", details={"n": seq})
        line = line_of(entry, bytes([seq]) * 16)
        hashed = links.hash(seq, prev, line)
        rows.append(
            item(
                seq,
                line.at_ms,
                action=line.action,
                subject=line.subject,
                subject_name=line.subject_name,
                details=details_of(line),
                salt=(line.salt or b"").hex(),
                details_digest=line.details_digest.hex(),
                prev=prev.hex(),
                hash=hashed.hex(),
            )
        )
        prev = hashed
    return rows


def answer(rows: list[AuditItem], following: str | None = None) -> AuditList:
    return AuditList(Contract(), Page(500, len(rows), following is not None, following), rows)


def seen(**changes: Any) -> AuditVerification:
    given: dict[str, Any] = {
        "contract": Contract(),
        "chain_id": CHAIN,
        "rows": 1042,
        "first_seq": 1,
        "last_seq": 1042,
        "anchored_seq": 1030,
        "anchored_at_unix_ms": NOW - 14 * S,
        "faults": [],
    }
    return AuditVerification(**(given | changes))


def anchor(row: AuditItem) -> str:
    return Head(CHAIN, row.seq, bytes.fromhex(row.hash), NOW).signed(KEY).line


# -- tail -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "table"), [(80, NARROW), (120, WIDE)])
def test_the_table(width: int, table: str) -> None:
    """As it was drawn, at both widths; a second page has no head."""
    made = screen(width)
    tail = Tail(made)
    tail.show([APPROVED], chosen=False)
    first = shown(made)
    assert first.startswith(table.splitlines()[0][:10])
    whole = screen(width)
    Tail(whole).show([APPROVED, DENIED], chosen=False)
    assert shown(whole) == table
    tail.show([APPROVED], chosen=False)
    assert shown(made).count("SEQ") == 1


def test_nothing_matches() -> None:
    """A search without a find says so."""
    made = screen()
    Tail(made).show([], chosen=True)
    assert shown(made) == "Nothing matches.\n"


def test_tail_is_oldest_first(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway gives the newest first; a search goes on from page to page."""
    rows = chain(4)
    pages = [answer(rows[3:], "4"), answer([rows[3]], "4"), answer([]), answer([rows[1]])]
    pages[2] = answer([], "2")
    console.on("GET", "audit", pages)
    status, out, _ = console.run(capsys, "audit", "tail", "-n", "5", "--who", "ana")
    assert status == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["2", "4"]
    assert [asked[2].get("cursor") for asked in console.asked] == [None, None, "4", "2"]
    assert console.asked[1][2]["who"] == "ana"


def test_tail_follows(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes later is shown as it comes, a row of JSON on a line."""
    rows = chain(3)
    later = [answer([rows[1]]), answer([]), answer([rows[2]])]
    console.on("GET", "audit", [answer(rows[:1]), answer(rows[:1]), *later])
    turns = iter([None, None])

    def passed(_: float) -> None:
        if next(turns, "over") == "over":
            raise KeyboardInterrupt

    monkeypatch.setattr("palyra.cli.audit.time.sleep", passed)
    status, out, _ = console.run(capsys, "audit", "tail", "--follow", "--json")
    assert status == 130
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2, 3]
    assert [asked[2].get("after_seq") for asked in console.asked][2:] == ["1", "2", "2"]


# -- verify -----------------------------------------------------------------------------------


def test_what_is_proven_and_what_is_not() -> None:
    """How far the chain is anchored, and who could rewrite the rest."""
    made = screen()
    show_verdict(made, seen(), [], outside=False)
    assert shown(made) == (
        "ok    1\u2009042 rows hang together, 1 to 1042\n"
        "      anchored up to row 1030 at 03:44:00; 12 newer rows are not anchored yet: "
        "whoever owns the database could rewrite those\n"
    )
    assert "palyra audit verify --anchors FILE" in told(made)


def test_a_chain_without_anchors() -> None:
    """Nothing of it is proven."""
    made = screen()
    show_verdict(made, seen(anchored_seq=0, anchored_at_unix_ms=None), [], outside=True)
    assert shown(made).splitlines()[1] == (
        "      no row is anchored yet: whoever owns the database could rewrite those"
    )
    assert told(made) == ""


def test_faults_are_named(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """And the command fails."""
    console.on("GET", "audit/verify", seen(faults=["row 7 was changed, or the row before it"]))
    status, out, _ = console.run(capsys, "audit", "verify")
    assert status == 1
    assert "fault\trow 7 was changed, or the row before it\n" in out
    made = screen()
    show_verdict(made, seen(faults=["row 7 is missing"]), ["a note"], outside=True)
    assert shown(made).splitlines()[:2] == [
        "FAIL  1\u2009042 rows looked through",
        "      row 7 is missing",
    ]


def verified(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, list[str]]:
    status, out, err = console.run(capsys, "audit", "verify", *args, "--json")
    return status, json.loads(out or err)["faults"]


def test_anchors_from_elsewhere_are_compared(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the rows of a running gateway: another hash, a row that is gone, a foreign key."""
    rows = chain(3)
    console.on("GET", "audit/verify", seen(rows=3, last_seq=3, anchored_seq=0))
    public = KEY.public_key().public_bytes_raw().hex()
    console.on("GET", "audit/heads", AuditHeads(Contract(), Page(1, 0, False), public, []))
    log = tmp_path / "log"
    log.write_text(f"Nov 22 host palyra: {anchor(rows[1])}\n")
    console.on("GET", "audit", answer([rows[1]]))
    assert verified(console, capsys, "--anchors", str(log)) == (0, [])
    console.on("GET", "audit", answer([item(2, NOW, hash="11" * 32)]))
    wrong = "row 2 is not the one that was anchored"
    assert verified(console, capsys, "--anchors", str(log)) == (1, [wrong])
    console.on("GET", "audit", answer([]))
    assert verified(console, capsys, "--anchors", str(log))[0] == 1
    log.write_text(Head(CHAIN, 2, bytes(32), NOW, signature=bytes(64)).line)
    status, faults = verified(console, capsys, "--anchors", str(log))
    assert (status, len(faults)) == (1, 1)
    assert "signature" in faults[0]


def test_a_log_without_anchors_is_a_mistake(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing would be compared."""
    log = tmp_path / "log"
    log.write_text("nothing here\n")
    status, _, err = console.run(capsys, "audit", "verify", "--anchors", str(log))
    assert status == 2
    assert "no anchor" in err


# -- export -----------------------------------------------------------------------------------


def exported(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path, *args: str
) -> Path:
    status, out, _ = console.run(capsys, "audit", "export", *args)
    assert status == 0
    file = tmp_path / "export"
    file.write_text(out)
    return file


@pytest.mark.parametrize("details", ["--with-details", "--without-details"])
def test_an_export_is_verified_anywhere(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path, details: str
) -> None:
    """Row by row, with or without details, also from a number on; a change is found."""
    rows = chain(5)
    console.on("GET", "audit", [answer(rows[:3], "3"), answer(rows[3:])])
    file = exported(console, capsys, tmp_path, details)
    assert len(file.read_text().splitlines()) == 5
    assert verified(console, capsys, "--file", str(file)) == (0, [])
    lines = file.read_text().splitlines()
    part = tmp_path / "part"
    part.write_text("\n".join(lines[2:]))
    assert verified(console, capsys, "--file", str(part)) == (0, [])
    part.write_text("\n".join(lines).replace('"action":"n.3"', '"action":"n.9"'))
    assert verified(console, capsys, "--file", str(part))[1][0].startswith("row 3 was changed")
    log = tmp_path / "log"
    log.write_text(anchor(rows[4]))
    part.write_text("\n".join(lines[:4]))
    anchored = ("--file", str(part), "--anchors", str(log))
    assert "are missing" in verified(console, capsys, *anchored)[1][0]


def test_changed_details_of_an_export_are_found(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also where their salt was taken away with them."""
    console.on("GET", "audit", answer(chain(2)))
    file = exported(console, capsys, tmp_path)
    text = file.read_text().replace('{"n":2}', '{"n":3}')
    file.write_text(text)
    fault = "the details of row 2 were changed"
    assert verified(console, capsys, "--file", str(file)) == (1, [fault])
    file.write_text(text.replace(f'"salt":"{"02" * 16}"', '"salt":""'))
    assert verified(console, capsys, "--file", str(file)) == (1, [fault])


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"seq":1}\n'])
def test_what_is_no_export_is_a_mistake(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """And the line is named."""
    file = tmp_path / "export"
    file.write_text(text)
    assert console.run(capsys, "audit", "verify", "--file", str(file))[0] == 2


def test_rows_of_every_kind_have_a_place() -> None:
    """A name with an id, a name alone, an id alone, a chain."""
    assert auditlines._on(APPROVED) == "pi T6MW3K"
    assert auditlines._on(DENIED) == "nas"
    assert auditlines._on(item(1, NOW - H, subject="", subject_name="2 devices")) == "2 devices"
    assert auditlines._on(item(1, NOW, subject=f"chain:{CHAIN}", subject_name="")) == "chain"
    assert auditlines._on(item(1, NOW, subject="policy:rule-4", subject_name="")) == "rule-4"


# -- a gateway that does not run --------------------------------------------------------------


def test_the_file_of_a_stopped_gateway_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read only: what was changed in it is named, and nothing is written."""
    from palyra.cli import main

    calls, path = Calls(), tmp_path / "palyra.sqlite3"
    store = calls.open(path)
    calls.wait(store.record([AuditEntry(NOW, f"n.{number}") for number in range(3)]))
    calls.wait(store.close())
    before = sorted(tmp_path.iterdir())
    assert main(["audit", "verify", "--state-root", str(tmp_path)]) == 0
    assert sorted(tmp_path.iterdir()) == before
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE audit SET who = 'x' WHERE seq = 3")
    raw.close()
    capsys.readouterr()
    assert main(["audit", "verify", "--state-root", str(tmp_path)]) == 1
    assert "fault\trow 3 was changed" in capsys.readouterr().out


def test_no_state_no_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without a gateway's record."""
    from palyra.cli import main

    assert main(["audit", "verify", "--state-root", str(tmp_path)]) != 0
    assert "holds no state of a gateway" in capsys.readouterr().err
