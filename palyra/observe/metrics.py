"""Metrics in the Prometheus text format, read from the rooms when they are asked for.

What happens often is counted in plain integers (:class:`Histogram`), so that it costs the hot path
a fraction of a microsecond; everything else is looked up when somebody scrapes.  No label ever
names a device, an operator, a job or a source: their number is not bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Upper ends of latency buckets, from a short job to one that waits for its device."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Labelled = Mapping[tuple[str, ...], float]
"""Values by the values of their labels, in the order in which those were named."""


class Histogram:
    """How often values were below each of ``bounds``; observing costs one bisection."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by their upper end, ``+Inf`` last, as the text format has them."""
        running, found = 0, []
        ends = [*map(_end, self.bounds), "+Inf"]
        for end, count in zip(ends, self._counts, strict=True):
            running += count
            found.append((end, float(running)))
        return found


def histogram_of(values: Iterable[float], bounds: Sequence[float]) -> Histogram:
    """The histogram of values that are there now."""
    made = Histogram(bounds)
    for value in values:
        made.observe(value)
    return made


@attrs.frozen
class Family:
    """One metric: how it is called, what it says, and how it is read.

    ``read`` gives values by label for a gauge and a counter, histograms by label for a histogram.
    A counter's name has no ``_total``: the format adds it.
    """

    kind: type[Metric]
    name: str
    documentation: str
    read: Callable[[], Mapping[tuple[str, ...], float | Histogram]]
    labels: tuple[str, ...] = ()

    def collect(self) -> Metric:
        """The family as it is now."""
        family = self.kind(self.name, self.documentation, labels=self.labels)  # type: ignore[call-arg]
        for label_values, value in self.read().items():
            if isinstance(value, Histogram):
                family.add_metric(label_values, value.buckets(), value.total)  # type: ignore[attr-defined]
            else:
                family.add_metric(label_values, value)  # type: ignore[attr-defined]
        return family


def gauge(name: str, documentation: str, read: Callable[[], Labelled], *labels: str) -> Family:
    """What is so now."""
    return Family(GaugeMetricFamily, name, documentation, read, labels)


def counter(name: str, documentation: str, read: Callable[[], Labelled], *labels: str) -> Family:
    """What has happened since the start."""
    return Family(CounterMetricFamily, name, documentation, read, labels)


def histogram(
    name: str,
    documentation: str,
    read: Callable[[], Mapping[tuple[str, ...], Histogram]],
    *labels: str,
) -> Family:
    """How values are spread."""
    return Family(HistogramMetricFamily, name, documentation, read, labels)


def gauge_histogram(
    name: str, documentation: str, read: Callable[[], Mapping[tuple[str, ...], Histogram]]
) -> Family:
    """How the values are spread that are there now."""
    return Family(GaugeHistogramMetricFamily, name, documentation, read)


class Metrics(Collector):
    """Every family of one process, and what is known of the process itself."""

    def __init__(self) -> None:
        self._families: list[Family] = []
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def add(self, *families: Family) -> None:
        """Say these too from now on."""
        self._families.extend(families)

    def describe(self) -> Iterable[Metric]:
        """Nothing is read to register."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read every family."""
        for family in self._families:
            yield family.collect()

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body, in the format that an ``Accept`` header prefers: the text format
        of Prometheus, or OpenMetrics 1.0."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)


def one(value: float) -> dict[tuple[str, ...], float]:
    """The value of a family without labels."""
    return {(): value}


def by_label(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Counts by the value of one label."""
    return {(label,): float(count) for label, count in counts.items()}


def _end(bound: float) -> str:
    return repr(float(bound))
