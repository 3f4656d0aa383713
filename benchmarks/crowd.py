"""One call to very many nodes, as an operator makes it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

import msgspec

from benchmarks.loads import Refused
from benchmarks.measuring import Findings, Plan, figure
from benchmarks.paired import Served, served, start_fleet, town
from benchmarks.records import ECHO, INPUT
from palyra.console.models import FanoutAnswer, SubmitJobs

PROCESSES = 2
"""In which the nodes are: one would be busy longer than the gateway."""
KIB = 1024


def fanout(plan: Plan) -> Findings:
    """Fan one ``echo`` out to all nodes; the gateway's memory with all of them connected."""
    found = Findings()
    with town(plan.crowd) as here, served(here) as gateway:
        alone = gateway.rss()
        began_s = time.perf_counter()
        for number in range(PROCESSES):
            start_fleet(gateway, here.nodes[number::PROCESSES])
        found.figures["fanout.connect_s"] = figure([time.perf_counter() - began_s])
        idle = gateway.rss()
        times, cpu_s, succeeded = [], [], 0
        for _ in range(plan.rounds + 1):
            before_s = gateway.cpu_s()
            accepted_s, over_s, states = _fan_out(gateway)
            times.append((accepted_s, over_s))
            cpu_s.append((gateway.cpu_s() - before_s) / plan.crowd * 1e6)
            if states != Counter(succeeded=plan.crowd):
                raise Refused(f"the rows of a fan-out ended {dict(states)}")
            succeeded += plan.crowd
        found.account("fanout", succeeded, here.count("succeeded"))
        busy = gateway.rss()
    first, *others = times
    found.figures["fanout.first_s"] = figure([first[1]])
    found.figures["fanout.accepted_s"] = figure([accepted_s for accepted_s, _ in others])
    found.figures["fanout.last_row_s"] = figure([over_s for _, over_s in others])
    found.figures["fanout.cpu_us"] = figure(cpu_s[1:])
    found.figures["fanout.rss_kib_per_node"] = figure([(idle - alone) / KIB / plan.crowd])
    found.figures["fanout.rss_kib_per_node_after"] = figure([(busy - alone) / KIB / plan.crowd])
    return found


def _fan_out(here: Served) -> tuple[float, float, Counter[str]]:
    """Seconds until all rows are on record and until the last has ended; rows by state."""
    console = here.town.console
    asked = SubmitJobs(ECHO.name, where=f"has({ECHO.name})", input_json=msgspec.Raw(INPUT))
    began_s = time.perf_counter()
    answer = console.post("jobs", asked, FanoutAnswer).value
    accepted_s = time.perf_counter() - began_s
    path = f"fanouts/{answer.fanout.fanout_id}"
    with contextlib.closing(console.events(f"{path}/events")) as events:
        for _ in events:
            over_s = time.perf_counter() - began_s
    rows: Counter[str] = Counter()
    for page in console.pages(path, FanoutAnswer, None):
        rows.update(row.state for row in page.value.rows)
    return accepted_s, over_s, rows
