"""Tests of :mod:`palyra.node.consents`."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred

from palyra.core.consents import EXACTLY, Scope
from palyra.errors import AmbiguousTarget, DiskFull, FileTooNew, NotFound, StoreCorrupt
from palyra.node import consents as consents_file
from palyra.node.consents import MAX_KEPT, Choice, Consents
from tests.conftest import UnhandledFailures
from tests.node.fakes import NOW_MS

URL = Scope("origin https://example.org", "https://example.org")
INPUT = Scope("input " + "a" * 64, EXACTLY)
D1, D2 = "1" * 64, "2" * 64


def opened(path: Path, in_thread: Callable[..., Deferred[None]] = maybeDeferred) -> Consents:
    """Those of a file."""
    number = itertools.count()
    return Consents.open(
        path,
        now_ms=lambda: NOW_MS,
        entropy=lambda count: next(number).to_bytes(count, "big"),
        in_thread=in_thread,
    )


def remember(
    consents: Consents, choice: str = "always", scope: Scope = URL, digest: str = D1
) -> Choice:
    return consents.remember(
        choice, "x.y", digest, scope, argument="https://example.org/a", decided_by="ana"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consents.json"


def test_always_outlives_the_host(path: Path) -> None:
    """It is found again with who said it; the file is its owner's alone."""
    kept = remember(opened(path))
    again = opened(path)
    assert again.find("x.y", D1, URL) == kept
    assert again.remembered() == (kept,)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_bytes())["schema_version"] == 1


def test_a_session_ends_with_the_host(path: Path) -> None:
    """It is never written."""
    consents = opened(path)
    kept = remember(consents, "session")
    assert consents.find("x.y", D1, URL) == kept
    assert not path.exists()


def test_only_such_calls(path: Path) -> None:
    """Another capability or another scope is asked."""
    consents = opened(path)
    remember(consents)
    assert consents.find("x.z", D1, URL) is None
    assert consents.find("x.y", D1, INPUT) is None


def test_another_descriptor_voids_it(path: Path) -> None:
    """For good, on disk too: the old one coming back is asked as well."""
    consents = opened(path)
    remember(consents)
    remember(consents, scope=INPUT)
    assert consents.find("x.y", D2, URL) is None
    assert consents.remembered() == ()
    assert opened(path).find("x.y", D1, URL) is None


def test_a_session_does_not_shorten_always(path: Path) -> None:
    """Two questions of one kind may have been open; always lengthens a session."""
    consents = opened(path)
    remember(consents, "session")
    kept = remember(consents)
    assert kept.choice == "always"
    assert remember(consents, "session") == kept
    assert opened(path).remembered() == (kept,)


def test_forget(path: Path) -> None:
    """By its id, or the beginning of the random part that only it has."""
    consents = opened(path)
    first, second = remember(consents), remember(consents, scope=INPUT)
    with pytest.raises(AmbiguousTarget) as many:
        consents.forget("0000")
    assert many.value.hint == "palyra node requests --remembered"
    for wanted in ("zzzz", "", "\u202e", "01M"):
        with pytest.raises(NotFound):
            consents.forget(wanted)
    assert consents.forget(first.choice_id[10:].lower()) == first
    assert consents.remembered() == opened(path).remembered() == (second,)
    assert consents.forget(second.choice_id) == second
    assert opened(path).remembered() == ()


def test_the_oldest_is_forgotten_for_one_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is bounded, of each kind."""
    monkeypatch.setattr(consents_file, "MAX_KEPT", 2)
    consents = opened(path)
    scopes = [Scope(f"input {number}", EXACTLY) for number in range(3)]
    remember(consents, "session")
    for scope in scopes:
        remember(consents, scope=scope)
    kept = [consents.find("x.y", D1, scope) is not None for scope in (URL, *scopes)]
    assert kept == [True, False, True, True]
    assert len(opened(path).remembered()) == 2


def test_what_is_shown_is_bounded_and_escaped(path: Path) -> None:
    """A file of ours never holds an argument whole."""
    kept = opened(path).remember(
        "always", "x.y", D1, INPUT, argument="\u202e" * 2_000, decided_by="a\nb"
    )
    assert len(kept.argument) == 512 and kept.argument.startswith("\\u202e")
    assert kept.decided_by == "a\\u000ab"
    assert opened(path).remembered() == (kept,)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"choices":[]}',
        b'{"schema_version":0,"choices":[]}',
        b'{"schema_version":1,"choices":[{"choice":"rule"}]}',
        b"[" * 100_000,
        b" " * (consents_file.MAX_FILE + 1),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_kept_aside(path: Path, damage: bytes) -> None:
    """Everything is asked again, and nothing of it is overwritten."""
    path.write_bytes(damage)
    consents = opened(path)
    assert consents.remembered() == ()
    assert path.with_name("consents.json.corrupt").read_bytes() == damage
    kept = remember(consents)
    assert opened(path).remembered() == (kept,)


def test_a_file_of_a_newer_version_is_left(path: Path) -> None:
    """What it allows under which conditions is not known here: neither read nor put aside."""
    newer = b'{"schema_version":2,"choices":[]}'
    path.write_bytes(newer)
    with pytest.raises(FileTooNew):
        opened(path)
    assert path.read_bytes() == newer and [each.name for each in path.parent.iterdir()] == [
        path.name
    ]


def test_what_a_later_program_noted_is_kept(path: Path) -> None:
    """Unknown keys of the file, and of choices that still hold, survive a write by this one."""
    remember(opened(path))
    noted = json.loads(path.read_bytes())
    noted["choices"][0]["note"] = "by mail"
    path.write_text(json.dumps(noted | {"more": 1}))
    consents = opened(path)
    remember(consents, scope=INPUT)
    found = json.loads(path.read_bytes())
    assert found["more"] == 1 and found["choices"][0]["note"] == "by mail"
    assert consents.find("x.y", D2, URL) is None
    assert "by mail" not in path.read_text()


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_are_read_or_kept_aside(
    tmp_path_factory: pytest.TempPathFactory, b: bytes
) -> None:
    """Nothing in the file ends the host."""
    path = tmp_path_factory.mktemp("any") / "consents.json"
    path.write_bytes(b)
    assert opened(path).remembered() == ()


def test_a_file_that_cannot_be_put_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing runs: it would be overwritten."""
    path.mkdir()
    with pytest.raises(StoreCorrupt):
        opened(path)
    path.rmdir()
    path.write_bytes(b"{")

    def fails(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(StoreCorrupt):
        opened(path)


def test_a_disk_that_is_full(path: Path, unhandled_failures: UnhandledFailures) -> None:
    """The choice holds until the host stops, and the next one is written."""
    full = [True, False]

    def in_thread(write: Callable[[], None]) -> Deferred[None]:
        def fails() -> None:
            raise DiskFull("/srv")

        return maybeDeferred(fails if full.pop(0) else write)

    consents = opened(path, in_thread)
    remember(consents)
    assert consents.find("x.y", D1, URL) is not None and not path.exists()
    remember(consents, scope=INPUT)
    assert len(opened(path).remembered()) == 2


def test_one_write_at_a_time(path: Path) -> None:
    """What changes during a write is in the next, and stopping waits for that."""
    waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def in_thread(write: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        waiting.append((write, done))
        return done

    consents = opened(path, in_thread)
    idle: list[None] = []
    consents.when_written().addCallback(idle.append)
    assert len(idle) == 1
    for scope in (URL, INPUT, Scope("input b", EXACTLY)):
        remember(consents, scope=scope)
    consents.when_written().addCallback(idle.append)
    for count in (1, 3):
        assert len(waiting) == 1 and len(idle) == 1
        write, done = waiting.pop()
        write()
        done.callback(None)
        assert len(opened(path).remembered()) == count
    assert not waiting and len(idle) == 2
    assert MAX_KEPT == 1_000
