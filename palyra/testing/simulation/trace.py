"""The trace of a run: every line counts for its hash, the last ones are shown with a violation."""

from __future__ import annotations

import hashlib
from collections import Counter, deque

LAST = 40


class Violation(AssertionError):
    """A promise was broken; the text has the seed, the step, the trace and the replay."""


class Trace:
    """What happened, and how often each kind of fault was made."""

    def __init__(self, *, keep: bool = False) -> None:
        self.faults: Counter[str] = Counter()
        self.lines: deque[str] = deque(maxlen=None if keep else LAST)
        self._hash = hashlib.sha256()

    def say(self, at_s: float, text: str) -> None:
        """One line."""
        line = f"{at_s:12.4f} {text}"
        self.lines.append(line)
        self._hash.update(line.encode())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over every line so far."""
        return self._hash.hexdigest()

    def last(self) -> str:
        """The last lines."""
        return "\n".join(list(self.lines)[-LAST:])
