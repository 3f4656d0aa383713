"""What the running gateway says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from palyra.console.models import Check, Health
from palyra.gateway import health
from palyra.gateway.health import DAY_MS, HealthCheck
from tests.gateway.house import House, result_of


def reported(house: House, root: Path, **changes: Any) -> Health:
    given: dict[str, Any] = {
        "state_root": root,
        "now_ms": house.now_ms,
        "ca_fingerprint": "7d4c19e203abf58e" * 4,
        "ca_not_after_ms": house.now_ms() + 3_650 * DAY_MS,
        "gateway_not_after_ms": lambda: house.now_ms() + 30 * DAY_MS,
        "listeners": lambda: {"nodes": "127.0.0.1:7444"},
        "snapshot_error": lambda: None,
        "imported": False,
        "inventory": house.inventory,
        "sessions": house.sessions,
        **changes,
    }
    return result_of(Deferred.fromCoroutine(HealthCheck(**given).report()))


def check(report: Health, name: str) -> Check:
    (found,) = [each for each in report.checks if each.name == name]
    return found


def test_all_is_well(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is ok, and says what it found."""
    monkeypatch.setattr(health, "LOW_SPACE_BYTES", 0)
    house.online()
    house.device("other")
    report = reported(house, tmp_path)
    assert {each.verdict for each in report.checks} == {"ok"}
    assert check(report, "devices").finding == "2 known, 1 connected"
    assert check(report, "CA").finding == "7d4c 19e2 03ab f58e, 3650 days left"
    assert check(report, "listeners").finding == "nodes 127.0.0.1:7444"
    assert report.state_root == str(tmp_path)


@pytest.mark.parametrize(
    ("days", "verdict"), [(366, "ok"), (365, "warn"), (0, "FAIL"), (-1, "FAIL")]
)
def test_the_authority(house: House, tmp_path: Path, days: int, verdict: str) -> None:
    """A CA near its end warns a year ahead: every device must pair again."""
    report = reported(house, tmp_path, ca_not_after_ms=house.now_ms() + days * DAY_MS)
    assert check(report, "CA").verdict == verdict


def test_the_certificate(house: House, tmp_path: Path) -> None:
    """A gateway certificate that was not renewed in time warns."""
    soon = house.now_ms() + 4 * DAY_MS
    report = reported(house, tmp_path, gateway_not_after_ms=lambda: soon)
    assert check(report, "certificate").verdict == "warn"


def test_the_snapshot(house: House, tmp_path: Path) -> None:
    """A snapshot that could not be written warns with the cause."""
    report = reported(house, tmp_path, snapshot_error=lambda: OSError("no space"))
    assert (check(report, "snapshot").verdict, check(report, "snapshot").finding) == (
        "warn",
        "no space",
    )


def test_low_space(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space fails the check, before the store does."""
    monkeypatch.setattr(health, "LOW_SPACE_BYTES", 1 << 62)
    assert check(reported(house, tmp_path), "disk").verdict == "FAIL"


def test_an_import_is_pointed_at(house: House, tmp_path: Path) -> None:
    """A store made from the snapshot may have missed revocations; an operator must look."""
    assert check(reported(house, tmp_path, imported=True), "import").verdict == "warn"
