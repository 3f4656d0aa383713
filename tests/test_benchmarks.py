"""Tests of the benchmarks: that they run and tell what they promise, never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The checkout comes last on sys.path: what is measured is the installed package.
RUN = f"""
import runpy, sys
sys.path.append({str(ROOT)!r})
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def printed(module: str) -> Any:
    """What ``python -m <module> --quick --json`` prints."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, module, "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report() -> Any:
    """A short run of ``benchmarks.dispatch``."""
    return printed("benchmarks.dispatch")


@pytest.fixture(scope="module")
def jobs() -> Any:
    """A short run of ``benchmarks.jobs``."""
    return printed("benchmarks.jobs")


@pytest.fixture(scope="module")
def transports() -> Any:
    """A short run of ``benchmarks.transports``."""
    return printed("benchmarks.transports")


@pytest.fixture(scope="module")
def console() -> Any:
    """A short run of ``benchmarks.console``."""
    return printed("benchmarks.console")


@pytest.fixture(scope="module")
def workers() -> Any:
    """A short run of ``benchmarks.workers``."""
    return printed("benchmarks.workers")


def test_every_figure_is_there(report: Any) -> None:
    """The report has the keys that benchmarks/README.md explains."""
    assert set(report) == {
        "machine", "callers", "sequential", "concurrent", "gateway_rss_mib", "node_rss_mib",
        "jobs_answered", "jobs_in_store", "heartbeat",
    }  # fmt: skip
    for work in (report["sequential"], report["concurrent"]):
        assert set(work) == {
            "latency", "jobs_per_s", "gateway_cpu_s_per_1000", "node_cpu_s_per_1000",
            "caller_cpu_s_per_1000",
        }  # fmt: skip
        assert set(work["latency"]) == {"calls", "p50_ms", "p99_ms"}
        assert 0 < work["latency"]["p50_ms"] <= work["latency"]["p99_ms"]


def test_every_answered_call_is_in_the_store(report: Any) -> None:
    """What was answered was committed before: the counts are equal, with no job beside them."""
    called = report["sequential"]["latency"]["calls"] + report["concurrent"]["latency"]["calls"]
    assert report["jobs_in_store"] == report["jobs_answered"] > called


def test_heartbeats_are_measured_with_more_and_more_records(report: Any) -> None:
    """Each store size has its own cost of a heartbeat and of a flush."""
    costs = report["heartbeat"]
    assert [cost["records"] for cost in costs] == [10, 100]
    assert all(cost["heartbeat_us"] > 0 and cost["flush_us_per_device"] > 0 for cost in costs)


def test_the_machine_is_named(report: Any, jobs: Any, transports: Any) -> None:
    """Numbers come with what they were measured on."""
    for machine in (report["machine"], jobs["machine"], transports["machine"]):
        assert machine["cpus"] >= 1 and machine["python"] and "grpcio" in machine["versions"]


def test_every_job_is_accounted_for(jobs: Any) -> None:
    """In every part as many jobs are on record as callers were told of, and some were."""
    assert set(jobs["records"]) == {"one", "rate", "submit", "fanout", "history"}
    for account in jobs["records"].values():
        assert account["on_record"] == account["answered"] > 0


def test_every_figure_has_its_spread(jobs: Any, transports: Any) -> None:
    """A median lies between the lowest and the highest of its rounds, and none of them is 0."""
    called = {
        name: figure
        for name, figure in transports["figures"].items()
        if not name.startswith("idle.")  # in so short a time CPU may not be used at all
    }
    for name, figure in (jobs["figures"] | called).items():
        assert 0 <= figure["low"] <= figure["median"] <= figure["high"], name
        assert figure["rounds"] >= 1 and figure["high"] > 0, name


def test_jobs_are_compared_with_the_floor_of_the_same_rounds(jobs: Any) -> None:
    """Every way of making jobs has its ratio to the floor, the floor itself has none."""
    figures = jobs["figures"]
    for name, figure in figures.items():
        part, way, *_ = name.split(".")
        if part in ("one", "rate"):
            assert (figure["ratio"] is None) == way.startswith("floor"), name
    ways = {name.split(".")[1] for name in figures if name.startswith("rate.")}
    assert ways == {"floor", "floor_full", "unary", "stream_1", "stream_2", "grpcio"}


def test_the_history_is_measured_at_every_size(jobs: Any) -> None:
    """Each number of records has its own figures, and retention has steps of both reasons."""
    for size in (1_000, 10_000):
        for key in ("start_s", "p50_ms", "p99_ms", "cpu_us", "page_ms"):
            assert f"history.{size}.{key}" in jobs["figures"]
    assert {"history.forget_old_ms", "history.forget_many_ms"} <= set(jobs["figures"])


def test_transports_are_compared_in_the_same_rounds(transports: Any) -> None:
    """Every figure is there for both transports, and QUIC's has its ratio to that of gRPC."""
    figures = transports["figures"]
    for name, figure in figures.items():
        part, transport, key = name.split(".")
        assert f"{part}.quic.{key}" in figures and f"{part}.grpc.{key}" in figures
        if part != "idle":
            assert (figure["ratio"] is None) == (transport == "grpc"), name
    for part in ("one", "rate", "spread"):
        for key in ("per_s", "p50_ms", "p99_ms", "cpu_us", "node_cpu_us"):
            assert f"{part}.quic.{key}" in figures
    assert figures["idle.quic.rss_kib_per_node"]["rounds"] == 1


def test_jobs_over_every_transport_are_accounted_for(transports: Any) -> None:
    """As many jobs are on record as were answered over both transports together."""
    assert set(transports["records"]) == {"one", "rate", "spread"}
    for account in transports["records"].values():
        assert account["on_record"] == account["answered"] > 0


def test_pages_of_the_console_are_measured(console: Any) -> None:
    """Each way of asking for devices, with and without jobs beside it."""
    figures = console["figures"]
    for name in ("first", "deep", "search", "where", "callers"):
        for key in ("per_s", "p50_ms", "p99_ms", "cpu_us"):
            assert figures[f"inventory.{name}.{key}"]["high"] > 0
    for key in ("p50_ms", "p99_ms"):
        assert figures[f"load.idle.{key}"]["ratio"] is None
        assert figures[f"load.busy.{key}"]["ratio"] > 0


def test_jobs_that_pages_watch_are_accounted_for(console: Any) -> None:
    """As many are on record as were answered, and their cost is compared with nobody watching."""
    assert {
        name: each["on_record"] - each["answered"] for name, each in console["records"].items()
    } == {
        "load": 0,
        "feed": 0,
    }
    for pages in ("pages_1", "pages_16"):
        assert console["figures"][f"feed.{pages}.cpu_us"]["ratio"] > 0


def test_workers_are_compared_with_threads(workers: Any) -> None:
    """Runs in a worker have their ratio to runs in a thread, and a cold start is measured."""
    figures = workers["figures"]
    for part in ("one", "rate"):
        for key in ("per_s", "p50_ms", "p99_ms", "cpu_us"):
            assert figures[f"{part}.thread.{key}"]["ratio"] is None
            assert figures[f"{part}.worker.{key}"]["ratio"] > 0
    assert figures["cold.worker.ms"]["low"] > 0
