"""Houses for a test, for a module, and for the whole run; starting a gateway is what costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.house import PATIENT, Gateway, House, NodeHost, opened
from tests.integration.moving import Move


@pytest.fixture
def house() -> Iterator[House]:
    """A house of this test's own."""
    with opened() as house:
        yield house


@pytest.fixture(scope="module")
def shared() -> Iterator[House]:
    """A house for the tests of one module that do not disturb each other."""
    with opened() as house:
        yield house


@pytest.fixture(scope="session")
def town() -> Iterator[House]:
    """The house of what the whole run shares."""
    with opened() as house:
        yield house


@pytest.fixture(scope="session")
def gateway(town: House) -> Gateway:
    """A gateway that the tests of several modules use, and none of them stops."""
    return town.gateway(config=PATIENT).start()


@pytest.fixture(scope="session")
def quiet_gateway(town: House) -> Gateway:
    """A gateway without live nodes: its record changes only by what a test does."""
    return town.gateway("quiet", config=PATIENT).start()


@pytest.fixture(scope="session")
def pi(town: House, gateway: Gateway) -> NodeHost:
    """A node that was paired with nothing but commands, and is online."""
    code = gateway.cli("pairing", "code", "--method", "qr", "--label", "site=prague")
    assert code.code == 0, code
    said = dict(line.split("\t") for line in code.out.splitlines())
    assert sorted(said) == ["expires", "uri"]
    node = town.node("pi").start(said["uri"])
    request = node.asks()
    listed = gateway.cli("pairing", "list")
    assert request in listed.out and "pending_approval" in listed.out, listed
    approved = gateway.cli("pairing", "approve", request[10:16])
    assert approved.code == 0 and "decision\tapproved" in approved.out, approved
    node.process.says("online")
    gateway.online(node.device_id)
    return node


@pytest.fixture(scope="session")
def move_of_all(town: House) -> Move:
    """A move to a new CA that all devices can follow."""
    return Move.of_all(town)


@pytest.fixture(scope="session")
def move_of_some(town: House) -> Move:
    """A move to a new CA that one device misses."""
    return Move.of_some(town)
