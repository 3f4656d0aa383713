"""A node's whole session over QUIC with a client that shares no code with aioquic."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from palyra.core.frames import HEARTBEAT
from tests.integration.house import Gateway
from tests.integration.udprelay import DOWN, UP, UdpRelay, Weather
from tests.interop import quiche
from tests.interop.node import NodeOverQuiche
from tests.interop.quiche import End, Frame, Reset
from tests.interop.visitor import Visitor

MAX_FRAME = 512 * 1024
LARGE_TEXT = json.dumps("x" * 700_000).encode()
BAD = Weather(loss=0.05, doubled=0.05, late=0.2)


def test_a_node_lives_on_quiche(gateway: Gateway, visit: Callable[[str], Visitor]) -> None:
    """It registers, is online over QUIC, keeps alive, and does a job."""
    visitor = visit("pi")
    with visitor.stream() as stream:
        node = NodeOverQuiche(visitor, stream)
        assert node.welcome.device_id == visitor.device.device_id
        node.hears()
        gateway.online(visitor.device.device_id)
        assert gateway.node(visitor.device.device_id).transport == "quic"
        node.say(node.event(HEARTBEAT))
        node.hears()
        job_id = gateway.submit(visitor.device.device_id, "echo", b'{"text":"hello"}')
        dispatch, payload = node.dispatched()
        assert (dispatch.job_id, json.loads(payload)) == (job_id, {"text": "hello"})
        node.report(dispatch.request_id.ulid, payload)
        assert node.acknowledged() == dispatch.request_id.ulid
    ended = gateway.ended(job_id)
    assert ended.job.state == "succeeded"


def test_large_payloads_pass_both_ways(gateway: Gateway, visit: Callable[[str], Visitor]) -> None:
    """A payload larger than a frame comes and goes in pieces, and arrives as it was."""
    visitor = visit("mule")
    with visitor.stream() as stream:
        node = NodeOverQuiche(visitor, stream)
        job_id = gateway.submit(visitor.device.device_id, "echo", LARGE_TEXT)
        dispatch, payload = node.dispatched()
        assert dispatch.input_transfer and payload == LARGE_TEXT
        node.report(dispatch.request_id.ulid, payload)
        assert node.acknowledged() == dispatch.request_id.ulid
    ended = gateway.ended(job_id)
    assert ended.job.state == "succeeded" and bytes(ended.output_json) == LARGE_TEXT


def test_a_session_survives_another_address(visit: Callable[[str], Visitor]) -> None:
    """Behind a NAT that gives it another port a node goes on, without a new connection."""
    visitor = visit("roamer")
    with (
        contextlib.closing(UdpRelay(visitor.address)) as relay,
        quiche.stream(relay.address, visitor.credentials) as stream,
    ):
        node = NodeOverQuiche(visitor, stream)
        node.hears()
        before = relay.sources
        for _ in range(3):
            relay.rebind()
            node.say(node.event(HEARTBEAT))
            node.hears()
        assert set(before).isdisjoint(relay.sources)


def test_a_bad_network_loses_nothing(gateway: Gateway, visit: Callable[[str], Visitor]) -> None:
    """Where datagrams are lost, doubled and overtaken a large payload is whole both ways."""
    visitor = visit("ship")
    with (
        contextlib.closing(UdpRelay(visitor.address, seed=5)) as relay,
        quiche.stream(relay.address, visitor.credentials) as stream,
    ):
        relay.turn(BAD)
        node = NodeOverQuiche(visitor, stream)
        job_id = gateway.submit(visitor.device.device_id, "echo", LARGE_TEXT)
        dispatch, payload = node.dispatched()
        node.report(dispatch.request_id.ulid, payload)
        assert node.acknowledged() == dispatch.request_id.ulid
        assert all(relay.seen(way)["lost"] for way in (UP, DOWN))
    assert bytes(gateway.ended(job_id).output_json) == LARGE_TEXT


def test_a_frame_above_the_limit_ends_the_stream(visitor: Visitor) -> None:
    """What announces more than 512 KiB is not waited for."""
    with visitor.stream() as stream:
        node = NodeOverQuiche(visitor, stream)
        node.hears()
        stream.send(b"\x0a" * (MAX_FRAME + 1))
        sight = stream.sight()
        if isinstance(sight, Frame):
            error = json.loads(bytes.fromhex(sight.hex))
            assert (error["kind"], error["error"]) == ("error", "invalid_request")
            sight = stream.sight()
        assert isinstance(sight, End | Reset), sight


def test_a_revocation_closes_the_connection(
    gateway: Gateway, visit: Callable[[str], Visitor]
) -> None:
    """A device that is revoked while it is connected is told so, and put out."""
    visitor = visit("doomed")
    with visitor.stream() as stream:
        node = NodeOverQuiche(visitor, stream)
        node.hears()
        assert gateway.cli("nodes", "revoke", visitor.device.device_id).code == 0
        assert json.loads(stream.frame())["code"] == "device_revoked"
        assert stream.sight() == End()
        closed = stream.closed()
    assert (closed.by, closed.refusal) == ("peer", "device_revoked")
