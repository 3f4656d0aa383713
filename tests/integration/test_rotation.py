"""New certificates under load, under SIGKILL, and under a new CA: no job and no device is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import attrs
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from palyra.console.models import Invoke, InvokeAnswer
from palyra.errors import PalyraError
from palyra.node.identity import ClientFile, Credential
from tests.integration import plugin
from tests.integration.device import Device, refusal
from tests.integration.house import LONG, Gateway, House, NodeHost, opened
from tests.integration.moving import Move
from tests.integration.processes import Ran, eventually
from tests.integration.relay import DOWN, UP, Relay

CALLERS = 16
ROTATIONS = 5
DIRECTIVE_BYTES = 400
"""Enough for an order to renew, and not for a certificate."""


def ordered(gateway: Gateway, device_id: str) -> bool:
    """Whether an order to renew is still open."""
    return gateway.node(device_id).rotate_asked_unix_ms is not None


def rotate(gateway: Gateway, target: str) -> Ran:
    """``nodes rotate``."""
    done = gateway.cli("nodes", "rotate", target, "--reason", "for a test")
    assert done.code == 0 and "told" in done.out, done
    return done


def current(node: NodeHost) -> Credential:
    """The certificate that a node uses."""
    held = node.client.current
    assert held is not None
    return held


def has_moved_on(node: NodeHost, used: Credential) -> bool:
    """Whether it uses another certificate."""
    return current(node) != used


# -- under load -----------------------------------------------------------------------------------


class Callers:
    """Sixteen callers, each of which asks again as soon as it has an answer."""

    def __init__(self, gateway: Gateway, device_id: str) -> None:
        self._gateway = gateway
        self._path = f"nodes/{device_id}/invoke"
        self._over = threading.Event()
        self.succeeded = 0
        self.failed: list[str] = []
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> Callers:
        for number in range(CALLERS):
            self._pool.submit(self._call, number)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def _call(self, number: int) -> None:
        body = Invoke("echo", msgspec.Raw(str(number).encode()))
        while not self._over.is_set():
            try:
                answer = self._gateway.console.post(self._path, body, InvokeAnswer).value
            except PalyraError as error:
                self.failed.append(error.sentence)
                continue
            if answer.success:
                self.succeeded += 1
            else:
                self.failed.append(f"{answer.state} {answer.error_code} {answer.error}")

    def more(self, count: int) -> None:
        """Wait until so many more calls have succeeded, or one has failed."""
        enough = self.succeeded + count
        eventually(lambda: self.failed or self.succeeded >= enough, f"{count} more calls")


@attrs.frozen
class Pair:
    """A gateway, a node, and the wire between them."""

    house: House
    gateway: Gateway
    node: NodeHost
    relay: Relay

    @property
    def device_id(self) -> str:
        """The node's."""
        return self.node.device_id


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A node that is online, over a wire that can be held."""
    with opened() as house:
        gateway = house.gateway().start()
        relay = Relay(gateway.node_rpc)
        node = house.node("pi", plugin.install(house.path / "plugins"))
        node.options = ["--grpc-url", relay.address, "--transport", "grpc"]
        yield Pair(house, gateway, node.pair(gateway), relay)
        relay.close()


def test_no_job_fails_because_of_a_renewal(pair: Pair) -> None:
    """Five orders under the load of 16 callers: each makes another certificate the current one,
    the one before it is superseded, refused and taken for a copy, and not one call fails."""
    gateway, node, device_id = pair.gateway, pair.node, pair.device_id
    used: list[Credential] = []
    with Callers(gateway, device_id) as callers:
        for _ in range(ROTATIONS):
            used.append(current(node))
            callers.more(2 * CALLERS)
            rotate(gateway, "pi")
            eventually(partial(has_moved_on, node, used[-1]), "there is a new certificate")
            eventually(lambda: not ordered(gateway, device_id), "the order is done")
        callers.more(2 * CALLERS)
    assert callers.failed == []
    assert "offline" not in node.process.said()
    assert "rotation" not in gateway.cli("nodes", "show", "pi").out

    found = gateway.certificates(device_id)
    assert found[current(node).certificate_pem] == "current"
    assert {found[each.certificate_pem] for each in used} == {"superseded"}
    refused = registered_with(gateway, device_id, used[-1])
    assert refused == ("PERMISSION_DENIED", "certificate_superseded")
    warned = "a superseded certificate of pi was used from 127.0.0.1"
    assert warned in gateway.cli("doctor").out


@LONG
def test_certificates_of_a_minute_are_renewed_by_themselves(house: House) -> None:
    """Nobody orders anything: a certificate that lives for a minute is renewed again and again
    under the load of 16 callers, and not one call fails."""
    gateway = house.gateway(config="[gateway]\ndevice_certificate_s = 60\n").start()
    node = house.node().pair(gateway)
    with Callers(gateway, node.device_id) as callers:
        for _ in range(3):
            eventually(partial(has_moved_on, node, current(node)), "it is renewed", 60.0)
        callers.more(2 * CALLERS)
    assert callers.failed == []
    assert "offline" not in node.process.said() and "rejoined" not in node.process.said()


def registered_with(gateway: Gateway, device_id: str, held: Credential) -> tuple[str, str]:
    """How somebody who has a device's old key and certificate is refused."""
    thief = Device(gateway, device_id=device_id)
    key = load_pem_private_key(held.private_key_pem.encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    refused = refusal(lambda: thief.register(held.certificate_pem.encode(), key))
    return refused.status, refused.code


# -- under SIGKILL --------------------------------------------------------------------------------


def asking(pair: Pair, known: ClientFile) -> None:
    """The node has made a key, and its question has not arrived."""
    pair.relay.hold(UP)
    rotate(pair.gateway, "pi")
    eventually(lambda: pair.node.client.pending, "there is a key for the next certificate")
    assert "rotation\tasked " in pair.gateway.cli("nodes", "show", "pi").out


def answering(pair: Pair, known: ClientFile) -> None:
    """The gateway has issued the next certificate, and the node does not know it."""
    before = pair.gateway.certificates(pair.device_id)
    pair.relay.hold(DOWN, DIRECTIVE_BYTES)
    rotate(pair.gateway, "pi")
    eventually(
        lambda: len(pair.gateway.certificates(pair.device_id)) > len(before),
        "it is issued, and held",
    )
    assert pair.node.client.next is None


def registering(pair: Pair, known: ClientFile) -> None:
    """The node has the next certificate, and has not registered over it."""
    answering(pair, known)
    pair.relay.hold(UP)
    pair.relay.let(DOWN)
    eventually(lambda: pair.node.client.next, "the node has it")
    assert pair.node.client.current == known.current


@pytest.mark.parametrize("moment", [asking, answering, registering])
def test_a_node_that_dies_in_a_renewal_loses_nothing(
    pair: Pair, moment: Callable[[Pair, ClientFile], None]
) -> None:
    """Killed in the middle it comes back with a certificate that is taken, finishes the renewal,
    and finishes the job that ran."""
    gateway, node, path = pair.gateway, pair.node, pair.house.path
    pair.relay.mend()
    started, release = path / f"started-{moment.__name__}", path / f"release-{moment.__name__}"
    errand = msgspec.json.encode({"started": str(started), "release": str(release)})
    job_id = gateway.submit(pair.device_id, "test.slow_echo", errand)
    eventually(started.exists, "the handler runs")
    known = node.client
    moment(pair, known)
    node.process.kill()
    pair.relay.cut()
    pair.relay.mend()

    node.start()
    eventually(lambda: current(node) != known.current, "the renewal is finished")
    eventually(lambda: not ordered(gateway, pair.device_id), "the order is done")
    assert gateway.certificates(pair.device_id)[current(node).certificate_pem] == "current"
    release.touch()
    assert gateway.ended(job_id).job.state == "succeeded"
    assert "rejoined" not in node.process.said()


# -- under a new CA -------------------------------------------------------------------------------


def test_all_devices_move_to_a_new_ca(move_of_all: Move) -> None:
    """The node has renewed, and the listeners are switched under its session, which goes on; then
    a node that starts anew and a fresh device get in by the new CA."""
    gateway, node = move_of_all.gateway, move_of_all.node
    move_of_all.switched()
    issuing, retired = move_of_all.ca().cas
    assert (issuing.issues, issuing.serves) == (True, True)
    assert (retired.issues, retired.serves) == (False, False)
    assert gateway.node(node.device_id).certificate_ca == issuing.fingerprint
    assert "offline" not in node.process.said()
    echoes(gateway, "first")

    assert node.process.terminate() == 0
    node.start().process.says("online")
    echoes(gateway, "first")
    fresh = move_of_all.house.node("fresh").pair(gateway)
    assert "rejoined" not in node.process.said() + fresh.process.said()
    echoes(gateway, "fresh")


def test_a_device_that_missed_the_move_is_told_why(move_of_some: Move) -> None:
    """Off for longer than its grace it knows the old CA alone, and says so instead of trusting a
    stranger; paired again by a person it is the device that it was."""
    gateway, away = move_of_some.gateway, move_of_some.away
    assert away is not None
    move_of_some.switched()
    echoes(gateway, "second")
    kept = away.client
    away.start()
    away.process.says("its certificate is not signed by the CA this device knows")
    assert away.client == kept
    away.process.terminate()

    away.start_with_pin(gateway, gateway.pin())
    approved = gateway.cli("pairing", "approve", away.asks())
    assert approved.code == 0 and "same key" in approved.out, approved
    away.process.says("online")
    echoes(gateway, "away")


def echoes(gateway: Gateway, target: str) -> None:
    """``nodes invoke TARGET echo`` succeeds."""
    done = gateway.cli("nodes", "invoke", target, "echo")
    assert done.code == 0, done
