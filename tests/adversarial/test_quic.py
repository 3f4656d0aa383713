"""The QUIC listener under attack, over real sockets: strangers, floods, and devices gone bad."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from aioquic.tls import AlertDescription

from tests.adversarial import forging
from tests.adversarial.device import Device
from tests.adversarial.forging import DAY, HOUR, SERVER, Signer, fresh_key, now, pem_of
from tests.adversarial.house import Gateway
from tests.adversarial.quicpeer import (
    LIMIT_S,
    Heard,
    Peer,
    Refused,
    all_until,
    forged_initials,
    forged_ticket,
    frame,
    garbage,
    request,
)
from tests.adversarial.wire import messages
from tests.integration.processes import HOST, eventually, free_port

CROWD = 120
MAX_CONNECTIONS = 12
MAX_STREAMS = 32
HALF_OPEN = 8
FLOOD = int(os.environ.get("ADVERSARIAL", "2000"))
HANDSHAKE_S = 10.0
REVOKED_S = 2.0
"""A second is promised; the rest is for a machine that does other things too."""
CONNECTION_REFUSED, STREAM_LIMIT_ERROR = 0x2, 0x4
HEALTH = {
    "protocol_version": 1,
    "kind": "health",
    "ok": True,
    "node_rpc_mtls_required": True,
}


@pytest.fixture(scope="module")
def quic() -> str:
    """Where the gateway of this module has QUIC."""
    return f"{HOST}:{free_port()}"


@pytest.fixture(scope="module")
def config(quic: str) -> str:
    """Room for few connections."""
    return f'[listen]\nquic = "{quic}"\nmax_quic_connections = {MAX_CONNECTIONS}\n'


@pytest.fixture(scope="module")
def stolen(gateway: Gateway) -> Signer:
    """The gateway's own CA, for certificates that only it could sign."""
    return gateway.authority()


@attrs.frozen
class Way:
    """How devices reach the QUIC of a gateway."""

    address: str
    gateway: Gateway

    def peer(self, device: Device | None = None, **more: Any) -> Peer:
        """A connection of a device, or of nobody, that is not begun."""
        if device is not None:
            more = {"chain": device.certificate_pem, "key": device.key} | more
        return Peer(self.address, **({"ca_pem": self.gateway.ca_pem} | more))

    def serves(self, device: Device) -> None:
        """An honest device is answered."""
        assert self.takes(device)

    def takes(self, device: Device) -> bool:
        """Whether it is."""
        with self.peer(device) as peer:
            return peer.connect().ask(request("node.health")).json == [HEALTH]


@pytest.fixture(scope="module")
def way(gateway: Gateway, quic: str) -> Way:
    """To this module's gateway."""
    return Way(quic, gateway)


@pytest.fixture(scope="module")
def half_open(way: Way) -> Iterator[list[Peer]]:
    """Peers that have sent one datagram and say nothing more."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(way.peer(source=f"127.0.9.{number}")).stall()
            for number in range(1, HALF_OPEN + 1)
        ]


@pytest.fixture(scope="module")
def pi(gateway: Gateway, half_open: list[Peer]) -> Device:
    """A device that is paired."""
    return Device(gateway, "pi").enrol()


def registration(device: Device) -> bytes:
    """The begin of a session, in one breath."""
    return request("node.session") + frame(device.hello().SerializeToString())


def registered(peer: Peer, device: Device) -> tuple[int, bytes]:
    """Register; the stream, and the first event that must follow on it."""
    stream = peer.connect().say(registration(device))
    answer = messages.RegisterNodeResponse.FromString(peer.next_frame(stream))
    assert answer.accepted, answer
    return stream, frame(device.event(answer.welcome.session_epoch).SerializeToString())


def refusal(peer: Peer, device: Device) -> tuple[Refused, Heard]:
    """Connect and say at once what a session begins with; how it ends, and what was heard."""
    with peer:
        peer.quic.connect(peer.address, now=time.monotonic())
        stream = peer.say(registration(device))
        return peer.ended(), peer.streams[stream]


# -- who is let in --------------------------------------------------------------------------------


def strangers(
    pi: Device, stolen: Signer, old: Device, gone: Device
) -> Iterator[tuple[str, bytes, Any, AlertDescription]]:
    """What is shown: its name, the chain, the key, and the alert that must follow."""
    key, me = fresh_key(), pi.device_id
    alert = AlertDescription
    foreign, ago = forging.strange_root(), now() - 3 * DAY
    issued = {
        "of a foreign CA": (foreign.issue(key.public_key(), identity=me), alert.unknown_ca),
        "expired": (
            stolen.issue(key.public_key(), identity=me, begin=ago, end=ago + DAY),
            alert.certificate_expired,
        ),
        "of tomorrow": (
            stolen.issue(key.public_key(), identity=me, begin=now() + HOUR, end=now() + DAY),
            alert.certificate_expired,
        ),
        "of a server": (
            stolen.issue(key.public_key(), identity=me, usage=SERVER),
            alert.unsupported_certificate,
        ),
        "of an operator": (
            stolen.issue(key.public_key(), "operator", me),
            alert.bad_certificate,
        ),
        "of another domain": (
            stolen.issue(key.public_key(), identity=me, domain="elsewhere"),
            alert.bad_certificate,
        ),
        "unknown": (stolen.issue(key.public_key(), identity=me), alert.certificate_unknown),
    }
    yield "none", b"", None, alert.certificate_required
    for name, (certificate, ends) in issued.items():
        yield name, pem_of(certificate), key, ends
    yield (
        "of a foreign CA, with ours",
        pem_of(issued["of a foreign CA"][0]) + stolen.pem,
        key,
        (alert.unknown_ca),
    )
    yield "with another key", pi.certificate_pem, fresh_key(), alert.decrypt_error
    yield "superseded", old.certificate_pem, old.key, alert.certificate_revoked
    yield "revoked", gone.certificate_pem, gone.key, alert.certificate_revoked


def test_strangers_are_closed_before_a_byte_is_looked_at(
    gateway: Gateway, way: Way, pi: Device, stolen: Signer
) -> None:
    """Each is told why by a TLS alert; what it said at once is neither answered nor done; and
    meanwhile the gateway serves others."""
    gone = Device(gateway, "gone").enrol()
    gateway.revoke(gone.device_id)
    old = Device(gateway, "old").enrol()
    renew(old)
    seen, wanted = {}, {}
    with gateway.unmoved():
        for name, chain, key, expected in strangers(pi, stolen, old, gone):
            ended, heard = refusal(way.peer(chain=chain, key=key), pi)
            assert heard == Heard(), name
            seen[name], wanted[name] = ended.alert, expected.value
            way.serves(pi)
    assert seen == wanted


def renew(device: Device) -> None:
    """The device has used a newer certificate; it itself still holds the old one."""
    newer = Device(device.gateway, device_id=device.device_id)
    newer.identity, newer.certificate_pem = device.identity, device.certificate_pem
    newer.key = fresh_key()
    assert device.register().accepted
    answer = device.rotate(device.renewal(newer.key))
    newer.certificate_pem = answer.mtls_client_certificate_pem.encode()
    assert newer.register().accepted


def test_a_refusal_says_why_in_words(gateway: Gateway, way: Way) -> None:
    """CONNECTION_CLOSE carries the same stable code as gRPC, and no secret."""
    gone = Device(gateway, "lost").enrol()
    gateway.revoke(gone.device_id, "laptop stolen")
    ended, _ = refusal(way.peer(gone), gone)
    assert ended.said["code"] == "device_revoked", ended
    nobody, _ = refusal(way.peer(), gone)
    assert (nobody.said["code"], nobody.said["ok"]) == ("certificate_refused", False), nobody
    for each in (ended, nobody):
        assert not any(secret in each.reason for secret in gone.secrets)


def test_other_protocols_are_refused(way: Way, pi: Device) -> None:
    """Without our ALPN name the handshake fails, whatever the certificate."""
    with way.peer(pi, alpn=("h3",)) as peer:
        assert peer.connect().ended().alert == AlertDescription.no_application_protocol


def test_nothing_is_resumed_and_nothing_is_early(gateway: Gateway, way: Way, pi: Device) -> None:
    """No ticket is given; one that was made up opens nothing, and what is sent with it before the
    handshake is not heard; whoever tries still has to show a certificate."""
    with way.peer(pi) as friend:
        assert friend.connect().ask(request("node.health")).json == [HEALTH]
        assert friend.tickets == []
        ticket = forged_ticket(friend)
    with way.peer(pi, ticket=ticket) as peer:
        peer.quic.connect(peer.address, now=time.monotonic())
        stream = peer.say(request("node.health"), end=True)
        peer.until(lambda: peer.handshake or peer.end, "hands are shaken")
        assert peer.handshake is not None, peer.end
        assert not peer.handshake.session_resumed and not peer.handshake.early_data_accepted
        assert peer.answer(stream).json == [HEALTH], peer.end  # said again, in the right place
    with gateway.unmoved():
        ended, heard = refusal(way.peer(ticket=ticket), pi)
    assert ended.alert == AlertDescription.certificate_required and heard == Heard()


def test_a_revocation_closes_the_connection(gateway: Gateway, way: Way) -> None:
    """Within a second, with the code, in the middle of a session; and nothing opens again."""
    device = Device(gateway, "laptop").enrol()

    def listen(peer: Peer) -> tuple[Refused, float]:
        return peer.ended(), time.monotonic()

    with way.peer(device) as peer, ThreadPoolExecutor(1) as pool:
        stream, event = registered(peer, device)
        peer.say(event, stream)
        peer.next_frame(stream, 1)
        eventually(lambda: gateway.node(device.device_id).presence == "online", "it is online")
        listening = pool.submit(listen, peer)
        gateway.revoke(device.device_id, "laptop stolen")
        answered = time.monotonic()
        ended, at = listening.result(LIMIT_S)
    assert at - answered < REVOKED_S, ended
    assert ended.said["code"] == "device_revoked", ended
    again, heard = refusal(way.peer(device), device)
    assert again.said["code"] == "device_revoked" and heard == Heard()


# -- what is said ---------------------------------------------------------------------------------


def test_malformed_requests_end_their_stream_alone(gateway: Gateway, way: Way, pi: Device) -> None:
    """Lengths that lie, JSON that is none, keys that nobody knows, other versions: each is told so
    in one frame, and the connection goes on."""
    said = {
        "a length of nothing": frame(b"", 0),
        "a length of 4 GiB": frame(b"", 0xFFFFFFFF),
        "a length over a request's": frame(b"{" + b" " * 8192 + b"}"),
        "half a frame": frame(b"{}", 20),
        "half a length": b"\x00\x00",
        "nothing at all": b"",
        "no JSON": frame(b"\xff\xfe{"),
        "a list": frame(b"[1]"),
        "a deep list": frame(b"[" * 4000),
        "another key": request("node.health", more=1),
        "no method": frame(json.dumps({"protocol_version": 1}).encode()),
        "a number of a method": request(1),  # type: ignore[arg-type]
        "resume of another method": request("node.health", resume_from=1),
        "resume before the beginning": request("node.stream_events", resume_from=-1),
        "resume behind the end": request("node.stream_events", resume_from=2**62),
        "protobuf": frame(pi.hello().SerializeToString()),
        "garbage for a registration": request("node.session") + frame(os.urandom(300)),
        "garbage for a renewal": request("node.rotate") + frame(b"\x0a\xff"),
        "a renewal of nothing": request("node.rotate"),
    }
    with gateway.unmoved(), way.peer(pi) as peer:
        peer.connect()
        for name, data in said.items():
            heard = peer.ask(data)
            assert peer.end is None and len(heard.json) == 1, (name, heard, peer.end)
            (told,) = heard.json
            assert (told["kind"], told["ok"]) == ("error", False), (name, told)
            assert told["error"] in ("invalid_request", "stream_failure"), (name, told)
        (told,) = peer.ask(request("node.reboot")).json
        assert told["error"] == "unsupported_method"
        (told,) = peer.ask(frame(b'{"protocol_version":2,"verb":"x"}')).json
        assert told["error"] == "protocol_mismatch"
        assert peer.ask(request("node.health")).json == [HEALTH]


def test_nobody_speaks_for_another_device(gateway: Gateway, way: Way, pi: Device) -> None:
    """Registration, renewal and revocation of another id are refused on our own certificate."""
    victim = Device(gateway, "victim").enrol()
    revoke = messages.RevokeDevicePairingRequest(v=1)
    revoke.device_id.ulid = victim.device_id
    renewal = victim.renewal(over=pi.certificate_pem)
    said = {
        "node.session": victim.hello(),
        "node.rotate": renewal,
        "node.revoke": revoke,
    }
    with gateway.unmoved(), way.peer(pi) as peer:
        peer.connect()
        for method, message in said.items():
            heard = peer.ask(request(method) + frame(message.SerializeToString()))
            assert [each["code"] for each in heard.json] == ["device_mismatch"], (method, heard)
    way.serves(victim)


def test_a_session_that_turns_to_garbage_ends(way: Way, pi: Device) -> None:
    """After registration too a frame must be one: the stream ends, the connection does not."""
    with way.peer(pi) as peer:
        stream, event = registered(peer, pi)
        peer.say(event + frame(b"\xff" * 64), stream)
        assert peer.answer(stream).json[-1]["error"] == "invalid_request"
        assert peer.ask(request("node.health")).json == [HEALTH]


def test_a_peer_has_32_streams(way: Way, pi: Device) -> None:
    """The 33rd waits until one of the others ends; who does not wait is closed, he alone."""
    with way.peer(pi) as peer:
        peer.connect()
        held = [peer.say(b"\x00") for _ in range(MAX_STREAMS)]
        late = peer.say(request("node.health"), end=True)
        peer.say(b"", held[0], end=True)
        peer.answer(held[0])
        assert peer.answer(late).json == [HEALTH]
    with way.peer(pi) as rude:
        rude.connect().quic._remote_max_streams_bidi = 1_000
        for _ in range(MAX_STREAMS + 1):
            rude.say(b"\x00")
        assert rude.ended().code == STREAM_LIMIT_ERROR
    way.serves(pi)


def test_streams_the_other_way_are_not_taken(way: Way, pi: Device) -> None:
    """We serve bidirectional streams; whoever opens others is closed."""
    with way.peer(pi) as peer:
        number = peer.connect().quic.get_next_available_stream_id(is_unidirectional=True)
        peer.say(request("node.health"), number, end=True)
        assert peer.ended().code, peer.end
    way.serves(pi)


def test_a_peer_may_move(way: Way, pi: Device) -> None:
    """From another port, and then from another address: the connection goes on."""
    with way.peer(pi) as peer:
        stream, event = registered(peer, pi)
        for source in (HOST, "127.0.7.7"):
            peer.move(source)
            assert peer.ask(request("node.health")).json == [HEALTH]
        peer.say(event, stream)
        peer.next_frame(stream, 1)


# -- how many -------------------------------------------------------------------------------------


def usage(gateway: Gateway) -> tuple[int, int]:
    """Memory in bytes and open files of the gateway."""
    files = len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))
    return psutil.Process(gateway.process.pid).memory_info().rss, files


def test_a_flood_keeps_nobody_out(gateway: Gateway, way: Way, pi: Device) -> None:
    """First packets of thousands who do not exist, valid and not, from many addresses: a device
    gets in meanwhile, and neither memory nor files grow with them."""
    sources = [f"127.0.8.{number}" for number in range(1, 33)]
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in sources]
        for wire, source in zip(wires, sources, strict=True):
            wire.bind((source, 0))
        host, _, port = way.address.rpartition(":")
        memory, files = usage(gateway)
        floods = (forged_initials(way.address, FLOOD), garbage(FLOOD))
        for number, pair in enumerate(zip(*floods, strict=True)):
            for datagram in pair:
                wires[number % len(wires)].sendto(datagram, (host, int(port)))
            if number % (FLOOD // 4) == FLOOD // 8:
                way.serves(pi)
        way.serves(pi)
    after, files_after = usage(gateway)
    assert after - memory < 48 << 20 and files_after == files


def test_there_is_room_for_so_many(way: Way, gateway: Gateway, pi: Device) -> None:
    """Beyond the configured number a connection is refused at its first packet; when one leaves
    there is room again, and those that were there have noticed nothing."""
    others = [Device(gateway, f"crowd-{number}").enrol() for number in range(2)]
    with contextlib.ExitStack() as stack:
        room = MAX_CONNECTIONS // len(others)
        peers = [stack.enter_context(way.peer(each)) for each in others for _ in range(room)]
        for peer in peers:
            assert peer.connect().ask(request("node.health")).json == [HEALTH]
        for device in (pi, None):
            with way.peer(device) as late:
                assert late.connect().ended().code == CONNECTION_REFUSED
        peers.pop().close()
        eventually(lambda: way.takes(pi), "there is room")
        for peer in peers:
            assert peer.ask(request("node.health")).json == [HEALTH]


def test_handshakes_that_do_not_end_are_ended(half_open: list[Peer], way: Way, pi: Device) -> None:
    """Ten seconds after its first packet a peer that has not shown a certificate is closed."""
    all_until(
        half_open,
        lambda: all(peer.end for peer in half_open),
        "every half-open handshake is closed",
        HANDSHAKE_S + LIMIT_S,
    )
    assert {peer.end.code for peer in half_open if peer.end} == {CONNECTION_REFUSED}
    way.serves(pi)


def test_a_crowd_that_stalls_keeps_nobody_out(way: Way, pi: Device) -> None:
    """As many half-open handshakes as there is room for, from addresses that are real: a device
    gets in beside them."""
    with contextlib.ExitStack() as stack:
        for number in range(CROWD):
            source = f"127.0.6.{number % 10 + 1}"
            stack.enter_context(way.peer(source=source)).stall()
        way.serves(pi)
