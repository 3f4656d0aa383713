"""Gateways, and a device per test from an address of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adversarial.device import Device
from tests.adversarial.house import Gateway, running


@pytest.fixture(scope="session")
def shared() -> Iterator[Gateway]:
    """The gateway of every module that does not ask for one of its own."""
    with running() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def config() -> str | None:
    """``palyra.toml`` of a gateway for this module alone; None where the shared one will do."""
    return None


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, config: str | None) -> Iterator[Gateway]:
    """A gateway that runs."""
    if config is None:
        yield request.getfixturevalue("shared")
        return
    with running(config) as gateway:
        yield gateway


@pytest.fixture
def device(gateway: Gateway) -> Device:
    """A device nobody knows."""
    return Device(gateway)
