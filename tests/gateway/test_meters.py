"""What the gateway says of itself, made to happen one by one."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from palyra.core.jobs import Outcome
from palyra.gateway.meters import CommitMeter, LagMeter, Meters
from tests.gateway.enrolling import Gateway
from tests.gateway.house import attempt_of


@pytest.fixture
def meters(gateway: Gateway) -> Meters:
    return Meters(
        now_ms=gateway.now_ms,
        elapsed_s=gateway.clock.seconds,
        inventory=gateway.inventory,
        board=gateway.board,
        sessions=gateway.sessions,
        dispatcher=gateway.dispatcher,
    )


def read(meters: Meters, name: str, **labels: str) -> float:
    """One sample as a scraper has it."""
    _, body = meters.metrics.exposition()
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    raise AssertionError(f"no {name} {labels}")


def test_devices_sessions_and_jobs(gateway: Gateway, meters: Meters) -> None:
    """They follow what happens: a device comes, runs one job while others wait, and goes."""
    assert read(meters, "palyra_devices", presence="online") == 0
    device, node = gateway.online()
    assert read(meters, "palyra_devices", presence="online") == 1
    assert read(meters, "palyra_sessions", transport="grpc") == 1
    assert read(meters, "palyra_sessions", transport="quic") == 0
    job = gateway.submit(device)
    assert read(meters, "palyra_jobs_unfinished", state="dispatched") == 1
    gateway.pass_time(0.2)
    node.take()
    node.finish(attempt_of(job), Outcome.SUCCEEDED)
    assert read(meters, "palyra_jobs_unfinished", state="dispatched") == 0
    assert read(meters, "palyra_job_seconds_count", state="succeeded") == 1
    assert read(meters, "palyra_job_seconds_bucket", state="succeeded", le="0.1") == 0
    assert read(meters, "palyra_job_seconds_bucket", state="succeeded", le="0.25") == 1
    assert read(meters, "palyra_job_seconds_count", state="failed") == 0


def test_certificates(gateway: Gateway, meters: Meters) -> None:
    """What is left of the first to end, and how many are in which stretch of their life."""
    assert read(meters, "palyra_certificate_remaining_seconds_min") == 0
    _, node = gateway.online()
    left_s = read(meters, "palyra_certificate_remaining_seconds_min")
    assert 0 < left_s <= 86_400
    assert read(meters, "palyra_certificate_remaining_seconds_bucket", le="+Inf") == 1
    gateway.pass_time(5)
    assert read(meters, "palyra_certificate_remaining_seconds_min") == left_s - 5
    node.disconnect()
    assert read(meters, "palyra_certificate_remaining_seconds_bucket", le="+Inf") == 0


def test_refusals(meters: Meters) -> None:
    """Each with the listener and the reason, and what a listener counts by itself."""
    meters.turned_away("grpc", "expired")
    meters.turned_away("grpc", "expired")
    meters.count_refusals("quic", {"no_certificate": 3})
    assert read(meters, "palyra_refused_total", listener="grpc", reason="expired") == 2
    assert read(meters, "palyra_quic_refused_total", reason="no_certificate") == 3


def test_no_label_names_a_device(gateway: Gateway, meters: Meters) -> None:
    """The number of series does not grow with the number of devices, operators or jobs."""
    device, _ = gateway.online()
    gateway.submit(device)
    _, body = meters.metrics.exposition()
    assert device.device_id.encode() not in body and b'"pi"' not in body


def test_commits() -> None:
    """How many operations went into a transaction, and how long it took."""
    meter = CommitMeter()
    meter.committed(3, 0.004)
    assert (meter.sizes.count, meter.sizes.total, meter.seconds.total) == (1, 3, 0.004)


def test_a_reactor_that_was_late() -> None:
    """Only what is beyond the interval counts, and the first look has nothing to compare."""
    now = [0.0]
    meter = LagMeter(lambda: now[0])
    for now[0] in (0.0, 1.0, 2.3, 3.0):
        meter.look()
    assert (meter.late.count, round(meter.late.total, 3)) == (3, 0.3)
