"""Tests of :mod:`palyra.store.audited`."""

from __future__ import annotations

import attrs
import pytest

from palyra.core.jobs import JobState, Mediation
from palyra.store.audited import job_ended
from tests.core.jobs import a_job


@pytest.mark.parametrize(
    ("choice", "by", "actor"),
    [
        ("no", "ana at the terminal", "pi: ana at the terminal"),
        ("no", "rule cellar", "pi: rule cellar"),
        ("no", "", "gateway"),
        ("once", "ana at the terminal", "gateway"),
    ],
)
def test_who_is_said_to_have_rejected_a_job(choice: str, by: str, actor: str) -> None:
    """Whoever said no at the device; somebody who said yes did not, whatever came after that."""
    job = a_job(JobState.REJECTED)
    job.call = attrs.evolve(job.call, device_name="pi")
    job.finished_at_ms, job.mediation = 900, Mediation(100, 200, by, choice)
    assert job_ended(job).who == actor
