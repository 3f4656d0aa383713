"""Unfinished jobs by themselves, without a dispatcher; and whether something is still kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from palyra.core.identifiers import DeviceId
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Job
from palyra.gateway.unfinished import Live
from tests.store.samples import a_job

PI, NAS, LAMP = DeviceId("pi"), DeviceId("nas"), DeviceId("lamp")


class Name(str):
    """A text that can be asked whether anything still holds it."""


def a_live(name: str = "job", device_id: DeviceId = PI, **changes: Any) -> Live:
    """A queued job to a device that is called as its id is."""
    return live_of(a_job(name, device_id, **{"device_name": str(device_id), **changes}))


def live_of(job: Job) -> Live:
    """The job with a machine in the state it is in."""
    return Live(job, job_machine(job))


def kept(*watched: weakref.ref[Any]) -> int:
    """How many of these things something still holds."""
    gc.collect()
    return sum(each() is not None for each in watched)
