"""Tests of :mod:`palyra.node.offerrooms`: real workers, of distributions made for the test."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread

from palyra._reactor import the_reactor
from palyra.capability import Capability, CapabilityContext
from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.config.node import NodeSection, WorkerSection
from palyra.core.devices import AnnouncedCapability
from palyra.node import offerrooms
from palyra.node.offerrooms import OfferRooms
from palyra.plugins.discovery import own_offers
from palyra.transport.asyncbridge import call_from_thread
from tests.capability.distributions import make_capability, worker_argv
from tests.node.awaiting import awaiting
from tests.node.fakes import FACTS, act

PATIENCE_S = 30


@attrs.define
class World:
    """A directory where plugins come and go, and a node host's rooms for them."""

    root: Path
    start_s: float = 10.0
    rooms: OfferRooms = attrs.field(init=False)

    @rooms.default
    def _made(self) -> OfferRooms:
        plugins = self.root / "plugins"
        plugins.mkdir(exist_ok=True)
        return OfferRooms(
            Catalogue(*own_offers()),
            NodeSection(worker=WorkerSection(start_s=self.start_s)),
            reactor=the_reactor(),
            elapsed_s=time.monotonic,
            awake_s=time.monotonic,
            may_ask=lambda name, risk, needed: needed,
            file=self.root / "palyra.toml",
            cache=self.root / "cache.json",
            argv=worker_argv(plugins),
            path=[*sys.path, str(plugins)],
        )

    def install(self, name: str, body: str = "return input", **given: str) -> None:
        """As pip does it, under a node host that runs."""
        make_capability(self.root / "plugins", name, body, **given)

    def faults(self, prefix: str) -> list[str]:
        """What is wrong with those of that name."""
        faults = self.rooms.offering.catalogue.faults
        return [each.sentence for each in faults if each.name.startswith(prefix)]

    def write(self, text: str) -> None:
        (self.root / "palyra.toml").write_text(text)

    def said(self, name: str) -> AnnouncedCapability:
        (found,) = [each for each in self.rooms.offering.announced() if each.name == name]
        return found

    def run(self, name: str, input_bytes: bytes = b"{}") -> Deferred[Outcome]:
        """Run a capability, as a job would."""
        done: Deferred[Outcome] = Deferred()
        context = CapabilityContext("job", FACTS, deadline_s=time.monotonic() + PATIENCE_S)
        offer = self.rooms.offering.catalogue.offers[name]
        self.rooms.start(
            offer, input_bytes, context, 65_536, lambda out: call_from_thread(done.callback, out)
        )
        return done

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait for something that comes from a thread."""
        over = time.monotonic() + PATIENCE_S
        while not ready() and time.monotonic() < over:
            await deferLater(the_reactor(), 0.02)
        assert ready()


@awaiting
async def test_a_plugin_comes_while_the_node_runs(tmp_path: Path) -> None:
    """After a reload it is offered and can be run, in a process of its own."""
    world = World(tmp_path)
    world.rooms.open()
    try:
        await world.rooms.reload()
        assert "acme.scan" not in world.rooms.offering.catalogue.offers
        world.install("acme.scan", "return {'pid': os.getpid(), 'got': input}")
        await world.rooms.reload()
        outcome = await world.run("acme.scan", b'{"a": 1}')
        answer = json.loads(outcome.output)
        assert answer["got"] == {"a": 1}
        assert answer["pid"] != os.getpid()
        assert (await world.run("echo", b'"hi"')).kind is OutcomeKind.SUCCEEDED
    finally:
        await world.rooms.stop()


HANG = "import time\ntime.sleep(600)"


@awaiting
async def test_a_plugin_that_hangs_keeps_nobody_from_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits for it for a moment only: what was described before is offered at once, and
    what is wrong with it is told later."""
    world = World(tmp_path)
    world.install("acme.scan", "return 1")
    world.rooms.open()
    await world.rooms.reload()
    await world.rooms.stop()
    world = World(tmp_path, start_s=1.0)
    world.install("acme.fax", head=HANG)
    monkeypatch.setattr(offerrooms, "PATIENCE_S", 0.05)
    world.rooms.open()
    try:
        await world.rooms.begin()
        offered = world.rooms.offering.catalogue.offers
        assert "echo" in offered
        assert not world.faults("acme")
        await world.until(lambda: "acme.scan" in world.rooms.offering.catalogue.offers)
        assert not world.faults("acme")
        assert (await world.run("acme.scan")).output == b"1"
        await world.until(lambda: world.faults("acme") != [])
    finally:
        await world.rooms.stop()


@awaiting
async def test_a_start_waits_for_plugins_that_answer(tmp_path: Path) -> None:
    """Jobs that wait for them find them there."""
    world = World(tmp_path)
    world.install("acme.scan", "return 1")
    world.rooms.open()
    try:
        await world.rooms.begin()
        assert "acme.scan" in world.rooms.offering.catalogue.offers
    finally:
        await world.rooms.stop()


@awaiting
async def test_a_stop_while_it_is_found_out_what_is_offered(tmp_path: Path) -> None:
    """Nothing is left of it, no process and no delayed call."""
    world = World(tmp_path)
    world.install("acme.fax", head=HANG)
    world.rooms.open()
    begun = world.rooms.begin()
    await world.rooms.stop()
    await begun


@awaiting
async def test_an_upgrade_takes_effect_with_a_reload(tmp_path: Path) -> None:
    """The contract is another one where the plugin's word is, and new runs are of the new code."""
    world = World(tmp_path)
    world.install("acme.scan", "return 1")
    world.rooms.open()
    try:
        await world.rooms.reload()
        before = world.said("acme.scan")
        assert (await world.run("acme.scan")).output == b"1"
        world.install("acme.scan", "return 2", options="risk=Risk.HIGH")
        await world.rooms.reload()
        assert world.said("acme.scan").contract != before.contract
        assert (await world.run("acme.scan")).output == b"2"
    finally:
        await world.rooms.stop()


@awaiting
async def test_the_owner_changes_the_configuration(tmp_path: Path) -> None:
    """Settings reach the handler, a switch takes it away, and a plugin that is broken says so."""
    head = """
        import msgspec

        class Settings(msgspec.Struct, forbid_unknown_fields=True):
            root: str
    """
    world = World(tmp_path)
    world.install(
        "acme.scan", "return context.settings.root", options="settings_type=Settings", head=head
    )
    world.install("acme.fax", head="import no_such_module")
    world.rooms.open()
    try:
        await world.rooms.reload()
        assert "settings.root: is required" in world.said("acme.scan").fault
        assert "No module named 'no_such_module'" in world.said("acme.fax").fault
        world.write('[node.capability."acme.scan".settings]\nroot = "/srv"\n')
        await world.rooms.reload()
        assert (await world.run("acme.scan")).output == b'"/srv"'
        world.write('[node]\ndisabled = ["acme.*"]\n')
        await world.rooms.reload()
        said = world.said("acme.scan")
        assert (said.available, said.fault) == (False, "")
    finally:
        await world.rooms.stop()


@awaiting
async def test_workers_that_die_are_announced(tmp_path: Path) -> None:
    """After the third death within a minute, with the cause; a reload tries them again."""
    world = World(tmp_path)
    world.install("acme.scan", "os._exit(3)")
    world.rooms.open()
    try:
        await world.rooms.reload()
        for _ in range(3):
            outcome = await world.run("acme.scan")
            assert outcome.error_code == "worker_died"
        await world.until(lambda: not world.said("acme.scan").available)
        assert "status 3" in world.said("acme.scan").fault
        await world.rooms.reload()
        await world.until(lambda: world.said("acme.scan").available)
    finally:
        await world.rooms.stop()


@awaiting
async def test_stopping_does_not_wait_for_a_plugin(tmp_path: Path) -> None:
    """One that never says what it is would hold up the end of the node host."""
    world = World(tmp_path)
    world.install("acme.scan", head="time.sleep(600)")
    world.rooms.open()
    found = world.rooms.reload()
    found.addErrback(lambda _: None)
    await deferToThread(lambda: None)
    before = time.monotonic()
    await world.rooms.stop()
    assert time.monotonic() - before < PATIENCE_S
    assert found.called


def test_nobody_is_blamed_for_a_sleep(tmp_path: Path) -> None:
    """What ran in this process when the lid was closed did not hang it."""
    clock, slept_s = Clock(), [0.0]
    rooms = OfferRooms(
        Catalogue(*own_offers()),
        NodeSection(),
        reactor=clock,
        elapsed_s=lambda: clock.seconds() + slept_s[0],
        awake_s=clock.seconds,
        may_ask=lambda name, risk, needed: needed,
        file=None,
        cache=tmp_path / "cache",
    )
    rooms._watchdog.began("echo")
    slept_s[0] = 3600.0
    clock.advance(1)
    assert rooms.offering.catalogue.broken == ()


def test_what_hangs_the_node_host_is_withdrawn(tmp_path: Path) -> None:
    """What others have brought, where the owner let it in; our own stays."""
    ours = Capability(name="echo", description="x", handler=act)
    theirs = Capability(name="acme.scan", description="x", handler=act)
    first = Catalogue(
        [Offer(ours.descriptor("palyra", "1"), ours), Offer(theirs.descriptor("acme", "1"), theirs)]
    )
    clock, lost_s = Clock(), [0.0]
    rooms = OfferRooms(
        first,
        NodeSection(),
        reactor=clock,
        elapsed_s=time.monotonic,
        awake_s=lambda: clock.seconds() + lost_s[0],
        may_ask=lambda name, risk, needed: needed,
        file=None,
        cache=tmp_path / "cache",
    )
    for name in ("echo", "acme.scan"):
        rooms._watchdog.began(name)
    lost_s[0] = 3.0
    clock.advance(1)
    assert list(rooms.offering.catalogue.offers) == ["echo"]
    (said,) = [each for each in rooms.offering.announced() if each.name == "acme.scan"]
    assert said.fault == "It kept the node host from all else for 4 s; restart the node host."
