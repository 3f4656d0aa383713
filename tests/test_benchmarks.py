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
runpy.run_module("benchmarks.dispatch", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def report() -> Any:
    """What ``python -m benchmarks.dispatch --quick --json`` prints."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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


def test_the_machine_is_named(report: Any) -> None:
    """Numbers come with what they were measured on."""
    machine = report["machine"]
    assert machine["cpus"] >= 1 and machine["python"] and "grpcio" in machine["versions"]
