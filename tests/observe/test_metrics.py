"""The text that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from palyra.observe.metrics import (
    Histogram,
    Metrics,
    by_label,
    counter,
    gauge,
    gauge_histogram,
    histogram,
    histogram_of,
    one,
)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of ours, as a scraper parses it."""
    _, body = metrics.exposition()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def test_every_kind_is_said_as_its_reader_expects() -> None:
    """Gauges as they are, counters with their suffix, histograms cumulative with their sum."""
    took = Histogram((1, 10))
    for value in (0.5, 1, 5, 50):
        took.observe(value)
    metrics = Metrics()
    metrics.add(
        gauge("a_depth", "How deep.", lambda: one(3)),
        counter("a_refused", "Who was refused.", lambda: by_label({"expired": 2}), "reason"),
        histogram("a_seconds", "How long.", lambda: {("ok",): took}, "state"),
    )
    assert samples(metrics) == {
        ("a_depth", ()): 3,
        ("a_refused_total", (("reason", "expired"),)): 2,
        ("a_seconds_bucket", (("le", "1.0"), ("state", "ok"))): 2,
        ("a_seconds_bucket", (("le", "10.0"), ("state", "ok"))): 3,
        ("a_seconds_bucket", (("le", "+Inf"), ("state", "ok"))): 4,
        ("a_seconds_count", (("state", "ok"),)): 4,
        ("a_seconds_sum", (("state", "ok"),)): 56.5,
    }


def test_the_process_is_measured_too() -> None:
    """Memory and processor time, so that a dashboard needs no other exporter for them."""
    _, body = Metrics().exposition()
    assert b"process_resident_memory_bytes" in body and b"process_cpu_seconds_total" in body


def test_the_reader_chooses_the_format() -> None:
    """OpenMetrics where it is accepted, the older text format otherwise."""
    metrics = Metrics()
    metrics.add(
        gauge_histogram("a_left", "What is left.", lambda: {(): histogram_of([1, 2], (1,))})
    )
    content_type, body = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert b"# TYPE a_left gaugehistogram" in body and body.endswith(b"# EOF\n")
    content_type, body = metrics.exposition("")
    assert content_type.startswith("text/plain") and b'a_left_bucket{le="1.0"} 1.0' in body


def test_values_are_read_when_they_are_asked_for() -> None:
    """Nothing is kept between two scrapes."""
    now = [1.0]
    metrics = Metrics()
    metrics.add(gauge("a_depth", "How deep.", lambda: one(now[0])))
    assert samples(metrics)["a_depth", ()] == 1
    now[0] = 2.0
    assert samples(metrics)["a_depth", ()] == 2


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e6)), st.lists(st.floats(0, 1e6), unique=True, min_size=1))
def test_a_histogram_counts_every_value_once(values: list[float], bounds: list[float]) -> None:
    """Each bucket holds the values up to its end, the last one all of them."""
    bounds = sorted(bounds)
    buckets = histogram_of(values, bounds).buckets()
    for bound, (_, count) in zip(bounds, buckets, strict=False):
        assert count == sum(value <= bound for value in values)
    assert buckets[-1] == ("+Inf", float(len(values)))
    assert bisect_left(bounds, bounds[0]) == 0
