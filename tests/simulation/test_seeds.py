"""A short slice of what ``tox -e simulate`` runs: the promises about jobs and certificates, under
every fault."""

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
    everybody is answered; in the end every job is final, and every device is back and renewed as
    it was ordered."""
    for seed in range(first, first + SLICE):
        World(seed, STEPS).run()


def test_every_kind_of_fault_is_made() -> None:
    """A few worlds together have all of them."""
    faults: Counter[str] = Counter()
    for seed in range(30):
        faults.update(World(seed, 120).run().faults)
    assert set(faults) == {
        "absence",
        "clock jump",
        "crash in commit",
        "crash in identity",
        "cut",
        "device clock jump",
        "device put back",
        "gateway crash",
        "gateway disk",
        "gateway stop",
        "lost answer",
        "node crash",
        "node disk",
        "node stop",
        "revocation",
        "rotation",
        "slow disk",
        "slow link",
        "stall",
    }


def test_certificates_run_out() -> None:
    """Devices renew, and come back where they could not; also where nothing else happens."""
    results = [World(seed, 120).run() for seed in range(20)]
    assert sum(each.renewals for each in results) > 20
    assert sum(each.rejoins for each in results) > 0
    assert any(World(seed, 0).calm for seed in range(20))
