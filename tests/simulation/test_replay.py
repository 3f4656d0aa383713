"""A seed decides everything: what failed once fails again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.world import World

CODE = """
from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.world import World
for seed in (1, 2, 3):
    world = World(seed, 120)
    try:
        world.run()
    except Violation:
        pass
    print(world.trace.digest)
"""


def digests(hash_seed: str) -> str:
    """The hashes of three worlds, made by a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return run.stdout


def test_a_seed_makes_the_same_world_again() -> None:
    """To the last line of the trace, in one process."""
    assert World(12, 150).run() == World(12, 150).run()
    assert World(12, 150).run().digest != World(13, 150).run().digest


def test_a_world_does_not_depend_on_its_process() -> None:
    """Neither on the order of sets nor on where objects lie in memory."""
    first = digests("1")
    assert len(first.split()) == 3
    assert first == digests("2")


def test_a_violation_tells_how_to_replay_it() -> None:
    """The seed, the step, the last lines of the trace, and the command."""
    world = World(5, 40)
    world.checks.after_step = lambda: _broken(world)  # type: ignore[method-assign]
    with pytest.raises(Violation) as caught:
        world.run()
    text = str(caught.value)
    assert text.startswith("seed 5, step 20 of 40: broken on purpose\n")
    assert len(text.splitlines()) <= 42
    assert text.endswith("python -m palyra.testing.simulate --seed 5 --steps 40")


def _broken(world: World) -> None:
    if world.step == 20:
        raise Violation("broken on purpose")
