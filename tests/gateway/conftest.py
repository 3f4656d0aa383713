"""A gateway on fakes, stopped at the end of each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.enrolling import Gateway
from tests.gateway.house import House


@pytest.fixture
def house() -> Iterator[House]:
    """An hour after its start, so that nothing waits for devices to come back from a restart."""
    made = House()
    yield made
    made.end()
    left = [call for call in made.clock.getDelayedCalls() if call.active()]
    assert not left, f"delayed calls left behind: {left}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """The same with enrolment and control."""
    made = Gateway()
    yield made
    made.end()
    left = [call for call in made.clock.getDelayedCalls() if call.active()]
    assert not left, f"delayed calls left behind: {left}"
