"""A device behind an HTTP proxy: real processes, and a gateway under a name that only the proxy
knows, so that nothing reaches it another way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
import psutil
import pytest

from palyra.core.pairing_uri import PairingUri
from tests.integration.house import Gateway, House, NodeHost, opened
from tests.integration.httpproxy import HttpProxy
from tests.integration.processes import HOST, eventually

NAME = "gateway.of.nobody"
PASSWORD = "hunter2"
REFUSES = b"HTTP/1.1 403 Forbidden\r\n\r\n"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(house: House) -> Gateway:
    """It knows nothing of its other name."""
    return house.gateway().start()


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    """One that wants a password, and knows where the gateway is."""
    with HttpProxy(password=f"ana:{PASSWORD}") as made:
        made.names[NAME] = HOST
        yield made


def under_its_name(address: str) -> str:
    """The same port, at the name that only the proxy knows."""
    return f"{NAME}:{address.rpartition(':')[2]}"


def behind(house: House, gateway: Gateway, proxy: HttpProxy, name: str) -> NodeHost:
    """A node host whose environment names the proxy."""
    node = house.node(name)
    node.env = {"https_proxy": proxy.url, "no_proxy": "localhost"}
    node.options = ["--grpc-url", under_its_name(gateway.node_rpc)]
    return node


def echoed(gateway: Gateway, node: NodeHost) -> None:
    """A job runs there."""
    job = gateway.submit(node.device_id, "echo", b'"hello"')
    assert gateway.ended(job).job.state == "succeeded"


def test_by_a_line_and_as_a_service(house: House, gateway: Gateway, proxy: HttpProxy) -> None:
    """Pairing, sessions and jobs go through it; a proxy that dies in mid-session costs a moment; a
    service, which has no such environment, takes the same way; the password is in one file."""
    node = behind(house, gateway, proxy, "lined")
    line = PairingUri.parse(gateway.line())
    node.start(str(attrs.evolve(line, host=NAME)))
    gateway.approve(node.asks())
    gateway.online(node.device_id)
    echoed(gateway, node)
    asked = {under_its_name(each) for each in (gateway.enrolment, gateway.node_rpc)}
    assert set(proxy.asked) == asked

    before = len(proxy.asked)
    proxy.cut()
    eventually(lambda: len(proxy.asked) > before, "it comes again")
    gateway.online(node.device_id)
    node.process.says("online", 20)
    echoed(gateway, node)
    node.process.terminate()

    node.env = {}
    node.serve()
    node.process.says("is reached by the proxy")
    gateway.online(node.device_id)
    echoed(gateway, node)
    arguments = psutil.Process(node.process.pid).cmdline()
    node.process.terminate()

    kept = node.root / "node-host" / "node-host.json"
    assert json.loads(kept.read_text())["http_proxy"] == proxy.url
    assert kept.stat().st_mode & 0o777 == 0o600
    shown = [each for each in node.root.rglob("*") if each.is_file() and each != kept]
    for each in (*shown, node.process.log):
        assert PASSWORD.encode() not in each.read_bytes(), each
    assert not any(PASSWORD in each for each in arguments)


def test_by_a_pin_and_refused(house: House, gateway: Gateway, proxy: HttpProxy) -> None:
    """The same by a PIN; a proxy that refuses is named by its address and its word, and the node
    is back when it leads there again."""
    node = behind(house, gateway, proxy, "pinned")
    there = under_its_name(gateway.enrolment)
    node.options += ["--gateway", there, "--pairing-code-stdin"]
    node._run(stdin=gateway.pin() + "\n")
    gateway.approve(node.asks())
    gateway.online(node.device_id)
    proxy.answer = REFUSES
    proxy.cut()
    node.process.says(f"proxy {proxy.address} it refuses to (403)")
    proxy.answer = b""
    gateway.online(node.device_id)
    echoed(gateway, node)
    node.process.terminate()
    assert PASSWORD not in node.process.output()


@pytest.mark.parametrize(
    ("answer", "known", "words"),
    [
        (REFUSES, f"ana:{PASSWORD}@", "it refuses to (403)"),
        (b"", "eve:wrong@", "it does not take the name and password that it is given (407)"),
    ],
)
def test_nothing_is_paired(
    house: House, gateway: Gateway, proxy: HttpProxy, answer: bytes, known: str, words: str
) -> None:
    """Where the proxy refuses: the node host ends with its word, and has sent nothing."""
    proxy.answer = answer
    node = behind(house, gateway, proxy, f"refused-{len(words)}")
    node.env = {"https_proxy": f"http://{known}{proxy.address}"}
    node.start(str(attrs.evolve(PairingUri.parse(gateway.line()), host=NAME)))
    assert node.process.wait() == 3
    said = f"The proxy {proxy.address} does not lead to the gateway: {words}."
    assert said in node.process.output()
    assert proxy.asked == []
