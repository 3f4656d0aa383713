"""How many files this process may have open: as many as the system allows, and never a failure."""

from __future__ import annotations

import resource

import pytest

from palyra._openfiles import raise_open_files

ENDLESS = resource.RLIM_INFINITY
MOST = 1_048_576


class Limits:
    """What a system says and takes, in place of this one's."""

    def __init__(self, soft: int, hard: int, refusal: Exception | None = None) -> None:
        self.now = (soft, hard)
        self.refusal = refusal

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        if self.refusal is not None:
            raise self.refusal
        self.now = limits


def given(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> Limits:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return limits


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        (1_024, 4_096, 4_096),
        (1_024, 2 * MOST, MOST),
        (1_024, ENDLESS, MOST),
    ],
)
def test_it_is_raised(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, after: int) -> None:
    """To what is allowed, and no further than a daemon can use; the hard limit stays."""
    limits = given(monkeypatch, Limits(soft, hard))
    assert raise_open_files() == after
    assert limits.now == (after, hard)


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (4_096, 4_096, 4_096),
        (2 * MOST, ENDLESS, 2 * MOST),
        (ENDLESS, ENDLESS, MOST),
    ],
)
def test_what_is_enough_stays(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, said: int
) -> None:
    """It is never lowered."""
    limits = given(monkeypatch, Limits(soft, hard))
    assert raise_open_files() == said
    assert limits.now == (soft, hard)


@pytest.mark.parametrize("refusal", [OSError(1, "not permitted"), ValueError("above the maximum")])
def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch, refusal: Exception) -> None:
    """The daemon goes on with what it has."""
    limits = given(monkeypatch, Limits(1_024, 4_096, refusal))
    assert raise_open_files() == 1_024
    assert limits.now == (1_024, 4_096)


def test_a_system_without_such_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none that can be asked for; a number is needed all the same."""
    monkeypatch.setattr("palyra._openfiles.sys.platform", "win32")
    assert raise_open_files() == 8_192
