"""What an answer's status says: done, or only taken and waiting for an operator."""

from __future__ import annotations

import msgspec
import pytest

from palyra.console import models
from palyra.console.openapi import document
from palyra.console.routes import ROUTES, SUBJECTS

ANSWER = models.InvokeAnswer(
    contract=models.Contract(),
    device_id="D",
    capability="echo",
    success=False,
    job_id="J",
    state="queued",
    output_json=models.NULL,
    error=None,
    error_code=None,
    effect_possible=False,
    took_ms=None,
    approval_id="A",
)


@pytest.mark.parametrize(("waits", "status"), [("approval", 202), ("", 200)])
def test_an_invocation_that_waits(waits: str, status: int) -> None:
    """202 while it waits for approval, 200 in every other state."""
    (route,) = (each for each in ROUTES if each.name == "invoke")
    answer = msgspec.structs.replace(ANSWER, waiting_for=waits)
    assert route.status_of(answer) == status
    assert b"accepted_only" not in msgspec.json.encode(answer)


def test_it_is_documented() -> None:
    """Both statuses are in the document; of other routes only their own."""
    paths = document(SUBJECTS, "/console/v1")["paths"]
    operations = [each for path in paths.values() for each in path.values()]
    found = {
        each["operationId"]: set(each["responses"]) for each in operations if "responses" in each
    }
    assert {"200", "202"} <= found["invoke"] and "202" not in found["list_nodes"]
