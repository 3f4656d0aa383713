"""An ID that may be a job's or a fan-out's: the job is tried first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from palyra.cli.client import GatewayRefused

NOT_FOUND = "not_found"

J = TypeVar("J")
F = TypeVar("F")


def either(wanted: str, job: Callable[[], J], fanout: Callable[[], F]) -> J | F:
    """What the gateway answers about the job, else about the fan-out of that ID.

    :raises GatewayRefused: neither is there, or the gateway refuses for another reason.
    """
    try:
        return job()
    except GatewayRefused as error:
        if error.problem.code != NOT_FOUND:
            raise
    try:
        return fanout()
    except GatewayRefused as error:
        if error.problem.code != NOT_FOUND:
            raise
        sentence = f"No job or fan-out is called {wanted}."
        raise GatewayRefused(msgspec.structs.replace(error.problem, error=sentence)) from error
