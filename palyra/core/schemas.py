"""JSON Schemas of capabilities: which are taken, and what is wrong with a value."""

from __future__ import annotations

from typing import Any

import msgspec

from palyra.core.schemafaults import MAX_FAULTS, Explanation, FieldFault
from palyra.core.schemaload import load
from palyra.core.schemaprofile import Schema, check_profile, compiled

__all__ = ["MAX_FAULTS", "Checker", "FieldFault", "check_profile"]

MAX_WORK_NS = 500_000_000
"""For how long a check may keep its caller waiting, on a slow core."""


class Checker:
    """Finds what is wrong with the values that a schema of the profile is for."""

    def __init__(self, schema: Schema) -> None:
        """The schema was accepted by :func:`check_profile`.  Raises ValueError where it was not."""
        self._schema = schema
        self._validator = compiled(schema)
        self._load = load(schema)

    def faults(
        self, value: Any, root: str = "input", size: int | None = None
    ) -> tuple[FieldFault, ...]:
        """What does not fit, at most 16, in the order of the schema's fields; nothing where all is
        well.  Never raises.

        ``root`` is what the value is called.  ``size`` is that of its JSON in bytes, where it is
        known.  A value that would take too long is not checked here; whoever is given it decodes
        it into a type of his own.
        """
        try:
            length = len(msgspec.json.encode(value)) if size is None else size
            if length * self._load > MAX_WORK_NS or self._validator.is_valid(value):
                return ()
            return Explanation(self._schema, root).of(value)
        except RecursionError:
            return (FieldFault(root, "is nested too deeply"),)
        except (TypeError, ValueError, OverflowError):
            return (FieldFault(root, "is nested too deeply, or not JSON"),)
