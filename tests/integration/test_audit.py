"""The audit chain of a real gateway: what was done is on it, and a changed row is named."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

import pytest

from tests.integration.house import Gateway, House
from tests.integration.processes import eventually

CONFIG = """
[audit]
anchor_s = 1
anchor_file = "heads"
"""


@pytest.fixture
def gateway(house: House) -> Gateway:
    """A gateway that anchors every second."""
    return house.gateway(config=CONFIG).start()


def tail(gateway: Gateway) -> list[tuple[str, str, str]]:
    """Action, what it was done to and how it ended, oldest first."""
    done = gateway.cli("audit", "tail", "-n", "100")
    rows = [line.split("\t") for line in done.out.splitlines()]
    return [(row[3], row[4].partition(":")[0], row[5]) for row in rows]


def verified(gateway: Gateway, *arguments: str) -> tuple[int, Any]:
    done = gateway.cli("audit", "verify", *arguments, "--json")
    return done.code, json.loads(done.out or done.err)


def spoil(gateway: Gateway, statement: str) -> None:
    with sqlite3.connect(gateway.root / "palyra.sqlite3") as raw:
        assert raw.execute(statement).rowcount == 1
    raw.close()


def test_a_changed_row_is_found(house: House, gateway: Gateway) -> None:
    """Pairing, a job and a label are on the chain; it is anchored; whoever changes, deletes or
    cuts off rows in the database is found out, with the gateway stopped or running."""
    house.node("pi").pair(gateway)
    assert gateway.cli("nodes", "invoke", "pi", "echo", "--input", '{"text":"hello"}').code == 0
    assert gateway.cli("nodes", "label", "pi", "room=lab").code == 0
    told = tail(gateway)
    for wanted in (
        ("chain.started", "-", "ok"),
        ("pairing.approved", "device", "ok"),
        ("certificate.issued", "device", "ok"),
        ("job.submitted", "job", "ok"),
        ("job.ended", "job", "succeeded"),
        ("device.changed", "device", "ok"),
    ):
        assert wanted in told, told

    def anchored() -> bool:
        code, seen = verified(gateway)
        assert (code, seen["faults"]) == (0, [])
        return bool(seen["anchored_seq"] == seen["last_seq"])

    eventually(anchored, "the head is anchored")
    heads = gateway.root / "heads"
    code, before = verified(gateway, "--anchors", str(heads))
    assert (code, before["faults"]) == (0, [])
    assert "palyra-audit-head v1" in gateway.process.output()
    export = gateway.cli("audit", "export").out
    exported = house.path / "rows.jsonl"
    exported.write_text(export)
    assert verified(gateway, "--file", str(exported))[0] == 0

    gateway.process.terminate()
    assert verified(gateway, "--anchors", str(heads))[0] == 0
    spoil(gateway, "UPDATE audit SET who = 'nobody' WHERE seq = 3")
    done = gateway.cli("audit", "verify")
    assert done.code == 1
    assert re.search(r"fault\trow 3 was changed", done.out)
    gateway.start()
    code, seen = verified(gateway)
    assert (code, seen["faults"][0]) == (1, "row 3 was changed, or the row before it")


def test_a_cut_chain_is_found_by_its_anchors(house: House, gateway: Gateway) -> None:
    """The chain alone holds; what was anchored elsewhere shows what is missing."""
    assert gateway.cli("pairing", "code").code == 0
    heads = gateway.root / "heads"

    def anchored() -> bool:
        return heads.exists() and re.search(r"v1 \w+ 2 ", heads.read_text()) is not None

    eventually(anchored, "the second row is anchored")
    gateway.process.terminate()
    spoil(gateway, "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    with sqlite3.connect(gateway.root / "palyra.sqlite3") as raw:
        raw.execute("DELETE FROM audit_heads")
    raw.close()
    assert verified(gateway)[0] == 0
    code, seen = verified(gateway, "--anchors", str(heads))
    assert code == 1
    assert "missing" in seen["faults"][0]
