"""Choices that outlive their call: for the session of this node host in memory, for always in
``node-host/consents.json``, which the host alone writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from palyra._versioned import VersionedFile
from palyra.core.consents import Scope
from palyra.core.devices import clean_text
from palyra.core.identifiers import Entropy, as_prefix, has_prefix, is_ulid, new_ulid, short_id
from palyra.core.jobs import ALWAYS, FOR_SESSION
from palyra.errors import AmbiguousTarget, NotFound, StoreCorrupt

SCHEMA_VERSION: Final = 1
MAX_KEPT = 1_000
"""Of each kind; the oldest is forgotten for one more, and asked about again."""
MAX_FILE = 4 * 1024 * 1024
MAX_SHOWN = 512
_KIND = "remembered choice"
_Thing = TypeVar("_Thing")

InThread = Callable[[Callable[[], None]], Deferred[None]]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_SHOWN)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=2 * MAX_SHOWN)]


class Choice(msgspec.Struct, frozen=True):
    """One remembered yes.  ``scope`` is compared; ``shown`` and ``argument`` are for people, the
    latter the beginning of what was asked."""

    choice_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]
    choice: Literal["session", "always"]
    capability: _Text
    descriptor_digest: _Text
    scope: _Key
    shown: _Text
    argument: _Text
    decided_by: _Text
    decided_at_unix_ms: int


class ConsentsFile(msgspec.Struct, frozen=True):
    """``consents.json``."""

    schema_version: Literal[1]
    choices: Annotated[tuple[Choice, ...], msgspec.Meta(max_length=MAX_KEPT)]


class Consents:
    """Every remembered yes of this device.  What is in memory counts; the file follows it."""

    _log = Logger()

    def __init__(
        self,
        *,
        path: Path,
        kept: Iterable[Choice],
        now_ms: Callable[[], int],
        entropy: Entropy,
        in_thread: InThread,
    ) -> None:
        """``in_thread`` runs what blocks elsewhere; :meth:`open` reads the file."""
        self._path = path
        self._now_ms = now_ms
        self._entropy = entropy
        self._in_thread = in_thread
        self._choices = {_key(each): each for each in kept}
        self._writing = False
        self._stale = False
        self._idle: list[Deferred[None]] = []

    @classmethod
    def open(
        cls, path: Path, *, now_ms: Callable[[], int], entropy: Entropy, in_thread: InThread
    ) -> Consents:
        """Those that the file has.  A damaged file is kept aside, and said to be: everything is
        asked again.

        :raises StoreCorrupt: it cannot be put aside.
        :raises FileTooNew: a newer version has written it; what was allowed under which conditions
            is not known here, and it is left as it is.
        :raises StateOfAnother, StoreUnavailable: it cannot be read.
        """
        return cls(
            path=path,
            kept=_read(path),
            now_ms=now_ms,
            entropy=entropy,
            in_thread=in_thread,
        )

    def find(self, capability: str, digest: str, scope: Scope) -> Choice | None:
        """The yes that holds for such a call.  One that was given for another descriptor of the
        capability is void from now on."""
        void = [
            each
            for each in self._choices.values()
            if each.capability == capability and each.descriptor_digest != digest
        ]
        self._drop(void)
        return self._choices.get((capability, scope.key))

    def remember(
        self,
        choice: str,
        capability: str,
        digest: str,
        scope: Scope,
        *,
        argument: str,
        decided_by: str,
    ) -> Choice:
        """Let such calls run from now on; ``choice`` is ``session`` or ``always``, and does not
        shorten what was said before."""
        said = self.find(capability, digest, scope)
        if said is not None and said.choice == ALWAYS:
            return said
        now_ms = self._now_ms()
        kept = Choice(
            choice_id=new_ulid(now_ms, self._entropy),
            choice="always" if choice == ALWAYS else "session",
            capability=capability,
            descriptor_digest=digest,
            scope=scope.key,
            shown=clean_text(scope.shown, MAX_SHOWN),
            argument=clean_text(argument, MAX_SHOWN),
            decided_by=clean_text(decided_by, MAX_SHOWN),
            decided_at_unix_ms=now_ms,
        )
        self._choices.pop(_key(kept), None)  # the newest is the last
        self._choices[_key(kept)] = kept
        same = [each for each in self._choices.values() if each.choice == kept.choice]
        self._drop(same[:-MAX_KEPT])
        if choice == ALWAYS:
            self._write()
        return kept

    def remembered(self) -> tuple[Choice, ...]:
        """All of them, oldest first."""
        return tuple(self._choices.values())

    def forget(self, wanted: str) -> Choice:
        """Ask again from now on; ``wanted`` is an id or its beginning.

        :raises NotFound, AmbiguousTarget: no choice, or several, are called that.
        """
        found = pick(wanted, {each.choice_id: each for each in self.remembered()}, _KIND)
        self._drop([found])
        return found

    def when_written(self) -> Deferred[None]:
        """Fires when nothing is being written."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    # -- the file -------------------------------------------------------------------------------

    def _drop(self, choices: Iterable[Choice]) -> None:
        for each in (dropped := list(choices)):
            self._choices.pop(_key(each), None)
        if any(each.choice == ALWAYS for each in dropped):
            self._write()

    def _write(self) -> None:
        """Write what there is, one write at a time; what changes meanwhile is written next."""
        self._stale = True
        if not self._writing:
            self._write_next()

    def _write_next(self) -> None:
        self._writing, self._stale = True, False
        kept = tuple(each for each in self._choices.values() if each.choice != FOR_SESSION)
        file = ConsentsFile(SCHEMA_VERSION, kept)
        written = self._in_thread(lambda: _at(self._path).write(file))
        written.addErrback(
            lambda failure: self._log.failure(
                "choices of always are not on disk: they hold until the node host stops", failure
            )
        )
        written.addCallback(self._written)

    def _written(self, _: object) -> None:
        self._writing = False
        if self._stale:
            self._write_next()
        else:
            self._check_idle()

    def _check_idle(self) -> None:
        if not self._writing:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)


def pick(wanted: str, things: Mapping[str, _Thing], kind: str) -> _Thing:
    """The one of ``things``, by id, that an id or its beginning means.

    :raises NotFound, AmbiguousTarget: none or several.
    """
    upper = wanted.upper()
    if is_ulid(upper) and upper in things:
        return things[upper]
    prefix = as_prefix(wanted)
    found = [] if prefix is None else [each for each in things if has_prefix(each, prefix)]
    if not found:
        raise NotFound(kind, clean_text(wanted, 64))
    if len(found) > 1:
        raise AmbiguousTarget(kind, wanted, tuple(short_id(each, 16) for each in found))
    return things[found[0]]


def _key(choice: Choice) -> tuple[str, str]:
    return choice.capability, choice.scope


def _at(path: Path) -> VersionedFile[ConsentsFile]:
    return VersionedFile(path, ConsentsFile, SCHEMA_VERSION, max_bytes=MAX_FILE)


def _read(path: Path) -> tuple[Choice, ...]:
    try:
        file = _at(path).read()
    except StoreCorrupt as error:
        _put_aside(path, error)
        return ()
    return () if file is None else file.choices


def _put_aside(path: Path, error: StoreCorrupt) -> None:
    """Keep a damaged file for whoever wants to know; only its owner may read it there either."""
    if path.is_symlink() or not path.is_file():
        raise error  # whoever put that there knows what it is for
    aside = path.with_name(f"{path.name}.corrupt")
    try:
        os.replace(path, aside)
    except OSError as failed:
        raise StoreCorrupt(str(path), str(failed)) from failed
    with contextlib.suppress(OSError):
        aside.chmod(0o600)
    Logger(namespace=__name__).error(
        "{file} is damaged ({why}); it is kept as {aside}, and everything is asked again",
        file=path.name,
        why=clean_text(error.detail, 120),
        aside=aside.name,
    )
