"""Answers with a capability's output, as they are read.

msgspec does not decode ``Raw | None`` (a value other than null is refused), so what is null on the
wire is here the document ``null``.
"""

from __future__ import annotations

import msgspec

from palyra.console.models import InvokeAnswer, JobAnswer

NULL = msgspec.Raw(b"null")


class InvokeReply(InvokeAnswer, frozen=True):
    """POST nodes/{id}/invoke."""

    output_json: msgspec.Raw


class JobReply(JobAnswer, frozen=True):
    """GET jobs/{id}."""

    output_json: msgspec.Raw
