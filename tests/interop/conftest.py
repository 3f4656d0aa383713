"""A gateway in a process of its own, and devices that come to its QUIC listener with quiche."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import palyra
from tests.integration.house import PATIENT, Gateway, opened
from tests.interop import quiche
from tests.interop.visitor import Visitor

LARGE_PAYLOADS = "[jobs]\nmax_payload_bytes = 1048576\n"


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway that listens to QUIC, of the package that these tests import."""
    quiche.program()
    with opened() as house:
        gateway = house.gateway(config=PATIENT + LARGE_PAYLOADS)
        gateway.env = {"PYTHONPATH": str(Path(palyra.__file__).parents[1])}
        yield gateway.start()


@pytest.fixture(scope="session")
def visit(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Visitor]:
    """Pair and register a device of a name."""

    def visit(name: str) -> Visitor:
        return Visitor.enrol(gateway, name, tmp_path_factory.mktemp(name))

    return visit


@pytest.fixture(scope="session")
def visitor(visit: Callable[[str], Visitor]) -> Visitor:
    """A device that several tests share."""
    return visit("visitor")
