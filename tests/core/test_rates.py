"""Rates: bounds by source and overall, in bounded memory, that open again by themselves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.rates import RateLimits, SourceLedger, source_of
from palyra.errors import LimitReached, Malformed, PairingLimited

HERE = "192.0.2.1"
WINDOW_MS = 600_000


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_source_is_an_address_or_a_network(address: str, source: str) -> None:
    """An IPv4 address counts by itself, an IPv6 address as its /64, a mapped one as IPv4."""
    assert source_of(address) == source


def test_what_is_no_address_is_malformed() -> None:
    """A name is not a source."""
    with pytest.raises(Malformed):
        source_of("gw.example")


def test_three_failures_block_their_source_only() -> None:
    """The third failed proof in ten minutes blocks the source until the first is forgotten."""
    ledger = SourceLedger()
    for now_ms in (0, 1_000, 2_000):
        ledger.admit(HERE, now_ms)
        ledger.proof_failed(HERE, now_ms)
    with pytest.raises(PairingLimited) as caught:
        ledger.session_started(HERE, 3_000)
    assert caught.value.retry_after_s == 597.0
    with pytest.raises(PairingLimited):
        ledger.reserve_proof(HERE, WINDOW_MS - 1)
    ledger.admit("192.0.2.2", 3_000)
    ledger.admit(HERE, WINDOW_MS)


def test_proofs_in_verification_count() -> None:
    """Proofs verified at the same time cannot exceed the bound together."""
    ledger = SourceLedger()
    ledger.proof_failed(HERE, 0)
    ledger.reserve_proof(HERE, 0)
    ledger.reserve_proof(HERE, 0)
    with pytest.raises(PairingLimited) as caught:
        ledger.reserve_proof(HERE, 0)
    assert caught.value.retry_after_s == 1.0
    ledger.release_proof(HERE)
    ledger.reserve_proof(HERE, 0)


def test_proofs_in_verification_are_bounded() -> None:
    """No more sources have a proof in verification than sessions may be open."""
    ledger = SourceLedger(RateLimits(open_sessions=1))
    ledger.reserve_proof("192.0.2.1", 0)
    ledger.reserve_proof("192.0.2.1", 0)
    with pytest.raises(LimitReached):
        ledger.reserve_proof("192.0.2.2", 0)


def test_failures_beyond_the_bound_prolong_the_block() -> None:
    """Tries that were already admitted are charged as well; the latest three count."""
    ledger = SourceLedger()
    for now_ms in (0, 1, 2, 5_000):
        ledger.proof_failed(HERE, now_ms)
    with pytest.raises(PairingLimited):
        ledger.admit(HERE, WINDOW_MS)
    ledger.admit(HERE, WINDOW_MS + 1)


def test_eight_sessions_a_source() -> None:
    """A source has eight open sessions, and one more as soon as one of them ends."""
    ledger = SourceLedger()
    for _ in range(8):
        ledger.session_started(HERE, 0)
    with pytest.raises(PairingLimited):
        ledger.session_started(HERE, 0)
    ledger.session_ended(HERE)
    ledger.session_started(HERE, 0)
    assert ledger.open_sessions == 8


def test_open_sessions_overall() -> None:
    """The gateway keeps a bounded number of open sessions."""
    ledger = SourceLedger(RateLimits(open_sessions=2))
    ledger.session_started("192.0.2.1", 0)
    ledger.session_started("192.0.2.2", 0)
    with pytest.raises(LimitReached):
        ledger.session_started("192.0.2.3", 0)
    ledger.session_ended("192.0.2.1")
    ledger.session_started("192.0.2.3", 0)


def test_session_starts_overall() -> None:
    """1024 sessions start in a minute; the next waits until the first of them is a minute old."""
    ledger = SourceLedger()
    for number in range(1024):
        ledger.session_started(f"192.0.{number // 256}.{number % 256}", number)
    with pytest.raises(LimitReached) as caught:
        ledger.session_started(HERE, 30_000)
    assert caught.value.retry_after_s == 30.0
    ledger.session_started(HERE, 60_000)


def test_fifty_failures_pause_pins() -> None:
    """Fifty failures in ten minutes pause PIN pairing for ten; another fifty are needed again."""
    ledger = SourceLedger()
    for number in range(49):
        ledger.proof_failed(f"192.0.2.{number}", number)
    assert ledger.pin_paused_until_ms is None
    ledger.proof_failed("198.51.100.1", 1_000)
    assert ledger.pin_paused_until_ms == 601_000
    ledger.proof_failed("198.51.100.2", 2_000)
    assert ledger.pin_paused_until_ms == 601_000


def test_slow_failures_do_not_pause() -> None:
    """Fifty failures over more than ten minutes pause nothing."""
    ledger = SourceLedger()
    for number in range(60):
        ledger.proof_failed(f"192.0.2.{number}", number * 20_000)
    assert ledger.pin_paused_until_ms is None


def test_many_sources_do_not_fill_the_memory() -> None:
    """However many sources fail, only so many are remembered, and old ones are dropped."""
    ledger = SourceLedger(RateLimits(remembered_sources=100))
    for number in range(1_000):
        ledger.proof_failed(f"source {number}", number)
        assert ledger.entries <= 100
    ledger.proof_failed(HERE, 1_000 + WINDOW_MS)
    assert ledger.entries == 1


steps = st.tuples(
    st.sampled_from(["start", "end", "reserve", "release", "fail"]),
    st.sampled_from(["a", "b", "c", "d", "e", "f"]),
    st.integers(0, 400_000),
)


@settings(max_examples=100)
@given(st.lists(steps, max_size=80))
def test_no_sequence_exceeds_a_bound(sequence: list[tuple[str, str, int]]) -> None:
    """Under any sequence, guesses in a window, open sessions and memory stay in their bounds."""
    limits = RateLimits(starts=10, open_sessions=6, open_per_source=2, remembered_sources=8)
    ledger, now_ms = SourceLedger(limits), 0
    opened: Counter[str] = Counter()
    reserved: Counter[str] = Counter()
    failed: dict[str, list[int]] = {}
    for what, source, wait_ms in sequence:
        now_ms += wait_ms
        try:
            if what == "start":
                ledger.session_started(source, now_ms)
                opened[source] += 1
            elif what == "end" and opened[source]:
                ledger.session_ended(source)
                opened[source] -= 1
            elif what == "reserve":
                ledger.reserve_proof(source, now_ms)
                reserved[source] += 1
            elif what in ("release", "fail") and reserved[source]:
                if what == "fail":
                    ledger.proof_failed(source, now_ms)
                    failed.setdefault(source, []).append(now_ms)
                ledger.release_proof(source)
                reserved[source] -= 1
        except (PairingLimited, LimitReached) as refused:
            assert refused.retry_after_s > 0
        assert ledger.open_sessions == opened.total() <= limits.open_sessions
        assert max(opened.values(), default=0) <= limits.open_per_source
        assert ledger.entries <= 6 + 6 + 8 + 10
        for times in failed.values():
            recent = [at for at in times if now_ms - at < limits.failure_window_ms]
            assert len(recent) <= limits.failures_per_source


def test_only_pins_pause_pins() -> None:
    """Tokens and rejoins that fail are charged to their source, and pause nobody's PINs."""
    ledger = SourceLedger()
    for number in range(60):
        ledger.proof_failed(f"192.0.2.{number}", 1_000 + number, pin=False)
    assert ledger.pin_paused_until_ms is None
    assert len(ledger.failing(2_000)) == 60


def test_a_session_that_did_not_open() -> None:
    """It takes no room and no start: whoever is refused at once keeps nobody out."""
    ledger = SourceLedger(RateLimits(starts=2, open_sessions=2, open_per_source=1))
    for now_ms in range(10):
        ledger.session_started(HERE, now_ms)
        ledger.session_refused(HERE)
    assert (ledger.open_sessions, ledger.entries) == (0, 0)
    ledger.session_started(HERE, 10)
    ledger.session_started("192.0.2.2", 10)
    with pytest.raises(LimitReached):
        ledger.session_started("192.0.2.3", 11)


def test_a_refusal_after_the_oldest_start_was_forgotten() -> None:
    """It takes away one start at most, and none where there is none."""
    ledger = SourceLedger(RateLimits(starts=1))
    ledger.session_started(HERE, 0)
    ledger.session_ended(HERE)
    ledger.session_started(HERE, 60_000)
    ledger.session_refused(HERE)
    ledger.session_started(HERE, 60_001)
    with pytest.raises(LimitReached):
        ledger.session_started(HERE, 60_002)


def test_what_is_no_guess() -> None:
    """A source with failed guesses may still open what cannot be guessed; its room is the same."""
    ledger = SourceLedger(RateLimits(open_per_source=1))
    for now_ms in range(3):
        ledger.proof_failed(HERE, now_ms)
    with pytest.raises(PairingLimited):
        ledger.session_started(HERE, 10)
    ledger.session_started(HERE, 10, guess=False)
    with pytest.raises(PairingLimited) as caught:
        ledger.session_started(HERE, 11, guess=False)
    assert caught.value.retry_after_s == 300.0
