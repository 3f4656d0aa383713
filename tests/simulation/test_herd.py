"""Many nodes lose their gateway together: four hundred, at a twenty-fifth of what one can take."""

from __future__ import annotations

import json

import pytest

from palyra.testing.simulation import herd
from palyra.testing.simulation.frontdoor import Costs
from palyra.testing.simulation.herd import STORIES, Herd, Return

NODES, RATE = 400, 12
COSTS = Costs(handshake_s=0.075, register_s=0.05, refuse_s=0.0075)


@pytest.fixture(scope="module")
def told() -> dict[str, Return]:
    """How it went, in every story."""
    herds = {name: Herd(NODES, costs=COSTS, rate_per_s=RATE) for name in STORIES}
    found = {name: STORIES[name](each) for name, each in herds.items()}
    for each in herds.values():
        each.end()
    return found


@pytest.mark.parametrize("name", STORIES)
def test_all_come_back(told: dict[str, Return], name: str) -> None:
    """Within the longest pause and what the rate needs for so many; nobody waits in vain."""
    back = told[name]
    assert back.away == 0 and back.timed_out == 0
    assert back.last_s <= 60 + NODES / RATE + 5


@pytest.mark.parametrize("name", STORIES)
def test_the_gateway_is_not_run_over(told: dict[str, Return], name: str) -> None:
    """It registers no more than its rate and what had gathered, and no node shakes hands more than
    a few times; handshakes never wait so long that a call would time out."""
    back = told[name]
    assert back.peak_registered <= 2 * RATE
    assert back.handshakes <= 2.5 * NODES
    assert back.longest_wait_s < 10


def test_a_restart_asks_few_twice(told: dict[str, Return]) -> None:
    """A gateway that stops in order tells each node a moment of its own; only those whose moment
    came before it was back compete with the others."""
    assert told["restart"].refused <= NODES / 5 < told["crash"].refused
    assert told["restart"].peak_handshakes <= 2 * RATE


def test_without_chance_they_all_come_at_once() -> None:
    """What the simulation is for: the same nodes with pauses that are all alike."""
    alike = Herd(NODES // 2, costs=COSTS, rate_per_s=RATE, jitter=lambda low, high: high)
    back = alike.crash()
    alike.end()
    assert back.peak_handshakes > 4 * RATE


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Every story, for people and for programs, the same each time."""
    assert herd.main(["--nodes", "20"]) == 0
    assert capsys.readouterr().out.count("all after") == len(STORIES)
    assert herd.main(["--nodes", "20", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert herd.main(["--nodes", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert first["crash"]["nodes"] == 20
