"""The span of a run travels in its dispatch."""

from __future__ import annotations

import pytest

from palyra.core.frames import Dispatch, GatewayFrame
from palyra.core.identifiers import AttemptId
from palyra.wire.session import read_frame, write_frame, write_published_frames
from palyra.wire.v1 import node_pb2
from tests.core.test_tracing import GOOD

ATTEMPT = AttemptId("01M80NKQCNT6MW3K2ZT9B3FVHD")


def dispatch(traceparent: str) -> Dispatch:
    return Dispatch(ATTEMPT, ATTEMPT, 1, "echo", b"{}", 9, 1_000, "ana", traceparent)


@pytest.mark.parametrize("traceparent", [GOOD, ""])
def test_it_is_read_as_it_was_written(traceparent: str) -> None:
    """With a span and without."""
    written = write_frame(GatewayFrame(dispatches=[dispatch(traceparent)]), "e", 0)
    (read,) = read_frame(
        node_pb2.NodeEventResponse.FromString(written.SerializeToString())
    ).dispatches
    assert read.traceparent == traceparent


@pytest.mark.parametrize("traceparent", ["x" * 55, GOOD + "00", "00-0-0-0"])
def test_what_is_none_is_left(traceparent: str) -> None:
    """A gateway's mistake does not stop a job."""
    written = write_frame(GatewayFrame(dispatches=[dispatch(traceparent)]), "e", 0)
    (read,) = read_frame(written).dispatches
    assert (read.traceparent, read.capability) == ("", "echo")


def test_a_version_one_node_is_not_told() -> None:
    """Its message has no field for it."""
    frame = GatewayFrame(dispatches=[dispatch(GOOD)])
    (message,) = write_published_frames(frame, lambda: "e")
    assert message.dispatch.traceparent == ""
