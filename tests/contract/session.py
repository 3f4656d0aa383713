"""What a node session keeps, whatever carries it (PROTOCOL: Sessions)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.core.frames import STARTED, Chunk, GatewayFrame, NodeEvent, Progress, Renew
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import JobState, Outcome, Report
from palyra.errors import TookTooLong
from palyra.gateway.sessions import EXPIRY_GRACE_S, HANDOVER_S
from palyra.node.identity import Credential
from palyra.node.rejoin import is_final
from palyra.pki.authority import DAY_MS
from palyra.transport.interfaces import ICarrier, INodeSession
from palyra.wire.session import MAX_IN_MESSAGE
from tests.contract.sessioncatalog import SessionCatalogContract
from tests.contract.sessionends import NodeEnd, code_of
from tests.contract.sessionjobs import SessionJobsContract
from tests.contract.sessionplace import Place, turns
from tests.gateway.house import attempt_of, result_of
from tests.node.awaiting import awaiting

ROUNDS = 6


@implementer(INodeSession)
class Alien:
    """A node that says what it was given: the rest once the gateway has answered the first."""

    def __init__(self, carrier: ICarrier, *events: NodeEvent) -> None:
        self._carrier = carrier
        self._events = list(events)
        self._allowed = 1
        carrier.wake()

    def received(self, frame: GatewayFrame) -> None:
        self._allowed += 1
        self._carrier.wake()

    def take_event(self) -> NodeEvent | None:
        if not self._events or not self._allowed:
            return None
        self._allowed -= 1
        return self._events.pop(0)


async def say(node: NodeEnd, *rest: NodeEvent) -> str:
    """Open a session that says this after its first word; the code of what ends it."""
    link = await node.register()
    first = NodeEvent(STARTED, session_epoch=link.welcome.session_epoch)
    over = link.channel.stream(lambda carrier: Alien(carrier, first, *rest), node.peer.device_id)
    kept: list[Any] = []
    over.addBoth(kept.append)
    await node.until(lambda: kept)
    await link.channel.close()
    return code_of(kept[0].value) if kept[0] is not None else ""


class SessionContract(SessionJobsContract, SessionCatalogContract):
    """Mixed into a test class whose ``carriers`` gives a new way of carrying sessions."""

    # -- how it begins ------------------------------------------------------------------------

    @awaiting
    async def test_a_session_brings_jobs(self, place: Place) -> None:
        """Who has registered and opened a session is sent jobs, and its results are kept."""
        node = place.node()
        await node.connect()
        job = node.submit(b'{"a":1}')
        run = await node.started()
        assert run.input_json == b'{"a":1}'
        run.finish(b'{"b":2}')
        await node.ended(job)
        kept = place.gateway.kept(job)
        assert (kept.state, kept.output_json) == (JobState.SUCCEEDED, b'{"b":2}')

    @awaiting
    async def test_the_first_word(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is ``node.started``, and names the registration that it belongs to."""
        heard: list[NodeEvent] = []
        desk = place.gateway.node_desk
        attach = desk.attach

        def listen(peer: Any, first: NodeEvent, carrier: ICarrier) -> Any:
            heard.append(first)
            return attach(peer, first, carrier)

        monkeypatch.setattr(desk, "attach", listen)
        connected = await place.node().connect()
        (first,) = heard
        epoch = connected.link.welcome.session_epoch
        assert (first.name, first.session_epoch) == (STARTED, epoch)

    @awaiting
    async def test_another_registration(self, place: Place) -> None:
        """A session of one that was never made is refused, and the node is told why."""
        node = place.node()
        link = await node.register()
        epoch = link.welcome.session_epoch
        link.welcome = attrs.evolve(link.welcome, session_epoch=epoch + 1)
        connected = node.open(link)
        await place.until(lambda: connected.over)
        assert connected.code == "not_registered"
        assert place.gateway.sessions.count() == 0

    @awaiting
    async def test_a_registration_opens_one_session(self, place: Place) -> None:
        """A second one would repeat what the node said of its attempts then."""
        node = place.node()
        first = await node.connect()
        link = await node.register()
        link.welcome = first.link.welcome
        second = node.open(link)
        await place.until(lambda: second.over)
        assert second.code == "not_registered" and not first.over

    @awaiting
    async def test_the_newest_session_takes_over(self, place: Place) -> None:
        """The old one is drained, brings results for a while, and is then closed in peace."""
        node = place.node()
        old = await node.connect()
        jobs = [node.submit() for _ in range(2)]
        await node.started(2)
        new = await node.connect()
        await place.until(lambda: old.drains)
        old.session.report(Report(attempt_of(jobs[0]), Outcome.SUCCEEDED, b'"over the old"'))
        await node.ended(jobs[0])
        node.hands.runs[1].finish(b'"over the new"')
        await node.ended(jobs[1])
        assert not old.over
        await place.beat(HANDOVER_S + 1)
        await place.until(lambda: old.over)
        assert old.error is None and not new.over
        outputs = [place.gateway.kept(job).output_json for job in jobs]
        assert outputs == [b'"over the old"', b'"over the new"']

    # -- what the gateway directs -------------------------------------------------------------

    @awaiting
    async def test_a_drain(self, place: Place) -> None:
        """The node hears when to come back; the session goes on until it is closed."""
        node = place.node()
        connected = await node.connect()
        place.gateway.sessions.drain_all("maintenance", 5_000)
        await place.until(lambda: connected.drains)
        assert connected.drains == [5_000] and not connected.over

    @awaiting
    async def test_an_order_to_renew(self, place: Place) -> None:
        """The node hears the reason and how much time it has."""
        node = place.node()
        connected = await node.connect()
        assert node.owner is not None
        node.owner.renew(Renew("rotate", 60_000))
        await place.until(lambda: connected.orders)
        assert connected.orders == [Renew("rotate", 60_000)]

    @awaiting
    async def test_a_renewal_beside_the_session(self, place: Place) -> None:
        """The next certificate comes over the same connection, and registering over it retires
        the one before."""
        node = place.node()
        old = await node.connect()
        renewed = await old.link.channel.renew(node.renewal())
        before, key = node.credential, node.credential.private_key_pem
        assert not old.over
        node.credential = Credential(renewed.certificate_pem, key, 0)
        await node.connect()
        await place.until(lambda: old.drains)
        node.credential = before
        kept: list[Any] = []
        channel = node.channel()
        channel.register(node.hello()).addErrback(lambda failure: kept.append(failure.value))
        await place.until(lambda: kept)
        await channel.close()
        assert code_of(kept[0]) == "certificate_superseded"

    # -- how it ends --------------------------------------------------------------------------

    @awaiting
    async def test_a_revocation(self, place: Place) -> None:
        """The node is told that trying again is of no use, and is kept out from then on."""
        node, other = place.node(), place.node("nas")
        connected, untouched = await node.connect(), await other.connect()
        revoking = place.gateway.revoker.revoke(node.device, "ana", "stolen")
        result_of(Deferred.fromCoroutine(revoking))
        assert node.owner is None
        await place.until(lambda: connected.over)
        assert connected.code == "device_revoked" and is_final(connected.error)
        kept: list[Any] = []
        channel = node.channel()
        channel.register(node.hello()).addErrback(lambda failure: kept.append(failure.value))
        await place.until(lambda: kept)
        await channel.close()
        assert code_of(kept[0]) == "device_revoked" and is_final(kept[0])
        assert not untouched.over

    @awaiting
    async def test_a_certificate_runs_out(self, place: Place) -> None:
        """Its session ends five minutes after it, not before."""
        node = place.node()
        left_s = 60
        place.gateway.clock.advance(DAY_MS / 1000 - left_s)
        connected = await node.connect()
        await place.beat(left_s + EXPIRY_GRACE_S - 30)
        assert not connected.over
        await place.beat(60)
        await place.until(lambda: connected.over)
        assert place.gateway.sessions.count() == 0

    @awaiting
    async def test_the_node_says_goodbye(self, place: Place) -> None:
        """Both ends see a normal end, and what was said before has arrived."""
        node = place.node()
        connected = await node.connect()
        job = node.submit()
        run = await node.started()
        run.finish(b'"last"')
        connected.session.say_stopping()
        await place.until(lambda: connected.over)
        assert connected.code == ""
        await place.until(lambda: place.gateway.sessions.count() == 0)
        assert place.gateway.kept(job).output_json == b'"last"'

    @awaiting
    async def test_the_gateway_closes(self, place: Place) -> None:
        """A node that is sent away without an error sees a normal end."""
        node = place.node()
        connected = await node.connect()
        place.gateway.sessions.reconnect(node.peer.device_id)
        await place.until(lambda: connected.over)
        assert connected.code == ""
        await place.until(lambda: place.gateway.sessions.count() == 0)

    @awaiting
    async def test_a_silent_node(self, place: Place) -> None:
        """Its session is over for the gateway after 40 seconds, link or no link."""
        node = place.node()
        connected = await node.connect()
        place.carriers.stall()
        for _ in range(82):
            place.gateway.clock.advance(0.5)
        assert place.gateway.sessions.count() == 0
        place.carriers.flow()
        await place.until(lambda: connected.over)

    @awaiting
    async def test_a_silent_gateway(self, place: Place) -> None:
        """The node takes the link for dead after 40 seconds without an answer."""
        node = place.node()
        connected = await node.connect()
        place.carriers.stall()
        for _ in range(82):
            node.clock.advance(0.5)
        await place.until(lambda: connected.over)
        assert isinstance(connected.error, TookTooLong)

    @awaiting
    async def test_storms(self, place: Place) -> None:
        """Nodes that come and go, politely or not, leave nothing behind."""
        nodes = [place.node(f"n{number}") for number in range(3)]
        for number in range(ROUNDS):
            links = [await node.register() for node in nodes]
            opened = [node.open(link) for node, link in zip(nodes, links, strict=True)]
            if number % 3 == 0:
                place.carriers.cut()
                await turns(number)  # what had not begun may begin again over the new wire
                for each in opened:
                    each.end()
            else:
                await place.until(lambda: place.gateway.sessions.count() == len(nodes))
            if number % 3 == 1:
                for each in opened:
                    each.session.say_stopping()
            elif number % 3 == 2:
                for each in opened:
                    each.end()
            await place.until(lambda: all(each.over for each in opened))  # noqa: B023
            await place.until(lambda: place.gateway.sessions.count() == 0)
            place.gateway.clock.advance(20)
        assert not any(node.runs.count for node in nodes)


class MessageContract(SessionContract):
    """The same, where what is said is written as bytes."""

    @awaiting
    async def test_a_malformed_message(self, place: Place) -> None:
        """It ends the session, and the node is told what was wrong."""
        node = place.node()
        progress = Progress(AttemptId("01M80NKQCNT6MW3K2ZT9B3FVHD"), 0.5, "")
        code = await say(node, NodeEvent(progress=(progress,) * (MAX_IN_MESSAGE + 1)))
        assert code == "malformed"
        await place.until(lambda: place.gateway.sessions.count() == 0)

    @awaiting
    async def test_a_damaged_payload(self, place: Place) -> None:
        """One whose pieces are not what was announced ends the session, too."""
        node = place.node()
        await node.connect()
        job = node.submit()
        await node.started()
        piece = Chunk(1, 0, b"x" * 300_000, sha256=bytes(32))
        report = Report(attempt_of(job), Outcome.SUCCEEDED)
        code = await say(node, NodeEvent(chunks=(piece,), transferred=((report, 1),)))
        assert code == "malformed"
        assert not place.gateway.kept(job).final
