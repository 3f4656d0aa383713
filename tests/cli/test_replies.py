"""Tests of :mod:`palyra.cli.replies`."""

from __future__ import annotations

import msgspec

from palyra.cli.replies import NULL, InvokeReply, JobReply
from tests.cli.things import OUTPUT, invoke_answer, job_answer


def test_every_key_of_the_contract_is_read() -> None:
    """What the gateway writes is what is read, with and without an output."""
    for output in (OUTPUT, None):
        invoked = msgspec.json.encode(invoke_answer(output_json=output))
        looked_up = msgspec.json.encode(job_answer(output))
        reply = msgspec.json.decode(invoked, type=InvokeReply)
        assert reply.output_json == (output or NULL)
        assert msgspec.json.decode(msgspec.json.encode(reply)) == msgspec.json.decode(invoked)
        assert msgspec.json.decode(looked_up, type=JobReply).output_json == (output or NULL)
