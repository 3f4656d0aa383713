"""A process that dies, or a disk that is full, at one of its writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from palyra._files import write_atomic
from palyra.pki import keypair, storekey


class Crash(Exception):
    """What the tests let happen instead of a write, or right after it."""


@attrs.define
class CrashingWrites:
    """Lets ``at`` writes pass, then raises ``error`` at every one: before it, or ``after`` it."""

    at: int
    after: bool = attrs.field(kw_only=True, default=False)
    error: Exception = attrs.field(kw_only=True, factory=Crash)
    done: int = 0

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Like :func:`palyra._files.write_atomic` until it is time."""
        self.done += 1
        if self.done <= self.at or self.after:
            write_atomic(path, data, mode)
        if self.done > self.at:
            raise self.error

    @contextmanager
    def in_place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Every write of the room goes through here."""
        with monkeypatch.context() as patched:
            for module in (keypair, storekey):
                patched.setattr(module, "write_atomic", self.write)
            yield
