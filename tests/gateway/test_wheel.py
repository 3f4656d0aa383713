"""The timer wheel against a naive model: every key is due once, in time, on whatever clock."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from palyra.gateway.wheel import TimerWheel

TICK_MS = 100
KEYS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(-1_000, 5_000)),
    st.tuples(st.just("discard"), KEYS, st.just(0)),
    st.tuples(st.just("pass"), st.just(0), st.integers(0, 1_500)),
    st.tuples(st.just("jump"), st.just(0), st.integers(-20_000, 20_000)),
)


class Wheel:
    """A wheel whose wall clock can jump while its driver goes on."""

    def __init__(self) -> None:
        self.driver = Clock()
        self.now_ms = 1_000_000
        self.due: list[tuple[Hashable, int]] = []
        self.wheel = TimerWheel(
            self.driver, lambda: self.now_ms, lambda key, now: self.due.append((key, now))
        )
        self.wheel.start()

    def pass_ms(self, milliseconds: int) -> None:
        """Time passes on both clocks."""
        for _ in range(milliseconds // 50):
            self.now_ms += 50
            self.driver.advance(0.05)


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=100, deadline=None)
def test_against_a_naive_model(steps: list[tuple[str, int, int]]) -> None:
    """A key is never due before its time by the wall clock, never twice, and at most two ticks
    (and one step of the driver) after it, also where the clock jumps either way."""
    wheel = Wheel()
    wanted: dict[Hashable, int] = {}
    for kind, key, value in steps:
        if kind == "set":
            wanted[key] = wheel.now_ms + value
            wheel.wheel.set(key, wanted[key])
        elif kind == "discard":
            wanted.pop(key, None)
            wheel.wheel.discard(key)
        elif kind == "jump":
            wheel.now_ms += value
        else:
            for _ in range(value // 50):
                before = dict(wanted)
                wheel.pass_ms(50)
                for due, at_ms in wheel.due:
                    assert before.pop(due) <= at_ms == wheel.now_ms, "too early, or twice"
                    del wanted[due]
                wheel.due.clear()
        if kind == "pass" and value >= 3 * TICK_MS:
            late = [each for each in wanted.values() if each + 2 * TICK_MS < wheel.now_ms]
            assert late == [], "too late"
    wheel.wheel.stop()
    assert not wheel.driver.getDelayedCalls()


def test_a_clock_that_goes_back_delays_nothing_new() -> None:
    """An hour back: what is set from then on is due by the new time, at once and after a turn."""
    wheel = Wheel()
    wheel.pass_ms(1_000)
    wheel.now_ms -= 3_600_000
    wheel.wheel.set("at once", wheel.now_ms + 500)
    wheel.pass_ms(800)
    wheel.wheel.set("later", wheel.now_ms + 500)
    wheel.pass_ms(800)
    assert [key for key, _ in wheel.due] == ["at once", "later"]


def test_a_key_may_set_itself_again() -> None:
    """``due`` may set and discard keys, its own included."""
    wheel = Wheel()
    again = iter([True, False])

    def due(key: Hashable, now_ms: int) -> None:
        wheel.due.append((key, now_ms))
        other.discard("never")
        if next(again):
            other.set(key, now_ms)

    other = TimerWheel(wheel.driver, lambda: wheel.now_ms, due)
    other.start()
    other.set("key", wheel.now_ms)
    wheel.pass_ms(1_000)
    assert [key for key, _ in wheel.due] == ["key", "key"]
    other.stop()
    other.stop()


@given(st.lists(st.tuples(KEYS, st.sampled_from(["set", "discard", "raise"])), max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_is_due_may_touch_what_is_due_with_it(acts: list[tuple[int, str]]) -> None:
    """Keys of one slot may move and discard one another, or fail, and no deadline stops."""
    wheel = Wheel()
    left = iter(acts)

    def due(key: Hashable, now_ms: int) -> None:
        wheel.due.append((key, now_ms))
        other, act = next(left, (0, "none"))
        if act == "set":
            meddled.set(other, now_ms + 200)
        elif act == "discard":
            meddled.discard(other)
        elif act == "raise":
            raise RuntimeError("a fault of one key")

    meddled = TimerWheel(wheel.driver, lambda: wheel.now_ms, due)
    meddled.start()
    for key in range(6):
        meddled.set(key, wheel.now_ms + 100)
    wheel.pass_ms(6_000)
    meddled.set("last", wheel.now_ms + 100)
    wheel.pass_ms(6_000)  # what is left of the acts may set a key twelve times more
    assert [key for key, _ in wheel.due].count("last") == 1
    assert meddled._slots == {} and meddled._slot_of == {}
    meddled.stop()


def test_a_stopped_wheel_is_silent() -> None:
    """After the stop nothing is due, and a wheel that never started may be stopped."""
    wheel = Wheel()
    wheel.wheel.set("key", wheel.now_ms)
    wheel.wheel.stop()
    wheel.pass_ms(1_000)
    assert wheel.due == []
    TimerWheel(wheel.driver, lambda: 0, lambda *_: None).stop()
