"""A short slice of what ``tox -e simulate`` runs: the promises about jobs, under every fault."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from palyra.testing.simulation.world import World

STEPS = 200
SEEDS = 100
FIRST = SEEDS * (sys.version_info.minor - 11)
"""Each supported Python runs other worlds: together a few hundred of them."""
SLICE = 10


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, SLICE))
def test_no_promise_is_broken(first: int) -> None:
    """Nothing accepted is lost, nothing takes effect twice, nobody is told what is not on record,
    everybody is answered, and in the end every job is final."""
    for seed in range(first, first + SLICE):
        World(seed, STEPS).run()


def test_every_kind_of_fault_is_made() -> None:
    """A few worlds together have all of them."""
    faults: Counter[str] = Counter()
    for seed in range(40):
        faults.update(World(seed, 60).run().faults)
    assert set(faults) == {
        "clock jump",
        "crash in commit",
        "cut",
        "device clock jump",
        "gateway crash",
        "gateway disk",
        "gateway stop",
        "node crash",
        "node disk",
        "node stop",
        "revocation",
        "slow disk",
        "slow link",
        "stall",
    }
