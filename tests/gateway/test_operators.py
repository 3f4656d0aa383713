"""Tests of :mod:`palyra.gateway.operators`; who is let in by it is in tests/console."""

from __future__ import annotations

import pytest

from palyra.console import models
from palyra.errors import Malformed, NotFound, OperatorRevoked
from tests.gateway.house import result_of
from tests.gateway.operating import ANA, Operating


@pytest.fixture
def operating() -> Operating:
    return Operating()


def test_operators_are_found(operating: Operating) -> None:
    """By full id in any case, or by the name of an active one."""
    operating.enrolled()
    bo = operating.registry.resolve("bo")
    assert operating.registry.resolve(bo.operator_id.lower()) == bo
    with pytest.raises(NotFound):
        operating.registry.resolve("ana")
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    with pytest.raises(OperatorRevoked):
        operating.registry.resolve("bo")
    operating.enrolled()
    assert operating.registry.resolve("bo").operator_id != bo.operator_id


def test_a_person_answers_for_a_program(operating: Operating) -> None:
    """An operator or an account of this machine; never another program."""
    operating.enrolled("bo")
    operating.enrolled("robot", owner="bo")
    operating.enrolled("local-robot", owner="ana")
    robot = operating.registry.resolve("robot")
    assert operating.registry.name_of(robot.owner) == "bo"
    assert operating.registry.resolve("local-robot").owner == "local:1000"
    for owner in ("robot", "nobody"):
        with pytest.raises(Malformed, match="owner"):
            operating.registry.person(owner)
