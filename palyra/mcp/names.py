"""What tools are called: the protocol's clients take ``[a-z0-9_]{1,64}`` alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MAX_NAME = 64
_OTHER = re.compile(r"[^a-z0-9_]")


class ToolNames:
    """Gives every capability a name of its own, for as long as the process runs.

    A name that was given is never given to another capability: a client that has not asked for
    the list again would call something else by it.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self._owner = {name: "" for name in reserved}
        self._name: dict[str, str] = {}

    def of(self, capabilities: Iterable[str]) -> Mapping[str, str]:
        """The name of each, by capability; new ones are named in alphabetical order."""
        wanted = sorted(set(capabilities))
        for capability in wanted:
            if capability not in self._name:
                self._name[capability] = self._free(capability)
                self._owner[self._name[capability]] = capability
        return {capability: self._name[capability] for capability in wanted}

    def _free(self, capability: str) -> str:
        plain = _OTHER.sub("_", capability.lower()) or "_"
        name, number = plain[:MAX_NAME], 1
        while name in self._owner:
            number += 1
            end = f"_{number}"
            name = plain[: MAX_NAME - len(end)] + end
        return name
