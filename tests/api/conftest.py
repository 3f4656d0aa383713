"""A gateway for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.world import World, build
from tests.integration.house import opened


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A gateway that runs, with devices, jobs, approvals and operators."""
    with opened() as house:
        yield build(house)
