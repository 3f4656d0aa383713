"""Checking a state machine against a table of every (state, input) pair."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytest
from automat import NoTransition


class Recorded(Protocol):
    """A record that a machine works on."""

    state: Any


def input_names(inputs: type) -> set[str]:
    """The inputs that a machine's protocol declares."""
    members = inspect.getmembers(inputs, inspect.isfunction)
    return {name for name, _ in members if not name.startswith("_")}


def every_pair(states: type[enum.Enum], inputs: type) -> list[tuple[Any, str]]:
    """Every pair of a state and an input, in a stable order."""
    return [(state, name) for state in states for name in sorted(input_names(inputs))]


def check_pair(
    record: Recorded,
    machine_of: Callable[[Any], Any],
    name: str,
    arguments: tuple[object, ...],
    legal: Mapping[tuple[Any, str], Any],
) -> None:
    """Feed one input: it goes where the table says, or raises NoTransition and changes nothing."""
    before = record.state
    feed = getattr(machine_of(record), name)
    if (before, name) in legal:
        feed(*arguments)
        assert record.state is legal[before, name]
    else:
        with pytest.raises(NoTransition):
            feed(*arguments)
        assert record.state is before
