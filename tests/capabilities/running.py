"""Runs a capability as a node does, and hands back its outcome."""

from __future__ import annotations

import time
from queue import SimpleQueue

from palyra.capability import Capability, CapabilityContext, DeviceFacts
from palyra.capability.outcome import Outcome
from palyra.capability.runner import ThreadRunner

DEVICE = DeviceFacts("DEV", "ab" * 32, "https://gw:7443", 1_700_000_000_000, 5000, "pi")


def run(capability: Capability, raw: bytes = b"{}") -> Outcome:
    """The outcome of one run, 20 seconds at most."""
    runner = ThreadRunner(1)
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    context = CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + 20)
    try:
        runner.start(capability, raw, context, 100_000, outcomes.put)
        return outcomes.get(timeout=30)
    finally:
        runner.close()
