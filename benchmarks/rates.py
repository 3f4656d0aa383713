"""One job at a time, many at once, and jobs that are only put on record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

from benchmarks import floor
from benchmarks.house import start_node_host
from benchmarks.loads import (
    MAX_UNANSWERED,
    ConsoleParking,
    JobStream,
    Parking,
    Unary,
    connected,
)
from benchmarks.measuring import Burst, Findings, Plan, run, together
from benchmarks.paired import Served, served, start_fleet, town
from benchmarks.records import ECHO, INPUT, RUN_MS
from benchmarks.ways import CPU, LATENCY, RATE, Way, keep, run_rounds, way
from palyra.core.frames import Wanted
from palyra.core.identifiers import DeviceId
from palyra.transport.grpccaller import Caller

FLOOR = "floor"
FULL_FLOOR = "floor_full"


class _Library:
    """ExecuteCapability through the client that Palyra ships, with grpcio."""

    def __init__(self, here: Served, device_ids: Sequence[str]) -> None:
        caller, ca_pem = here.town.caller, here.town.authority.ca_pem
        self.caller = Caller(here.address, ca_pem, (caller.key, caller.chain))
        wanted = [
            Wanted(DeviceId(device_id), ECHO.name, INPUT, timeout_ms=RUN_MS)
            for device_id in device_ids
        ]
        self._wanted = itertools.cycle(wanted)
        self.answered = 0

    async def job(self) -> None:
        """One job, to its end."""
        await self.caller.execute(next(self._wanted))
        self.answered += 1


# -- one job at a time ----------------------------------------------------------------------------


def one(plan: Plan) -> Findings:
    """One caller that waits for each job: by the floor, by unary calls, by a stream."""
    found = Findings()
    with town(1) as here, served(here) as gateway:
        _, host = start_node_host(here.root, gateway.children)
        start_fleet(gateway, here.nodes)
        below = floor.start_floor(gateway)
        answered = run(_one(found, plan, gateway, below, host.device_id))
        found.account("one", answered, here.count("succeeded"))
    return found


async def _one(found: Findings, plan: Plan, here: Served, below: floor.Floor, host_id: str) -> int:
    node_ids = [node.device_id for node in here.town.nodes]
    async with below.caller() as bare, connected(here) as line:
        unary, host = Unary(line, node_ids), Unary(line, [host_id])
        stream = JobStream(line, node_ids, 1)
        library = _Library(here, node_ids)
        async with library.caller:
            ways = [
                way(FLOOR, bare.job, 1, below.cpu_s),
                way("unary", unary.job, 1, here.cpu_s),
                Way("stream", stream.run, here.cpu_s),
                way("node_host", host.job, 1, here.cpu_s),
                way("grpcio", library.job, 1, here.cpu_s),
            ]
            rounds = await run_rounds(ways, plan)
    for name, ours in rounds.items():
        theirs = None if name == FLOOR else rounds[FLOOR]
        keep(found, f"one.{name}", ours, {**LATENCY, **CPU}, theirs)
    return unary.answered + host.answered + stream.answered + library.answered


# -- many at once ---------------------------------------------------------------------------------


def rate(plan: Plan) -> Findings:
    """Many callers and nodes: by the floor, by unary calls, by streams that are kept full."""
    found = Findings()
    with town(plan.nodes) as here, served(here) as gateway:
        start_fleet(gateway, here.nodes)
        below = floor.start_floor(gateway)
        answered = run(_rate(found, plan, gateway, below))
        found.account("rate", answered, here.count("succeeded"))
    return found


async def _rate(found: Findings, plan: Plan, here: Served, below: floor.Floor) -> int:
    node_ids = [node.device_id for node in here.town.nodes]
    async with contextlib.AsyncExitStack() as stack:
        bare = await stack.enter_async_context(below.caller())
        unary = Unary(await stack.enter_async_context(connected(here)), node_ids)
        library = _Library(here, node_ids)
        await stack.enter_async_context(library.caller)
        lines = [await stack.enter_async_context(connected(here)) for _ in range(max(plan.streams))]
        streams = [JobStream(line, node_ids, MAX_UNANSWERED) for line in lines]
        ways = [
            way(FLOOR, bare.job, plan.callers, below.cpu_s),
            way(FULL_FLOOR, bare.job, MAX_UNANSWERED, below.cpu_s),
            way("unary", unary.job, plan.callers, here.cpu_s),
            *(_streams(streams[:count], here) for count in plan.streams),
            way("grpcio", library.job, plan.callers, here.cpu_s),
        ]
        rounds = await run_rounds(ways, plan)
    for name, ours in rounds.items():
        if name.startswith("stream"):
            # With a thousand jobs under way latency says only how many they are.
            keep(found, f"rate.{name}", ours, {**RATE, **CPU}, rounds[FULL_FLOOR])
        else:
            theirs = None if name.startswith(FLOOR) else rounds[FLOOR]
            keep(found, f"rate.{name}", ours, {**RATE, **CPU, **LATENCY}, theirs)
    return unary.answered + library.answered + sum(stream.answered for stream in streams)


def _streams(streams: Sequence[JobStream], here: Served) -> Way:
    async def at_once(seconds: float) -> Burst:
        bursts = await asyncio.gather(*(stream.run(seconds) for stream in streams))
        took_s = [each for burst in bursts for each in burst.took_s]
        return Burst(took_s, max(burst.wall_s for burst in bursts))

    return Way(f"stream_{len(streams)}", at_once, here.cpu_s)


# -- on record, and not waited for ----------------------------------------------------------------


def submit(plan: Plan) -> Findings:
    """Jobs for devices that are away: how fast they are on record."""
    found = Findings()
    with town(plan.nodes) as here, served(here) as gateway:
        accepted = run(_submit(found, plan, gateway))
        found.account("submit", accepted, here.count("queued"))
    return found


async def _submit(found: Findings, plan: Plan, here: Served) -> int:
    node_ids = [node.device_id for node in here.town.nodes]
    console = ConsoleParking(here.town.socket_path, itertools.cycle(node_ids))
    await console.open(plan.callers)
    async with connected(here) as line:
        stream = Parking(line, node_ids)
        ways = [
            way("console", console.job, plan.callers, here.cpu_s),
            Way("stream", lambda seconds: _parked(stream, seconds), here.cpu_s),
        ]
        rounds = await run_rounds(ways, plan)
        await console.close()
    for name, ours in rounds.items():
        keep(found, f"submit.{name}", ours, {**RATE, **CPU})
    return console.accepted + stream.accepted


async def _parked(stream: Parking, seconds: float) -> Burst:
    """Four streams at once, each of as many jobs as a stream carries."""
    burst = await together(stream.job, 4, seconds)
    return Burst([each for each in burst.took_s for _ in range(MAX_UNANSWERED)], burst.wall_s)
