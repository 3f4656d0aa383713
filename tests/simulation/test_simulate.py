"""Tests of ``python -m palyra.testing.simulate``."""

from __future__ import annotations

import json

import pytest

from palyra.testing import simulate
from palyra.testing.simulation.world import World


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends logging and freezes what is in memory; a test must do neither."""
    monkeypatch.setattr(simulate, "_prepare", lambda: None)


def test_totals_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """How many hours were simulated, and which faults were made."""
    assert simulate.main(["--seed", "1", "--runs", "3", "--steps", "40"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 worlds, ")
    assert "simulated hours" in out and out.endswith("0 violations\n")


def test_totals_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    assert simulate.main(["--seed", "1", "--runs", "2", "--steps", "40", "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)
    assert totals["runs"] == 2 and totals["violations"] == []
    assert totals["events"] > 0 and totals["jobs"] > 0


def test_a_trace_ends_with_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of one world."""
    assert simulate.main(["--seed", "1", "--steps", "40", "--trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 40
    assert lines[-1].endswith(World(1, 40).run().digest)


def test_a_violation_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole text on stderr and a line of it on stdout."""
    monkeypatch.setattr(simulate, "simulate", lambda seed, steps: f"seed {seed}: no\ntrace")
    assert simulate.main(["--seed", "4"]) == 1
    said = capsys.readouterr()
    assert said.err == "seed 4: no\ntrace\n"
    assert said.out.startswith("seed 4: no\n1 worlds")
