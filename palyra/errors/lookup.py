"""Things that are looked up and are not there, or are several."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError

_LISTS = {
    "device": "palyra nodes list",
    "pairing request": "palyra pairing list",
    "job": "palyra jobs list",
    "fan-out": "palyra jobs list",
    "operator": "palyra operators list",
    "open question": "palyra node requests",
    "remembered choice": "palyra node requests --remembered",
}
"""Where things of a kind are listed."""


@attrs.define
class NotFound(PalyraError):
    """No thing of that kind has this name or id."""

    code = "not_found"
    category = Category.NOT_FOUND
    kind: str
    wanted: str

    @property
    def sentence(self) -> str:
        return f"No {self.kind} is called {self.wanted}."

    @property
    def hint(self) -> str:
        return _LISTS.get(self.kind, "palyra doctor")


@attrs.define
class AmbiguousTarget(PalyraError):
    """A prefix fits more than one thing; ``candidates`` are ``SHORTID name`` texts."""

    code = "ambiguous_target"
    category = Category.CONFLICT
    kind: str
    wanted: str
    candidates: tuple[str, ...]

    @property
    def sentence(self) -> str:
        shown = ", ".join(self.candidates[:5])
        return f"{self.wanted} is the beginning of {len(self.candidates)} {self.kind}s: {shown}."

    @property
    def hint(self) -> str:
        return _LISTS.get(self.kind, f"palyra {self.kind.split()[0]} list")


@attrs.define
class NameTaken(PalyraError):
    """Another device has that name."""

    code = "name_taken"
    category = Category.CONFLICT
    name: str

    @property
    def sentence(self) -> str:
        return f"Another device is called {self.name}; nothing was changed."

    @property
    def hint(self) -> str:
        return f"palyra nodes show {self.name}"


@attrs.define
class AlreadyKept(PalyraError):
    """The store keeps something under that id or name already; nothing was changed."""

    code = "already_kept"
    category = Category.CONFLICT

    @property
    def sentence(self) -> str:
        return "That id is in use already."
