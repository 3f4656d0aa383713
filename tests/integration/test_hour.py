"""A gateway that is away for an hour, by the clock on the wall of both ends: what was made
meanwhile is delivered, and nothing else has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from palyra.console.models import Invoke, InvokeAnswer
from tests.integration import plugin
from tests.integration.clocks import INSTALL, Clock, available
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually, run, script
from tests.integration.test_crash import EFFECT, IDEMPOTENT, Errand

pytestmark = pytest.mark.skipif(not available(), reason=INSTALL)
HOUR_MS = 3_600_000


class Apart:
    """A gateway and a node whose clocks are one."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.clock = Clock(house.path / "clock")
        self.gateway: Gateway = house.gateway()
        self.gateway.env = self.clock.env
        self.gateway.start()
        self.node: NodeHost = house.node("pi", plugin.install(house.path / "plugins"))
        self.node.env = self.clock.env
        self.node.options = ["--transport", "grpc"]  # which finds out at once that nobody listens
        self.node.pair(self.gateway)

    def submit(self, capability: str, errand: Errand) -> str:
        """Have a job accepted that may take hours; its id."""
        asked = Invoke(
            capability, msgspec.Raw(errand.input_json), timeout_ms=3 * HOUR_MS, wait_ms=0
        )
        where = f"nodes/{self.node.device_id}/invoke"
        return self.gateway.console.post(where, asked, InvokeAnswer).value.job_id

    def errand(self, name: str) -> Errand:
        """A job that waits until the test lets it go."""
        directory = self.house.path / name
        directory.mkdir()
        return Errand(directory)

    def status(self) -> dict[str, Any]:
        """What ``palyra node status --json`` says, on the same clock."""
        command = [script("palyra"), "node", "status", "--json", "--state-root"]
        done = run([*command, str(self.node.root)], self.house.path, env=self.clock.env)
        told: dict[str, Any] = json.loads(done.out)
        assert done.code == {"online": 0, "offline": 3}[told["state"]], done
        return told

    def is_offline(self) -> dict[str, Any]:
        """Wait until the node misses its gateway; its status then."""

        def look() -> dict[str, Any] | None:
            told = self.status()
            return told if told["state"] == "offline" and told["last_error"] else None

        return eventually(look, "the node host misses its gateway")


@pytest.fixture
def apart(house: House) -> Iterator[Apart]:
    """Paired, and online."""
    yield Apart(house)


def test_a_gateway_that_was_away_for_an_hour(apart: Apart) -> None:
    """One job ends while it is away and one runs on: both results arrive once, and neither ran
    twice.  The certificate, which has 23 hours to go, is the one that it was; a clock that leaps is
    not taken for time that passes."""
    gateway, node = apart.gateway, apart.node
    finished, running = apart.errand("finished"), apart.errand("running")
    jobs = [apart.submit(EFFECT, finished), apart.submit(IDEMPOTENT, running)]
    finished.started()
    running.started()
    before = node.client.current
    assert before is not None

    gateway.process.kill()
    apart.is_offline()
    finished.release()
    eventually(lambda: apart.status()["jobs"] == 1, "one job has ended")
    apart.clock.move(hours=1)
    away = apart.is_offline()
    assert away["last_error"]["healed_at_unix_ms"] == 0
    assert away["retry_at_unix_ms"] - away["last_heard_unix_ms"] > 0

    gateway.start()
    gateway.online(node.device_id)
    first = gateway.ended(jobs[0])
    assert gateway.job(jobs[1]).state == "dispatched"
    running.release()
    for ended, errand in ((first, finished), (gateway.ended(jobs[1]), running)):
        assert (ended.job.state, ended.job.attempts) == ("succeeded", 1), ended.job
        assert bytes(ended.output_json or b"") == b'"pi"'
        assert (errand.starts, errand.effects) == (1, 1)

    back = eventually(
        lambda: told if (told := apart.status())["state"] == "online" else None, "it says online"
    )
    error = back["last_error"]
    assert 0 <= error["healed_at_unix_ms"] - error["began_at_unix_ms"] < 60_000
    assert node.client.current == before
    left_ms = back["cert_expires_at_unix_ms"] - back["last_heard_unix_ms"]
    assert 22 * HOUR_MS < left_ms < 23.1 * HOUR_MS
    assert (
        back["last_heard_unix_ms"]
        < back["cert_renews_at_unix_ms"]
        < back["cert_expires_at_unix_ms"]
    )
