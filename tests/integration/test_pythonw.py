"""A node host as the Task Scheduler of Windows runs it, on Linux."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from palyra.cli.nodehost import NodeHost as Owner
from palyra.errors import NodeHostNotRunning
from palyra.node.controlwords import Status, StatusAnswer
from palyra.supervision.service import Service
from palyra.supervision.taskscheduler import ask_stop, serving
from palyra.supervision.taskxml import NAMESPACE, task_of
from tests.integration.house import Gateway, House
from tests.integration.processes import eventually

PYTHONW = Path(__file__).with_name("pythonw.py")


def arguments(service: Service) -> list[str]:
    """What the task has the interpreter do, without how it finds the program."""
    (line,) = ET.fromstring(task_of(service, "S-1-5-7")).iter(f"{{{NAMESPACE}}}Arguments")
    told = (line.text or "").split()
    assert told[:3] == ["-P", "-m", "palyra.node"]
    return told[3:]


def test_a_scheduled_task(house: House, gateway: Gateway) -> None:
    """It serves, its owner is answered over loopback, and it ends in peace when it is asked to; a
    refusal is written where it can be read."""
    node = house.node("task").pair(gateway)
    node.process.terminate()
    service = Service(state_root=node.root)
    command = [sys.executable, str(PYTHONW), *arguments(service)]
    process = house.start(command, house.path / "pythonw.log")
    owner = Owner(node.root, unix=False)

    def online() -> StatusAnswer | None:
        assert process.alive, process.output() + service.stderr_log.read_text()
        try:
            status = owner.ask(Status(), StatusAnswer).value
        except NodeHostNotRunning:
            return None
        return status if status.state == "online" else None

    assert eventually(online, "the node host is online").pid == process.pid
    assert not (service.directory / "control.sock").exists()
    assert serving(node.root) == process.pid
    kept = json.loads((service.directory / "node-host-process.json").read_text())
    assert kept["manager"] == "task"
    second = house.start(command, house.path / "pythonw.log")
    assert second.wait() == 1
    assert f"A node host (pid {process.pid}) already uses" in service.stderr_log.read_text()
    assert ask_stop(node.root, unix=False)
    assert process.wait() == 0
    assert not (service.directory / "control.json").exists()
    assert serving(node.root) == 0
    with pytest.raises(NodeHostNotRunning):
        owner.ask(Status(), StatusAnswer)
    assert process.output() == "" and not list(service.directory.glob("*.pid"))
