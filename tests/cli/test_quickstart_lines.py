"""Tests of :mod:`palyra.cli.quickstart_lines`."""

from __future__ import annotations

from palyra.cli import quickstart_lines
from palyra.cli.quickstart_lines import Announced, Chosen
from tests.cli.things import KEY, PI, node

HEALTH = {
    "status": "ok",
    "cpu": {"percent": 7.2, "count": 2},
    "memory": {"percent": 41.0},
    "disk": {"percent": 62.9},
    "uptime": {"system_s": 3 * 86400 + 5, "process_s": 3},
}
IDENTITY = {"device_id": PI, "name": "laptop", "platform": "linux", "machine": "x86_64"}


def test_as_drawn() -> None:
    """The lines of a run in which everything went well."""
    echo = {"echo": {"text": "hello"}, "device_id": PI}
    lines = [
        quickstart_lines.gateway([Chosen("enrolment", 7443, 7443), Chosen("nodes", 7444, 7444)]),
        quickstart_lines.paired(node(name="laptop", transport="grpc")),
        quickstart_lines.answered("echo", echo, 2),
        quickstart_lines.answered("system.health", HEALTH, 9),
        quickstart_lines.answered("system.identity", IDENTITY, 3),
    ]
    assert lines == [
        "ok  gateway started    enrolment 7443, nodes 7444",
        "ok  node paired        laptop  X4K7QM  over grpc, single-use code, approved",
        'ok  echo               {"echo":{"text":"hello"},...}              2 ms',
        "ok  system.health      cpu 7%  memory 41%  disk 63%  up 3d        9 ms",
        "ok  system.identity    laptop  linux x86_64                       3 ms",
    ]


def test_a_taken_port_is_told() -> None:
    """Which one was taken, and what is used instead."""
    assert str(Chosen("nodes", 7444, 7450)) == "nodes 7450 (7444 was taken)"


def test_a_failure() -> None:
    """Marked, with its reason, on one line."""
    assert quickstart_lines.failed("echo", "no\nway") == "!!  echo               no\\u000away"


def test_answers_of_another_form() -> None:
    """An output with other keys is shown as it is."""
    assert '{"a":1}' in quickstart_lines.answered("system.health", {"a": 1}, 1)
    assert '{"a":1}' in quickstart_lines.answered("system.identity", {"a": 1}, 1)
    assert " 7 " in quickstart_lines.answered("echo", 7, 1)
    assert '{"echo":7} ' in quickstart_lines.answered("echo", {"echo": 7}, 1)


def test_what_the_node_announces() -> None:
    """Its identity line is found among others."""
    lines = ["ok\tgateway\tx", f"identity\tpi\tX4K7QM\t{KEY}", "online"]
    assert quickstart_lines.announced(lines) == Announced("pi", "X4K7QM", KEY)
    assert quickstart_lines.announced(["identity\tpi"]) is None
