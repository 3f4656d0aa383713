"""What schemathesis is kept from asking, and a count of what it was answered.

It loads this file by itself, in its own process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis

SPARED: dict[str, list[str]] = json.loads(os.environ["SPARED"])
"""By operation, what it is not to be asked for: everything after it needs that."""
ANSWERED = Path(os.environ["ANSWERED"])
PATIENCE_MS = 300
NOBODY = "nobody-and-nothing"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Ask for something else, and do not wait for what cannot come."""
    spared = SPARED.get(_operation(case), ())
    for name, value in (case.path_parameters or {}).items():
        if value in spared:
            case.path_parameters[name] = NOBODY
    for said in (case.query, case.body):
        if isinstance(said, dict) and _is_long(said.get("wait_ms")):
            said["wait_ms"] = PATIENCE_MS


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Write down how an operation was answered."""
    with ANSWERED.open("a") as file:
        file.write(f"{_operation(case)} {response.status_code}\n")


def _operation(case: Any) -> str:
    return str(case.operation.definition.raw["operationId"])


def _is_long(value: Any) -> bool:
    return str(value).isdigit() and int(value) > PATIENCE_MS
