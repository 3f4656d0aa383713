"""The same jobs over gRPC and over QUIC, in one run on one gateway.

Run ``python -m benchmarks.transports``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
import click

from benchmarks.hosts import start_hosts
from benchmarks.loads import Unary, connected
from benchmarks.measuring import Findings, Plan, figure, run
from benchmarks.paired import Served, cpu_s, served, town
from benchmarks.report import measure, printed
from benchmarks.ways import CPU, LATENCY, NODE_CPU, RATE, keep, run_rounds, way

GRPC, QUIC = TRANSPORTS = "grpc", "quic"
PROCESSES = 2
"""In which the idle nodes are: one would be busy longer than the gateway."""
REST = 3
"""How many times as long as calls are measured: a node at rest says little."""
KIB = 1024
QUICK = Plan(seconds=0.4, rounds=2, callers=8, nodes=4, crowd=20)


@attrs.frozen
class Group:
    """Nodes on one transport, all of them in one process."""

    transport: str
    device_ids: Sequence[str]
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds that their process has used."""
        return cpu_s(self.pid)


def one(transports: Sequence[str], plan: Plan) -> Findings:
    """One caller that waits for each job of one node."""
    return _called("one", transports, plan, callers=1, nodes=1)


def rate(transports: Sequence[str], plan: Plan) -> Findings:
    """Many callers of one node: its session carries all of it."""
    return _called("rate", transports, plan, callers=plan.callers, nodes=1)


def spread(transports: Sequence[str], plan: Plan) -> Findings:
    """Many callers and nodes in turn: a session has one job now and then."""
    return _called("spread", transports, plan, callers=plan.callers, nodes=plan.nodes)


def _called(
    name: str, transports: Sequence[str], plan: Plan, *, callers: int, nodes: int
) -> Findings:
    found = Findings()
    with town(nodes * len(transports)) as here, served(here) as gateway:
        groups = []
        for number, transport in enumerate(transports):
            members = here.nodes[number :: len(transports)]
            child = start_hosts(gateway, members, transport)
            groups.append(Group(transport, [each.device_id for each in members], child.pid))
        answered = run(_compared(found, name, plan, gateway, callers, groups))
        found.account(name, answered, here.count("succeeded"))
    return found


async def _compared(
    found: Findings, name: str, plan: Plan, here: Served, callers: int, groups: Sequence[Group]
) -> int:
    """Each transport once a round; everything has its ratio to the first of them."""
    async with connected(here) as line:
        jobs = [Unary(line, group.device_ids) for group in groups]
        ways = [
            way(group.transport, job.job, callers, here.cpu_s, group.cpu_s)
            for group, job in zip(groups, jobs, strict=True)
        ]
        rounds = await run_rounds(ways, plan)
    against = None
    for transport, ours in rounds.items():
        readers = {**RATE, **LATENCY, **CPU, **NODE_CPU}
        keep(found, f"{name}.{transport}", ours, readers, against)
        against = against or ours
    return sum(job.answered for job in jobs)


# -- at rest --------------------------------------------------------------------------------------


def idle(transports: Sequence[str], plan: Plan) -> Findings:
    """Very many nodes that have nothing to do: a gateway for each transport, one after another."""
    found = Findings()
    first: dict[str, float] | None = None
    for transport in transports:
        values = _rest(plan, transport)
        first = first or values
        for key, value in values.items():
            against = None if first is values or not first[key] else [first[key]]
            found.figures[f"idle.{transport}.{key}"] = figure([value], against)
    return found


def _rest(plan: Plan, transport: str) -> dict[str, float]:
    with town(plan.crowd) as here, served(here) as gateway:
        alone, alone_s = gateway.rss(), gateway.cpu_s()
        began_s = time.perf_counter()
        children = [
            start_hosts(gateway, here.nodes[number::PROCESSES], transport)
            for number in range(PROCESSES)
        ]
        connect_s, connect_cpu_s = time.perf_counter() - began_s, gateway.cpu_s() - alone_s
        before_s, nodes_before_s = gateway.cpu_s(), sum(cpu_s(each.pid) for each in children)
        rest_s = REST * plan.seconds * plan.rounds
        time.sleep(rest_s)
        nodes_s = sum(cpu_s(each.pid) for each in children) - nodes_before_s
        return {
            "connect_s": connect_s,
            "connect_cpu_ms_per_node": connect_cpu_s / plan.crowd * 1e3,
            "cpu_us_per_node_and_s": (gateway.cpu_s() - before_s) / plan.crowd / rest_s * 1e6,
            "node_cpu_us_per_node_and_s": nodes_s / plan.crowd / rest_s * 1e6,
            "rss_kib_per_node": (gateway.rss() - alone) / KIB / plan.crowd,
        }


# -- all of it ------------------------------------------------------------------------------------


PARTS: Mapping[str, Callable[[Sequence[str], Plan], Findings]] = {
    "one": one,
    "rate": rate,
    "spread": spread,
    "idle": idle,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one round takes.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of every figure.")
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="Only this part.")
@click.option(
    "--transport", multiple=True, type=click.Choice(TRANSPORTS), help="Only this transport."
)
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(
    as_json: bool,
    seconds: float,
    rounds: int,
    only: tuple[str, ...],
    transport: tuple[str, ...],
    quick: bool,
) -> None:
    """Measure the same jobs over gRPC and QUIC."""
    plan = QUICK if quick else Plan(seconds=seconds, rounds=rounds, nodes=64)
    parts = [partial(PARTS[name], transport or TRANSPORTS) for name in only or PARTS]
    about = f"1 and {plan.nodes} nodes on each transport; {plan.crowd} at rest"
    click.echo(printed(measure(plan, parts), about, as_json))


if __name__ == "__main__":
    main()
