"""What the console costs with very many devices: pages of the inventory, and pages that are live.

Run ``python -m benchmarks.console``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urlencode

import click
import msgspec

from benchmarks.http2 import Connection, Stream
from benchmarks.loads import Refused, calls, connected, http_answer, submission
from benchmarks.measuring import Burst, Findings, Plan, run, together
from benchmarks.paired import Served, served, start_fleet, town
from benchmarks.report import Part, measure, printed
from benchmarks.ways import CPU, LATENCY, RATE, Way, keep, run_rounds, way
from palyra.cli.client import PREFIX
from palyra.console.models import NodeList
from palyra.wire.service import messages

DEVICES = 10_000
CONNECTED = 100
PAGE = 50
JOBS_PER_S = 1_000
TICK_S = 0.02
PAUSE_S = 0.02
"""Between two pages of somebody who looks while jobs run."""
WATCHERS = (1, 16)
SHOWN = 50
"""Devices that a page shows."""
QUICK = Plan(seconds=0.4, rounds=2, callers=4, nodes=20, crowd=200)


class Browser:
    """One kept connection to ``console.sock``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.cursor: str | None = None

    async def page(self, **query: str) -> NodeList:
        """A page of the inventory."""
        self._writer.write(_request("nodes", limit=str(PAGE), **query))
        head, body = await http_answer(self._reader)
        if not head.startswith(b"HTTP/1.1 200"):
            raise Refused(f"the console refused a page: {body.decode()}")
        return msgspec.json.decode(body, type=NodeList)

    async def next_page(self) -> None:
        """The page behind the last one; after the last of them the first."""
        query = {} if self.cursor is None else {"cursor": self.cursor}
        self.cursor = (await self.page(**query)).page.next_cursor


def _request(path: str, **query: str) -> bytes:
    return _get(f"{PREFIX}{path}?{urlencode(query)}")


def _get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def browsers(here: Served, count: int) -> AsyncIterator[list[Browser]]:
    """So many connections."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            reader, writer = await _connect(here)
            stack.callback(writer.close)
            made.append(Browser(reader, writer))
        yield made


async def _connect(here: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(here.town.socket_path))


# -- the inventory --------------------------------------------------------------------------------


def inventory(plan: Plan) -> Findings:
    """Pages of the whole inventory, of a search and of an expression, while nothing else runs."""
    found = Findings()
    with town(plan.crowd) as here, served(here) as gateway:
        run(_inventory(found, plan, gateway))
    return found


async def _inventory(found: Findings, plan: Plan, here: Served) -> None:
    async with browsers(here, plan.callers) as crowd:
        one = crowd[0]
        ways = [
            way("first", one.page, 1, here.cpu_s),
            way("deep", one.next_page, 1, here.cpu_s),
            way("search", partial(one.page, search="e-01"), 1, here.cpu_s),
            way("where", partial(one.page, where="name ~ e-01"), 1, here.cpu_s),
            Way("callers", partial(_all_at_once, crowd), here.cpu_s),
        ]
        rounds = await run_rounds(ways, plan)
    for name, ours in rounds.items():
        keep(found, f"inventory.{name}", ours, {**RATE, **LATENCY, **CPU})


async def _all_at_once(crowd: Sequence[Browser], seconds: float) -> Burst:
    bursts = await asyncio.gather(*(together(each.page, 1, seconds) for each in crowd))
    took_s = [each for burst in bursts for each in burst.took_s]
    return Burst(took_s, max(burst.wall_s for burst in bursts))


# -- jobs beside it -------------------------------------------------------------------------------


class Paced:
    """SubmitJobs at a steady rate, whatever the answers take."""

    def __init__(self, connection: Connection, device_ids: Sequence[str]) -> None:
        self._calls = calls(device_ids)
        self._submitted_s: dict[int, float] = {}
        self._took_s: list[float] = []
        self._tag = 0
        self._stream: Stream = connection.open("SubmitJobs", self._received, lambda trailers: None)
        self.answered = 0

    async def run(self, seconds: float) -> Burst:
        """``JOBS_PER_S`` for so long, then until the last answer."""
        self._took_s = []
        began_s = time.perf_counter()
        submitted = 0
        while (now_s := time.perf_counter()) < began_s + seconds:
            due = int((now_s - began_s) * JOBS_PER_S) - submitted
            if due > 0:
                self._submit(due, now_s)
                submitted += due
            await asyncio.sleep(TICK_S)
        while self._submitted_s:
            await asyncio.sleep(TICK_S)
        return Burst(self._took_s, time.perf_counter() - began_s)

    def _submit(self, count: int, now_s: float) -> None:
        tags = range(self._tag + 1, self._tag + 1 + count)
        self._tag += count
        self._submitted_s.update(dict.fromkeys(tags, now_s))
        self._stream.send(submission(tags, self._calls, accepted=False))

    def _received(self, data: bytes) -> None:
        message = messages.SubmitJobResponse.FromString(data)
        now_s = time.perf_counter()
        for answer in (message, *message.more):
            if not answer.result.success:
                raise Refused(f"a job was refused: {answer.refusal_code}")
            self._took_s.append(now_s - self._submitted_s.pop(answer.tag))
            self.answered += 1


def load(plan: Plan) -> Findings:
    """Somebody looks at a page now and then: while nothing else runs, and while jobs do."""
    return _beside_jobs("load", plan, _load)


async def _load(found: Findings, plan: Plan, here: Served, jobs: Paced) -> None:
    async with browsers(here, 1) as (one,):
        ways = [
            Way("idle", partial(_looking, one), here.cpu_s),
            Way("busy", partial(_looking_beside, one, jobs), here.cpu_s),
        ]
        rounds = await run_rounds(ways, plan)
    for name, ours in rounds.items():
        against = None if name == "idle" else rounds["idle"]
        keep(found, f"load.{name}", ours, LATENCY, against)


async def _looking(one: Browser, seconds: float) -> Burst:
    began_s = time.perf_counter()
    took_s = []
    while (now_s := time.perf_counter()) < began_s + seconds:
        await one.page()
        took_s.append(time.perf_counter() - now_s)
        await asyncio.sleep(PAUSE_S)
    return Burst(took_s, time.perf_counter() - began_s)


async def _looking_beside(one: Browser, jobs: Paced, seconds: float) -> Burst:
    looked, _ = await asyncio.gather(_looking(one, seconds), jobs.run(seconds))
    return looked


# -- pages that are live --------------------------------------------------------------------------


def feed(plan: Plan) -> Findings:
    """The same jobs while nobody watches, and while pages watch all of them and some devices."""
    return _beside_jobs("feed", plan, _feed)


async def _feed(found: Findings, plan: Plan, here: Served, jobs: Paced) -> None:
    ways = [Way("unwatched", jobs.run, here.cpu_s)]
    for count in WATCHERS:
        ways.append(Way(f"pages_{count}", partial(_watched, here, jobs, count), here.cpu_s))
    rounds = await run_rounds(ways, plan)
    for name, ours in rounds.items():
        against = None if name == "unwatched" else rounds["unwatched"]
        keep(found, f"feed.{name}", ours, {**RATE, **CPU, **LATENCY}, against)


async def _watched(here: Served, jobs: Paced, count: int, seconds: float) -> Burst:
    shown = [("device", node.device_id) for node in here.town.nodes[:SHOWN]]
    target = f"{PREFIX}events?{urlencode([('topic', 'jobs'), *shown])}"
    async with contextlib.AsyncExitStack() as stack:
        pages = []
        for _ in range(count):
            reader, writer = await _connect(here)
            stack.callback(writer.close)
            writer.write(_get(target))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise Refused("the console refused a stream of events")
            pages.append(asyncio.ensure_future(_read_on(reader)))
        burst = await jobs.run(seconds)
        for page in pages:
            page.cancel()
    return burst


async def _read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


# -- all of it ------------------------------------------------------------------------------------

Beside = Callable[[Findings, Plan, Served, Paced], Awaitable[None]]


def _beside_jobs(name: str, plan: Plan, act: Beside) -> Findings:
    found = Findings()
    with town(plan.crowd) as here, served(here) as gateway:
        start_fleet(gateway, here.nodes[: plan.nodes])
        found.account(name, run(_with_jobs(found, plan, gateway, act)), here.count("succeeded"))
    return found


async def _with_jobs(found: Findings, plan: Plan, here: Served, act: Beside) -> int:
    async with connected(here) as line:
        jobs = Paced(line, [node.device_id for node in here.town.nodes[: plan.nodes]])
        await act(found, plan, here, jobs)
        return jobs.answered


PARTS: Mapping[str, Part] = {"inventory": inventory, "load": load, "feed": feed}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one round takes.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of every figure.")
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="Only this part.")
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(as_json: bool, seconds: float, rounds: int, only: tuple[str, ...], quick: bool) -> None:
    """Measure the console with very many devices."""
    usual = Plan(seconds=seconds, rounds=rounds, callers=8, nodes=CONNECTED, crowd=DEVICES)
    plan = QUICK if quick else usual
    report = measure(plan, [PARTS[name] for name in only or PARTS])
    about = f"{report.crowd} devices, {report.nodes} of them connected; {JOBS_PER_S} jobs/s"
    click.echo(printed(report, about, as_json))


if __name__ == "__main__":
    main()
