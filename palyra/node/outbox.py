"""What gathers for the gateway until the carrier can write: one message at a time, none too large.

Small things go first, large outputs travel in pieces between them, the session's last word comes
after everything else, and a message, encoded, stays below the 512 KiB of a QUIC frame.
"""

from __future__ import annotations

from collections import deque

import attrs

from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import STOPPING, NodeEvent, Progress, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Report
from palyra.core.transfers import PIECES_OVER, Outgoing

MAX_REPORTS = 256
MAX_OUTPUT_BYTES = 192 * 1024
"""Of the reports in one message; a single one may be as large as what goes in one piece."""
REPORT_BYTES = 512
"""What a report takes at most besides its output and its error."""
MAX_PROGRESS_BYTES = 32 * 1024
MAX_WAITING = 256
MAX_DESCRIPTOR_BYTES = 192 * 1024
"""Of the descriptors in one message; a single one is never larger."""
MAX_DESCRIPTORS = 256
"""That wait to be written; what is asked for beyond that is not sent."""


class Outbox:
    """Everything that was said to the gateway and is not written yet.

    An output of more than ``pieces_over`` bytes travels in pieces.
    """

    def __init__(self, session_epoch: int, pieces_over: int = PIECES_OVER) -> None:
        self._epoch = session_epoch
        self._pieces_over = pieces_over
        self._outgoing = Outgoing(pieces_over // 4)
        self._names: deque[str] = deque()
        self._reports: deque[Report] = deque()
        self._transferring: dict[int, Report] = {}
        self._progress: dict[AttemptId, Progress] = {}
        self._waiting: deque[Waiting] = deque()
        self._catalog: tuple[AnnouncedCapability, ...] | None = None
        self._descriptors: dict[str, bytes] = {}
        self._described = False
        self._stopping = False

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return self._stopping or self._speaks

    @property
    def _speaks(self) -> bool:
        return self._urgent or self._catalog is not None or bool(self._descriptors)

    @property
    def _urgent(self) -> bool:
        """Whether a job or the session waits for it."""
        return bool(
            self._names or self._reports or self._outgoing.busy or self._progress or self._waiting
        )

    # -- what is said -------------------------------------------------------------------------

    def say(self, name: str) -> None:
        """An event that is nothing but its name."""
        self._names.append(name)

    def report(self, report: Report) -> None:
        """The end of an attempt, after which nobody needs to know how far it was."""
        self._progress.pop(report.attempt_id, None)
        if len(report.output_json) <= self._pieces_over:
            self._reports.append(report)
        else:
            transfer_id = self._outgoing.start(report.output_json)
            self._transferring[transfer_id] = attrs.evolve(report, output_json=b"")

    def progress(self, progress: Progress) -> None:
        """How far an attempt is; only the last word before the next message goes out."""
        self._progress[progress.attempt_id] = progress

    def ask(self, waiting: Waiting) -> None:
        """A person is being asked, or said yes."""
        self._waiting.append(waiting)

    def catalog(self, announced: tuple[AnnouncedCapability, ...]) -> None:
        """What the node offers from now on; only the last one before the next message goes out."""
        self._catalog = announced

    def describe(self, digest: str, descriptor: bytes) -> None:
        """A descriptor that the gateway asked for."""
        if len(self._descriptors) < MAX_DESCRIPTORS:
            self._descriptors[digest] = descriptor

    def stop(self) -> None:
        """``node.stopping`` is the last word."""
        self._stopping = True

    # -- what is written ------------------------------------------------------------------------

    def take(self) -> NodeEvent:
        """The next message."""
        if not self._speaks:
            self._stopping = False
            return NodeEvent(name=STOPPING, session_epoch=self._epoch)
        if (offered := self._take_offered()) is not None:
            return offered
        chunks, ended = self._outgoing.take() if self._outgoing.busy else ([], [])
        return NodeEvent(
            name=self._names.popleft() if self._names else "",
            session_epoch=self._epoch,
            reports=self._take_reports() if self._reports else (),
            progress=self._take_progress() if self._progress else (),
            waiting=self._take_waiting() if self._waiting else (),
            chunks=tuple(chunks),
            transferred=tuple((self._transferring.pop(each), each) for each in ended),
        )

    def _take_offered(self) -> NodeEvent | None:
        """What is offered, in messages of its own: the catalog at once, since its descriptors come
        after it; of those every second message, so that neither waits for all of the other."""
        if self._names:
            return None
        if self._catalog is not None:
            catalog, self._catalog = self._catalog, None
            return NodeEvent(session_epoch=self._epoch, catalog=catalog)
        self._described = bool(self._descriptors) and not (self._described and self._urgent)
        if not self._described:
            return None
        return NodeEvent(session_epoch=self._epoch, descriptors=self._take_descriptors())

    def _take_descriptors(self) -> tuple[bytes, ...]:
        taken: list[bytes] = []
        size = 0
        for digest, descriptor in list(self._descriptors.items()):
            size += len(descriptor)
            if taken and size > MAX_DESCRIPTOR_BYTES:
                break
            taken.append(self._descriptors.pop(digest))
        return tuple(taken)

    def _take_reports(self) -> tuple[Report, ...]:
        """As many as fit into one message, at least one where there are any."""
        taken: list[Report] = []
        size = 0
        while self._reports and len(taken) < MAX_REPORTS:
            report = self._reports[0]
            size += len(report.output_json) + len(report.error.encode()) + REPORT_BYTES
            if taken and size > MAX_OUTPUT_BYTES:
                break
            taken.append(self._reports.popleft())
        return tuple(taken)

    def _take_progress(self) -> tuple[Progress, ...]:
        taken: list[Progress] = []
        size = 0
        for attempt_id, progress in list(self._progress.items()):
            if size > MAX_PROGRESS_BYTES:
                break
            size += len(progress.text.encode()) + REPORT_BYTES
            taken.append(self._progress.pop(attempt_id))
        return tuple(taken)

    def _take_waiting(self) -> tuple[Waiting, ...]:
        count = min(len(self._waiting), MAX_WAITING)
        return tuple(self._waiting.popleft() for _ in range(count))
