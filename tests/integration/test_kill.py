"""SIGKILL in every state of a job: what was accepted is on record, ends, and is done once.

Each seed is one kill: of the gateway, of the node, or of both, in a state that is brought about.
KILLS says how many seeds there are; ``tox -e kill`` takes 200.  Without it there is one for every
other state: those with an even Python in turn with those with an odd one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from tests.integration.house import opened
from tests.integration.killing import Pair
from tests.integration.scenes import STATES, Scene

SEEDS = range(sys.version_info.minor % 2, len(STATES), 2)
if "KILLS" in os.environ:
    SEEDS = range(int(os.environ["KILLS"]))
VICTIMS = ("gateway", "node", "both")
ALL = len(STATES) * len(VICTIMS)


def planned(seed: int) -> tuple[int, str]:
    """In which state who is killed: every state meets every victim, then all begins again."""
    turn, state = divmod(seed, len(STATES))
    return state, VICTIMS[(state + turn) % len(VICTIMS)]


def named(seed: int) -> str:
    """A seed, as pytest shows it."""
    state, victim = planned(seed)
    return f"{seed}-{STATES[state].__name__}-{victim}"


class Record:
    """Which states were hit, and how the jobs ended that were accepted on the way."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[int, str]] = Counter()
        self._ends: Counter[tuple[int, str]] = Counter()

    def hit(self, seed: int, ends: Counter[str]) -> None:
        """A kill, and its account."""
        state, victim = planned(seed)
        self.hits[state, victim] += 1
        for end, number in ends.items():
            self._ends[state, end] += number

    def table(self) -> str:
        """States and victims."""
        rows = [f"{'killed while':16}{''.join(f'{name:>9}' for name in VICTIMS)}   jobs ended"]
        for state, function in enumerate(STATES):
            hits = "".join(f"{self.hits[state, victim]:9}" for victim in VICTIMS)
            ends = sorted((end, n) for (each, end), n in self._ends.items() if each == state)
            said = ", ".join(f"{n} {end}" for end, n in ends)
            rows.append(f"{function.__name__:16}{hits}   {said}")
        return "\n".join([*rows, f"{self.hits.total()} kills, {self._ends.total()} jobs"])


class Place:
    """The pair that is killed, and a new one after a seed that failed."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._pair: Pair | None = None

    def pair(self) -> Pair:
        """A gateway and its node, online."""
        if self._pair is None:
            house = self._stack.enter_context(opened())
            self._pair = self._stack.enter_context(contextlib.closing(Pair(house)))
        self._pair.ready()
        return self._pair

    def give_up(self) -> None:
        """Show what both have said, and have new ones next time."""
        if self._pair is not None:
            print(self._pair.story())
        self.leave()

    def leave(self) -> None:
        """End them."""
        self._pair = None
        self._stack.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Where it happens."""
    place = Place()
    yield place
    place.leave()


@pytest.fixture(scope="module")
def record() -> Record:
    """What has been hit."""
    return Record()


def kill_once(seed: int, pair: Pair) -> Counter[str]:
    """Bring a state about, kill, recover, and account for every job; how the new ones ended."""
    state, victim = planned(seed)
    scene = Scene(pair, victim, Random(seed))
    known = set(pair.ledger)
    try:
        scene.crowd()
        STATES[state](scene)
        scene.kill()
        scene.recover()
    finally:
        scene.leave()
    assert pair.account() == []
    return Counter(entry.ended for job_id, entry in pair.ledger.items() if job_id not in known)


@pytest.mark.parametrize("seed", SEEDS, ids=named)
def test_every_job_is_accounted_for(place: Place, record: Record, seed: int) -> None:
    """Every accepted job is listed and final; no effect is missing, doubled or denied; a call that
    is repeated with its key makes no second job."""
    try:
        record.hit(seed, kill_once(seed, place.pair()))
    except BaseException:
        place.give_up()
        raise


def test_every_state_was_hit(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """Each state of the seeds was met by a kill, and with seeds enough by each kind of kill."""
    with capsys.disabled():
        print("\n" + record.table())
    assert {state for state, _ in record.hits} == {planned(seed)[0] for seed in SEEDS}
    assert len(record.hits) == ALL or len(SEEDS) < ALL
