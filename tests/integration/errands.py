"""Capabilities that write down each effect at the moment it happens.

They write into files that outlive every process, so what happened is counted from outside,
whatever anybody says about it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from tests.integration import plugin

REPEATABLE, ONCE, ASKED = "test.repeatable", "test.once", "test.asked"
"""Idempotent; not idempotent; not idempotent and a person at the device is asked."""

_MODULE = r'''
import asyncio
import os
from pathlib import Path

import msgspec

from palyra.capability import Capability, hookimpl


class Errand(msgspec.Struct, forbid_unknown_fields=True):
    begun: str
    effects: str
    gate: str = ""
    late: bool = False


def write(path, job_id):
    line = f"{job_id} {os.getpid()}\n".encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        assert os.write(file, line) == len(line)
        os.fsync(file)
    finally:
        os.close(file)


async def run(asked: Errand, context) -> str:
    """Take effect, before or after somebody opens the gate."""
    write(asked.begun, context.job_id)
    if not asked.late:
        write(asked.effects, context.job_id)
    while asked.gate and not Path(asked.gate).exists():
        await asyncio.sleep(0.01)
    if asked.late:
        write(asked.effects, context.job_id)
    return context.job_id


@hookimpl
def palyra_capabilities():
    return [
        Capability(
            name=name, description="Takes effect.", handler=run, input_type=Errand,
            output_type=str, idempotent=idempotent, needs_mediation=asks, timeout_s=120.0,
        )
        for name, idempotent, asks in (
            ("test.repeatable", True, False),
            ("test.once", False, False),
            ("test.asked", False, True),
        )
    ]
'''


class Errand(msgspec.Struct, frozen=True):
    """What the capabilities are asked: to take effect, before or after the gate exists."""

    begun: str
    effects: str
    gate: str = ""
    late: bool = False


def install(directory: Path) -> Path:
    """Put them where a node finds them."""
    return plugin.install(directory, "effect", _MODULE)


def counted(file: Path) -> Counter[str]:
    """How often each job is in a file that they wrote."""
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(line.split()[0] for line in lines)
