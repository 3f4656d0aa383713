"""What schemathesis is kept from asking.  It loads this file by itself, in its own process."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis

_SPARED: dict[str, list[str]] = json.loads(os.environ["SPARED"])
"""By the label of an operation, what it is not to be asked for: everything after it needs that."""
PATIENCE_MS = 300
NOBODY = "nobody-and-nothing"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Ask for something else, and do not wait for what cannot come."""
    spared = _SPARED.get(case.operation.label, ())
    for name, value in (case.path_parameters or {}).items():
        if value in spared:
            case.path_parameters[name] = NOBODY
    for said in (case.query, case.body):
        if isinstance(said, dict) and _is_long(said.get("wait_ms")):
            said["wait_ms"] = PATIENCE_MS


def _is_long(value: Any) -> bool:
    return str(value).isdigit() and int(value) > PATIENCE_MS
