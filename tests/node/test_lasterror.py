"""Tests of :mod:`palyra.node.lasterror` and :mod:`palyra.node.lasterrorfile`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute, fail

from palyra.errors import ClockSkew, DiskFull, GatewayUnreachable, PalyraError, RemoteRefusal
from palyra.node.controlwords import LastError
from palyra.node.lasterror import LastErrors
from palyra.node.lasterrorfile import MAX_TEXT, LastErrorFile, Outage, last_error_at

AWAY = GatewayUnreachable("home.example.org:7444", "connection refused")
REVOKED = RemoteRefusal("device_revoked", "This device was revoked on 2 Jun.", final=True)


class Kept:
    """The errors of a node host, a clock, and how often something was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = 1_000
        self.clock_set_ms = 0
        self.writes = 0
        self.errors = self.again()

    def again(self) -> LastErrors:
        """As after a restart."""
        return LastErrors.open(
            self.path,
            now_ms=lambda: self.now_ms,
            elapsed_s=lambda: (self.now_ms - self.clock_set_ms) / 1000,
            in_thread=self._write,
        )

    def _write(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.writes += 1
        return execute(function, *arguments)

    @property
    def file(self) -> dict[str, Any]:
        """What is on disk."""
        told: dict[str, Any] = json.loads(self.path.read_text())
        return told

    @property
    def last(self) -> LastError:
        """The last one."""
        assert self.errors.last is not None
        return self.errors.last


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "last-error.json")


def test_an_outage(kept: Kept) -> None:
    """It is written when it begins and when it heals, and not at each try between."""
    assert kept.errors.last is None
    for kept.now_ms in (2_000, 3_000, 4_000):
        kept.errors.begins(Outage.GATEWAY, AWAY)
    assert kept.writes == 1
    assert (kept.last.began_at_unix_ms, kept.last.healed_at_unix_ms) == (2_000, 0)
    assert (kept.last.code, kept.last.where) == ("gateway_unreachable", "home.example.org:7444")
    kept.now_ms = 42_000
    kept.errors.heals(Outage.GATEWAY)
    kept.errors.heals(Outage.GATEWAY)
    assert kept.writes == 2
    assert kept.file["healed_at_unix_ms"] == 42_000
    assert kept.last == kept.again().last
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_the_cause_changes(kept: Kept) -> None:
    """While one lasts its newest cause is told; that only a person can end it is on disk too."""
    kept.errors.begins(Outage.GATEWAY, AWAY)
    kept.errors.begins(Outage.GATEWAY, ClockSkew("00:31", "02:43"))
    assert kept.last.code == "clock_skew" and kept.writes == 1
    kept.errors.begins(Outage.GATEWAY, REVOKED, final=True)
    kept.errors.begins(Outage.GATEWAY, REVOKED, final=True)
    assert kept.writes == 2
    assert kept.file["sentence"] == REVOKED.sentence
    assert kept.last.began_at_unix_ms == 1_000


def test_it_lasts_over_a_restart(kept: Kept) -> None:
    """What lasted when the host ended began then, and heals when the next one can work."""
    kept.errors.begins(Outage.GATEWAY, REVOKED, final=True)
    kept.errors = kept.again()
    kept.now_ms = 9_000
    kept.errors.begins(Outage.GATEWAY, AWAY)
    kept.errors.heals(Outage.GATEWAY)
    assert (kept.last.began_at_unix_ms, kept.last.healed_at_unix_ms) == (1_000, 9_000)


def test_two_at_once(kept: Kept) -> None:
    """The newest that lasts is told, then the other one, then the one that was over last."""
    kept.errors.begins(Outage.GATEWAY, AWAY)
    kept.now_ms = 2_000
    kept.errors.begins(Outage.STORAGE, DiskFull("/srv"))
    assert kept.last.code == "disk_full"
    kept.errors.heals(Outage.STORAGE)
    assert kept.last.code == "gateway_unreachable" and kept.errors.lasts(Outage.GATEWAY)
    kept.errors.heals(Outage.GATEWAY)
    assert kept.last.code == "gateway_unreachable" and kept.last.healed_at_unix_ms == 2_000


def test_the_gateway_closed_the_session(kept: Kept) -> None:
    """Without an error it is said all the same."""
    kept.errors.begins(Outage.GATEWAY, None)
    assert kept.last.sentence == "The gateway closed the session."


@pytest.mark.parametrize("trouble", [DiskFull("/srv"), OSError(5, "Input/output error")])
def test_a_disk_in_trouble(kept: Kept, trouble: Exception) -> None:
    """It is told from memory, the host goes on, and what comes later is written again."""
    writing: list[Deferred[Any]] = []

    def troubled(*_: Any) -> Deferred[Any]:
        writing.append(Deferred())
        return writing[-1]

    errors = LastErrors(kept.path, now_ms=lambda: 7, elapsed_s=lambda: 7.0, in_thread=troubled)
    errors.begins(Outage.STORAGE, DiskFull("/srv"))
    errors.heals(Outage.STORAGE)
    assert len(writing) == 1, "one write at a time"
    over = errors.when_written()
    writing[0].errback(trouble)
    assert len(writing) == 2 and not over.called
    writing[1].callback(None)
    assert over.called and errors.last is not None
    failing = LastErrors(
        kept.path, now_ms=lambda: 7, elapsed_s=lambda: 7.0, in_thread=lambda *_: fail(trouble)
    )
    failing.begins(Outage.STORAGE, DiskFull("/srv"))
    assert failing.when_written().called


STRANGE = (
    b'{"schema_version":1,"outage":"moon","code":"","sentence":"","hint":"","began_at_unix_ms":1}'
)
LONG = b" " * 100_000


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b'{"schema_version":9}', b"[" * 10_000, LONG, STRANGE]
)
def test_a_damaged_file(kept: Kept, data: bytes) -> None:
    """It is forgotten, and replaced at the next outage where its version is ours."""
    kept.path.write_bytes(data)
    errors = kept.again()
    assert errors.last is None
    errors.begins(Outage.GATEWAY, AWAY)
    assert errors.when_written().called


def test_text_from_elsewhere(kept: Kept) -> None:
    """What a gateway says, or stands in the file, is bounded and cannot steer a terminal."""
    kept.errors.begins(Outage.GATEWAY, RemoteRefusal("x", "evil\x1b[2J\u202e" + "y" * 999))
    assert len(kept.last.sentence) == MAX_TEXT
    assert "\x1b" not in kept.last.sentence and "\u202e" not in kept.last.sentence
    file = LastErrorFile(1, Outage.GATEWAY, "c", "\x1b[2J", "\x07", 5)
    last_error_at(kept.path).write(file)
    told = kept.again().last
    assert told is not None and told.sentence == "\\u001b[2J" and told.hint == "\\u0007"


def test_a_fault_of_our_own(kept: Kept) -> None:
    """Every error of the tree has a sentence to be kept."""
    kept.errors.begins(Outage.CERTIFICATE, PalyraError())
    assert kept.file["code"] == "internal"


def test_a_clock_that_was_set(kept: Kept) -> None:
    """An outage is as old as it is, and lasted as long as it did; what is over stays what was
    said of it."""
    kept.errors.begins(Outage.GATEWAY, AWAY)
    decades_ms = 1_700_000_000_000
    kept.clock_set_ms += decades_ms
    kept.now_ms += decades_ms + 40_000
    assert kept.last.began_at_unix_ms == 1_000 + decades_ms
    kept.errors.begins(Outage.GATEWAY, AWAY)
    kept.errors.heals(Outage.GATEWAY)
    assert kept.last.healed_at_unix_ms - kept.last.began_at_unix_ms == 40_000
    assert kept.file["began_at_unix_ms"] == 1_000 + decades_ms
    kept.now_ms -= decades_ms
    assert kept.last.began_at_unix_ms == 1_000 + decades_ms
