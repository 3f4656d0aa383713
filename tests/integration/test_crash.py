"""SIGKILL at the worst moments: what was accepted is not lost, and what may not happen twice
does not."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from tests.integration import plugin
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually

IDEMPOTENT, EFFECT = "test.slow_echo", "test.slow_effect"


@attrs.define
class Errand:
    """A job that waits until the test lets it go, and the traces it leaves."""

    directory: Path

    @property
    def input_json(self) -> bytes:
        """What the capability is told."""
        paths = {name: str(self.directory / name) for name in ("started", "release", "effects")}
        return json.dumps(paths).encode()

    def started(self) -> None:
        """Wait until the handler has begun."""
        eventually(lambda: self.starts >= 1, "the handler has begun")

    @property
    def starts(self) -> int:
        """How often a handler has begun."""
        return self._lines("started")

    @property
    def effects(self) -> int:
        """How often it took effect."""
        return self._lines("effects")

    def release(self) -> None:
        """Let every run end."""
        (self.directory / "release").touch()

    def _lines(self, name: str) -> int:
        file = self.directory / name
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def errand(house: House) -> Errand:
    """A job's traces."""
    directory = house.path / "errand"
    directory.mkdir()
    return Errand(directory)


@pytest.fixture(scope="module")
def one_gateway(shared: House) -> Gateway:
    """The gateway that the tests of this module kill."""
    return shared.gateway().start()


@pytest.fixture(scope="module")
def one_node(shared: House, one_gateway: Gateway) -> NodeHost:
    """The node that they kill, with the slow capabilities."""
    plugins = plugin.install(shared.path / "plugins")
    return shared.node("slow", plugins).pair(one_gateway)


@pytest.fixture
def gateway(one_gateway: Gateway) -> Gateway:
    """The gateway, running."""
    return one_gateway if one_gateway.process.alive else one_gateway.start()


@pytest.fixture
def slow(gateway: Gateway, one_node: NodeHost) -> NodeHost:
    """The node, online."""
    if not one_node.process.alive:
        one_node.start()
    gateway.online(one_node.device_id)
    return one_node


@pytest.mark.parametrize("capability", [IDEMPOTENT, EFFECT])
def test_a_killed_gateway_gets_the_result_of_a_running_job(
    gateway: Gateway, slow: NodeHost, errand: Errand, capability: str
) -> None:
    """The job is on record after the restart, the node comes back by itself, the result arrives,
    and the capability ran once."""
    job_id = gateway.submit(slow.device_id, capability, errand.input_json)
    errand.started()
    gateway.process.kill()
    gateway.start()
    assert gateway.job(job_id).state == "dispatched"
    gateway.online(slow.device_id)
    errand.release()
    ended = gateway.ended(job_id)
    assert (ended.job.state, ended.job.attempts) == ("succeeded", 1), ended.job
    assert errand.effects == 1


def test_a_result_finished_while_the_gateway_was_away_arrives(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """A node keeps what it has done until a gateway confirms it."""
    job_id = gateway.submit(slow.device_id, EFFECT, errand.input_json)
    errand.started()
    gateway.process.kill()
    errand.release()
    slow.process.says("offline")
    gateway.start()
    ended = gateway.ended(job_id)
    assert (ended.job.state, ended.job.attempts) == ("succeeded", 1), ended.job
    assert bytes(ended.output_json or b"") == b'"slow"'
    assert errand.effects == 1


def test_a_node_killed_in_the_middle_runs_an_idempotent_job_again(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """Nothing can go wrong by running it again, so it is run again and succeeds."""
    job_id = gateway.submit(slow.device_id, IDEMPOTENT, errand.input_json)
    errand.started()
    slow.process.kill()
    errand.release()
    slow.start()
    ended = gateway.ended(job_id)
    assert ended.job.state == "succeeded", ended.job
    assert errand.starts == 2


def test_a_node_killed_in_the_middle_of_an_effect_leaves_the_outcome_unknown(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """It may have happened, so it is not done again and nobody claims to know."""
    job_id = gateway.submit(slow.device_id, EFFECT, errand.input_json)
    errand.started()
    slow.process.kill()
    errand.release()
    slow.start()
    ended = gateway.ended(job_id)
    assert (ended.job.state, ended.job.effect_possible) == ("outcome_unknown", True), ended.job
    done = gateway.cli("jobs", "wait", job_id)
    assert done.code == 1 and "may have taken effect" in done.err, done
    assert errand.effects == 1


def test_both_killed_in_the_middle_of_an_effect(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """A power cut that takes both: one effect, and the outcome is unknown."""
    job_id = gateway.submit(slow.device_id, EFFECT, errand.input_json)
    errand.started()
    gateway.process.kill()
    slow.process.kill()
    errand.release()
    gateway.start()
    slow.start()
    assert gateway.ended(job_id).job.state == "outcome_unknown"
    assert errand.effects == 1


def test_every_accepted_job_of_a_burst_survives(gateway: Gateway, slow: NodeHost) -> None:
    """Whatever was accepted before the kill is on record after it, and ends."""
    accepted = [gateway.submit(slow.device_id, "echo", b"%d" % n) for n in range(20)]
    gateway.process.kill()
    gateway.start()
    states = [gateway.ended(job_id).job.state for job_id in accepted]
    assert states == ["succeeded"] * 20


def test_a_device_approved_before_the_kill_gets_its_certificate_after_it(
    house: House, gateway: Gateway
) -> None:
    """Killed between approval and pick-up: the waiting node goes on by itself."""
    node = house.node().start(gateway.line())
    request = node.asks()
    node.process.kill()
    gateway.approve(request)
    gateway.process.kill()
    gateway.start()
    node.start()
    node.process.says("approved\t")
    gateway.online(node.device_id)
    assert [each.state for each in gateway.requests() if each.request_id == request] == [
        "completed"
    ]


def test_a_request_that_waits_survives_the_kill(house: House, gateway: Gateway) -> None:
    """Killed before the operator decided: the device keeps asking and is approved later."""
    node = house.node().start(gateway.line())
    request = node.asks()
    gateway.process.kill()
    gateway.start()
    waiting = [each for each in gateway.requests() if each.state == "pending_approval"]
    assert [each.request_id for each in waiting] == [request]
    gateway.approve(request)
    gateway.online(node.device_id)


def test_sigterm_lets_a_running_job_finish(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """The gateway takes no new work, waits for the result, records it, and only then ends."""
    job_id = gateway.submit(slow.device_id, EFFECT, errand.input_json)
    errand.started()
    gateway.process.send(15)
    gateway.process.says("stopping; running jobs have 10s")
    late = gateway.cli("nodes", "invoke", "slow", "echo")
    assert late.code == 1 and "takes no new work" in late.err, late
    assert gateway.process.alive
    errand.release()
    assert gateway.process.wait() == -15
    (row,) = (each for each in gateway.recorded()["jobs"] if each[0] == job_id)
    assert "succeeded" in row
    gateway.start()
    assert gateway.job(job_id).state == "succeeded"
    gateway.online(slow.device_id)


def test_a_node_stopped_in_the_middle_finishes_first(
    gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """SIGTERM to the node host: the running job ends and its result is recorded."""
    job_id = gateway.submit(slow.device_id, EFFECT, errand.input_json)
    errand.started()
    slow.process.send(15)
    slow.process.says("stopping, 1 job")
    errand.release()
    assert slow.process.wait() == 0
    assert gateway.ended(job_id).job.state == "succeeded"
