"""What a job costs: a caller, a gateway and a node as three processes, over mutual TLS on loopback.

Run ``python -m benchmarks.dispatch``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import click
import grpc
import msgspec
import psutil

from benchmarks import heartbeat
from benchmarks.heartbeat import HeartbeatCost
from benchmarks.house import Credentials, House, paired_caller, run_in_reactor, running_house
from benchmarks.machine import Machine, load
from benchmarks.measuring import Miscounted, percentile, together
from benchmarks.records import INPUT, jobs_on_record
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.chain import TLS_NAME
from palyra.wire.service import NodeServiceStub, messages

WARM_UP = 300
MIB = 1024 * 1024


class Latency(msgspec.Struct, frozen=True):
    """How long calls took, in milliseconds."""

    calls: int
    p50_ms: float
    p99_ms: float


class Work(msgspec.Struct, frozen=True):
    """One way of calling: its latency, its rate, and the CPU seconds a thousand jobs cost."""

    latency: Latency
    jobs_per_s: float
    gateway_cpu_s_per_1000: float
    node_cpu_s_per_1000: float
    caller_cpu_s_per_1000: float


class Report(msgspec.Struct, frozen=True):
    """Everything that was measured, and on what."""

    machine: Machine
    callers: int
    sequential: Work
    concurrent: Work
    gateway_rss_mib: float
    node_rss_mib: float
    jobs_answered: int
    jobs_in_store: int
    heartbeat: list[HeartbeatCost]


@attrs.frozen
class Plan:
    """How much is measured."""

    jobs: int
    callers: int
    seconds: float
    records: Sequence[int]


QUICK = Plan(jobs=50, callers=8, seconds=0.3, records=(10, 100))


class Caller:
    """Calls ``echo`` on one device over one connection, and counts what was answered."""

    def __init__(self, stub: Any, device_id: str) -> None:
        self._call = stub.ExecuteCapability
        self._request = messages.ExecuteCapabilityRequest(
            v=1, capability="echo", input_json=INPUT, timeout_ms=30_000
        )
        self._request.device_id.ulid = device_id
        self.answered = 0

    async def in_turn(self, jobs: int) -> list[float]:
        """Call one after the other; the seconds each call took."""
        took_s = []
        for _ in range(jobs):
            began_s = time.perf_counter()
            await self.job()
            took_s.append(time.perf_counter() - began_s)
        return took_s

    async def job(self) -> None:
        """One call."""
        answer = await self._call(self._request)
        if not answer.success:
            raise click.ClickException(f"a job ended {answer.state}: {answer.error}")
        self.answered += 1


@contextlib.asynccontextmanager
async def _connected(credentials: Credentials) -> AsyncIterator[Any]:
    tls = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.chain)
    options = [("grpc.ssl_target_name_override", TLS_NAME), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.secure_channel(credentials.address, tls, options=options) as channel:
        yield NodeServiceStub(channel)


# -- measuring ------------------------------------------------------------------------------------


class Stopwatch:
    """Wall time and the CPU time of the three processes, from its making to :meth:`work`."""

    def __init__(self, house: House) -> None:
        pids = (house.gateway.pid, house.node_host.pid)
        self._processes = [*map(psutil.Process, pids), psutil.Process()]
        self._cpu_s = self._used_s()
        self._began_s = time.perf_counter()

    def work(self, took_s: list[float]) -> Work:
        """What the calls that took so long have cost."""
        wall_s = time.perf_counter() - self._began_s
        used_s = [now - then for now, then in zip(self._used_s(), self._cpu_s, strict=True)]
        gateway, node, caller = (round(used * 1000 / len(took_s), 3) for used in used_s)
        return Work(latency(took_s), round(len(took_s) / wall_s, 1), gateway, node, caller)

    def _used_s(self) -> list[float]:
        times = [process.cpu_times() for process in self._processes]
        return [each.user + each.system for each in times]


def latency(took_s: list[float]) -> Latency:
    """Percentiles of durations, by nearest rank."""
    ordered = sorted(took_s)
    p50_ms, p99_ms = (round(percentile(ordered, share) * 1000, 3) for share in (0.5, 0.99))
    return Latency(len(ordered), p50_ms, p99_ms)


async def _measured(house: House, credentials: Credentials, plan: Plan) -> tuple[Work, Work, int]:
    async with _connected(credentials) as stub:
        caller = Caller(stub, house.node.device_id)
        await caller.in_turn(min(WARM_UP, plan.jobs))
        watch = Stopwatch(house)
        sequential = watch.work(await caller.in_turn(plan.jobs))
        await together(caller.job, plan.callers, plan.seconds / 10)
        watch = Stopwatch(house)
        burst = await together(caller.job, plan.callers, plan.seconds)
        concurrent = watch.work(burst.took_s)
    return sequential, concurrent, caller.answered


def _rss_mib(pid: int) -> float:
    return round(psutil.Process(pid).memory_info().rss / MIB, 1)


def measure(plan: Plan) -> Report:
    """Measure everything.

    :raises Miscounted: the store holds another number of jobs than was answered.
    """
    before = load()
    with running_house() as house:

        async def called() -> tuple[Work, Work, int]:
            credentials = await paired_caller(house)
            return await as_deferred(_measured(house, credentials, plan))

        sequential, concurrent, answered = run_in_reactor(called)
        kept = jobs_on_record(house.database, "succeeded")
        gateway_rss, node_rss = _rss_mib(house.gateway.pid), _rss_mib(house.node_host.pid)
    if kept != answered:
        raise Miscounted(f"{answered} calls were answered, but the store holds {kept} jobs")
    return Report(
        machine=Machine.here(before),
        callers=plan.callers,
        sequential=sequential,
        concurrent=concurrent,
        gateway_rss_mib=gateway_rss,
        node_rss_mib=node_rss,
        jobs_answered=answered,
        jobs_in_store=kept,
        heartbeat=[heartbeat.measure(records) for records in plan.records],
    )


# -- telling --------------------------------------------------------------------------------------


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        report.machine.line(),
        "",
        f"{'calls':<16}{'jobs/s':>8}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'gateway':>10}{'node':>8}{'caller':>8}   CPU s/1000 jobs",
        _row("1 caller", report.sequential),
        _row(f"{report.callers} callers", report.concurrent),
        "",
        f"memory          gateway {report.gateway_rss_mib:.0f} MiB,"
        f" node {report.node_rss_mib:.0f} MiB after {report.jobs_answered} jobs",
        f"records         {report.jobs_in_store} in the store, as many as were answered",
        "",
        f"{'jobs in store':<16}{'heartbeat us':>14}{'flush us/device':>18}",
    ]
    lines += [
        f"{cost.records:<16}{cost.heartbeat_us:>14.1f}{cost.flush_us_per_device:>18.1f}"
        for cost in report.heartbeat
    ]
    return "\n".join(lines)


def _row(name: str, work: Work) -> str:
    return (
        f"{name:<16}{work.jobs_per_s:>8.0f}{work.latency.p50_ms:>9.3f}{work.latency.p99_ms:>9.3f}"
        f"{work.gateway_cpu_s_per_1000:>10.3f}{work.node_cpu_s_per_1000:>8.3f}"
        f"{work.caller_cpu_s_per_1000:>8.3f}"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--jobs", default=1000, show_default=True, help="Calls one after the other.")
@click.option("--callers", default=64, show_default=True, help="Callers at once.")
@click.option("--seconds", default=5.0, show_default=True, help="How long these call.")
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(as_json: bool, jobs: int, callers: int, seconds: float, quick: bool) -> None:
    """Measure what a job and a heartbeat cost."""
    plan = QUICK if quick else Plan(jobs, callers, seconds, (10, 1_000, 100_000))
    report = measure(plan)
    click.echo(msgspec.json.encode(report).decode() if as_json else table(report))


if __name__ == "__main__":
    main()
