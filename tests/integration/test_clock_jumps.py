"""A device whose clock is set: a day on, a day back, to 1970; online, offline, and before it
starts.

What has passed is counted by clocks that nobody sets: sessions go on, jobs end once, and what is
said of the past and the future stays true.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import plugin
from tests.integration.clocks import INSTALL, Clock, available
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import Ran, eventually, run, script
from tests.integration.test_crash import EFFECT, IDEMPOTENT, Errand

pytestmark = pytest.mark.skipif(not available(), reason=INSTALL)
DAY = 24 * 60
DECADES = round(time.time() / 60)
"""Minutes back to 1970."""
JUMPS = {"a-day-ahead": DAY, "a-day-back": -DAY, "to-1970": -DECADES}
jumps = pytest.mark.parametrize("minutes", JUMPS.values(), ids=JUMPS)
MINUTE_MS = 60_000


class Wanderer:
    """A device with a clock of its own; the gateway's is right."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.clock = Clock(house.path / "clock")
        self.gateway: Gateway = house.gateway().start()
        self.node: NodeHost = house.node("pi", plugin.install(house.path / "plugins"))
        self.node.env = self.clock.env
        # Which finds out at once that nobody listens.
        self.node.options = ["--transport", "grpc"]
        self.node.pair(self.gateway)
        self._errands = 0

    def errand(self) -> Errand:
        """A job that waits until the test lets it go."""
        self._errands += 1
        directory = self.house.path / f"errand-{self._errands}"
        directory.mkdir()
        return Errand(directory)

    def submit(self, capability: str) -> tuple[str, Errand]:
        """A job that has begun."""
        errand = self.errand()
        job_id = self.gateway.submit(self.node.device_id, capability, errand.input_json)
        errand.started()
        return job_id, errand

    def check_ended(self, job_id: str, errand: Errand) -> None:
        """It ran once, and says so."""
        ended = self.gateway.ended(job_id)
        assert (ended.job.state, ended.job.attempts) == ("succeeded", 1), ended.job
        assert (errand.starts, errand.effects) == (1, 1)
        assert (ended.job.took_ms or 0) < 2 * MINUTE_MS, ended.job

    def cli(self, *arguments: str) -> Ran:
        """``palyra node ...`` on the device, by its clock."""
        command = [script("palyra"), "node", *arguments, "--state-root", str(self.node.root)]
        return run(command, self.house.path, env=self.clock.env)

    def status(self) -> dict[str, Any]:
        """How it says it is."""
        told: dict[str, Any] = json.loads(self.cli("status", "--json").out)
        return told

    def is_now(self, state: str) -> dict[str, Any]:
        """Wait until it says so."""

        def look() -> dict[str, Any] | None:
            told = self.status()
            return told if told["state"] == state else None

        return eventually(look, f"it is {state}")

    def tells_of(self, code: str) -> dict[str, Any]:
        """Wait until it is offline, and says that this is why: now, and not in a test before."""

        def look() -> dict[str, Any] | None:
            told = self.status()
            error = told["last_error"]
            lasts = error is not None and error["code"] == code and not error["healed_at_unix_ms"]
            return told if told["state"] == "offline" and lasts else None

        return eventually(look, f"it is offline for {code}")

    def check_ages(self, told: dict[str, Any], now_ms: float) -> None:
        """Everything that was is some minutes old at most, and what comes next comes soon."""
        for name in ("started_at_unix_ms", "last_heard_unix_ms"):
            assert -2_000 <= now_ms - told[name] < 10 * MINUTE_MS, (name, now_ms, told)
        if told["retry_at_unix_ms"]:
            assert abs(told["retry_at_unix_ms"] - now_ms) < MINUTE_MS, (now_ms, told)
        if told["cert_renews_at_unix_ms"]:
            ahead_ms = told["cert_renews_at_unix_ms"] - now_ms
            assert 0 < ahead_ms < 24 * 60 * MINUTE_MS, (now_ms, told)
        error = told["last_error"]
        if error and not error["healed_at_unix_ms"]:
            assert -2_000 <= now_ms - error["began_at_unix_ms"] < 10 * MINUTE_MS, (now_ms, told)


@pytest.fixture(scope="module")
def one_device(shared: House) -> Iterator[Wanderer]:
    yield Wanderer(shared)


@pytest.fixture
def device(one_device: Wanderer) -> Iterator[Wanderer]:
    """Online, its clock right; at the end too."""
    gateway, node = one_device.gateway, one_device.node
    if not gateway.process.alive:
        gateway.start()
    if not node.process.alive:
        node.start()
    gateway.online(node.device_id)
    yield one_device


@jumps
def test_online_with_a_job(device: Wanderer, minutes: int) -> None:
    """The session is the same one, jobs that run go on and jobs that come later run; the status
    knows how old things are."""
    gateway, node = device.gateway, device.node
    before = [device.submit(each) for each in (EFFECT, IDEMPOTENT)]
    onlines = node.process.said().count("online")
    certificate = node.client.current
    device.clock.move(minutes=minutes)
    try:
        device.check_ages(device.is_now("online"), (time.time() + minutes * 60) * 1000)
        after = device.submit(EFFECT)
        for job_id, errand in (*before, after):
            errand.release()
            device.check_ended(job_id, errand)
        assert gateway.node(node.device_id).presence == "online"
        assert device.cli("status").code == 0
    finally:
        device.clock.move(minutes=-minutes)
    device.check_ages(device.is_now("online"), time.time() * 1000)
    assert node.process.said().count("online") == onlines
    assert node.client.current == certificate


@jumps
def test_offline_with_a_result(device: Wanderer, minutes: int) -> None:
    """What was made while the gateway was away arrives, at the latest when the clock is right; a
    clock that TLS cannot work with is said with both times."""
    gateway, node = device.gateway, device.node
    job_id, errand = device.submit(EFFECT)
    gateway.process.kill()
    device.is_now("offline")
    errand.release()
    eventually(lambda: device.status()["jobs"] == 0, "it has ended")
    device.clock.move(minutes=minutes)
    try:
        told = device.is_now("offline")
        device.check_ages(told, (time.time() + minutes * 60) * 1000)
        gateway.start()
        if minutes < 0:
            told = device.tells_of("clock_skew")
            assert told["last_error"]["sentence"].startswith("This clock (")
            assert "is before the gateway's certificate begins (" in told["last_error"]["sentence"]
            assert told["last_error"]["hint"] == "timedatectl set-ntp true"
        else:
            gateway.online(node.device_id)
    finally:
        device.clock.move(minutes=-minutes)
    gateway.online(node.device_id)
    device.check_ended(job_id, errand)
    told = device.is_now("online")
    device.check_ages(told, time.time() * 1000)
    assert told["last_error"]["healed_at_unix_ms"] >= told["last_error"]["began_at_unix_ms"]


@pytest.mark.parametrize("minutes", [DAY, -DECADES], ids=["a-day-ahead", "in-1970"])
def test_before_the_start(device: Wanderer, minutes: int) -> None:
    """A device without a battery: it starts, says what is wrong, and is there when somebody has
    told it the time; the same device, with the same certificate where that is good still."""
    gateway, node = device.gateway, device.node
    node.process.terminate()
    device.clock.move(minutes=minutes)
    try:
        node.start()
        if minutes < 0:
            device.tells_of("clock_skew")
        else:
            gateway.online(node.device_id)
    finally:
        device.clock.move(minutes=-minutes)
    gateway.online(node.device_id)
    device.check_ages(device.is_now("online"), time.time() * 1000)
    job_id, errand = device.submit(EFFECT)
    errand.release()
    device.check_ended(job_id, errand)
