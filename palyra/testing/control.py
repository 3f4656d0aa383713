"""A control that answers what a test tells it to, and followers that it feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import IControl, IFollowing, JobFilter
from palyra.core.operators import Caller
from palyra.errors import PalyraError

CONTRACT = models.Contract()
NO_CRL = b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"


@implementer(IFollowing)
class FakeFollowing:
    """A follower that a test feeds.

    As the real one it keeps of each job only the newest event, wakes nobody once it is closed, and
    has ``finished`` when its ``end`` was taken.  ``closed`` counts the calls of ``close``.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.finished = False
        self.closed = 0
        self.taken = 0
        self._wake = wake
        self._changed: dict[tuple[str, str], models.JobEvent] = {}

    def feed(self, *events: models.JobEvent) -> None:
        """Something happened: it waits to be taken, and whoever follows is woken."""
        for event in events:
            key = (event.kind, event.job.job_id if event.job else "")
            self._changed.pop(key, None)
            self._changed[key] = event
        if not self.closed:
            self._wake()

    def take(self) -> list[models.JobEvent]:
        self.taken += 1
        changed = list(self._changed.values())
        self._changed.clear()
        self.finished = self.finished or any(event.kind == "end" for event in changed)
        return changed

    def close(self) -> None:
        self.closed += 1


@implementer(IControl)
class FakeControl:
    """Every call is remembered in ``asked`` as its name and arguments.

    What it gives is ``answers[name]``: a body, a PalyraError to fail with, a Deferred, or a
    function of the arguments.  Without one the body is only the contract (``NO_CRL`` where bytes
    are wanted), and who follows gets a :class:`FakeFollowing`, kept in ``followings``, that has
    ``news`` to be taken at once.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.followings: list[FakeFollowing] = []
        self.news: list[models.JobEvent] = []

    def nodes(
        self, limit: int, cursor: str | None, where: str, search: str = "", trust: str = ""
    ) -> Deferred[models.NodeList]:
        return self._answer("nodes", limit, cursor, where, search, trust)

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return self._answer("node", target)

    def capabilities(
        self, limit: int, cursor: str | None, name: str = "", digest: str = ""
    ) -> Deferred[models.CapabilityCatalogue]:
        return self._answer("capabilities", limit, cursor, name, digest)

    def journal(self, target: str, limit: int, cursor: str | None) -> Deferred[models.JournalList]:
        return self._answer("journal", target, limit, cursor)

    def pairing_history(
        self, target: str, limit: int, cursor: str | None
    ) -> Deferred[models.PairingHistory]:
        return self._answer("pairing_history", target, limit, cursor)

    def invoke(self, target: str, body: models.Invoke, by: Caller) -> Deferred[models.InvokeAnswer]:
        return self._answer("invoke", target, body, by)

    def revoke(self, target: str, body: models.Revoke, by: Caller) -> Deferred[models.RevokeAnswer]:
        return self._answer("revoke", target, body, by)

    def grant(self, target: str, body: models.GrantNode, by: Caller) -> Deferred[models.NodeAnswer]:
        return self._answer("grant", target, body, by)

    def rotate(self, body: models.Rotate, by: Caller) -> Deferred[models.RotateAnswer]:
        return self._answer("rotate", body, by)

    def remove(self, target: str, body: models.Remove, by: Caller) -> Deferred[models.RemoveAnswer]:
        return self._answer("remove", target, body, by)

    def clear(self, body: models.Remove, by: Caller) -> Deferred[models.ClearAnswer]:
        return self._answer("clear", body, by)

    def ca(self) -> Deferred[models.CaAnswer]:
        return self._answer("ca")

    def rotate_ca(self, body: models.RotateCa, by: Caller) -> Deferred[models.CaAnswer]:
        return self._answer("rotate_ca", body, by)

    def crl(self) -> Deferred[bytes]:
        return self._answer("crl", otherwise=NO_CRL)

    def state(self) -> Deferred[models.StateAnswer]:
        return self._answer("state")

    def confirm_state(self, by: Caller) -> Deferred[models.StateAnswer]:
        return self._answer("confirm_state", by)

    def label(self, target: str, body: models.LabelNode, by: Caller) -> Deferred[models.NodeAnswer]:
        return self._answer("label", target, body, by)

    def pairing_requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        return self._answer("pairing_requests", state, client_kind, limit, cursor)

    def pairing_request(self, target: str) -> Deferred[models.PairingAnswer]:
        return self._answer("pairing_request", target)

    def mint(self, body: models.MintCode, by: Caller) -> Deferred[models.MintedCode]:
        return self._answer("mint", body, by)

    def withdraw_code(self, target: str, by: Caller) -> Deferred[models.WithdrawnCode]:
        return self._answer("withdraw_code", target, by)

    def decide(
        self, target: str, approved: bool, body: models.Decision, by: Caller
    ) -> Deferred[models.PairingAnswer]:
        return self._answer("decide", target, approved, body, by)

    def jobs(self, which: JobFilter, limit: int, cursor: str | None) -> Deferred[models.JobList]:
        return self._answer("jobs", which, limit, cursor)

    def submit(self, body: models.SubmitJobs, by: Caller) -> Deferred[models.FanoutAnswer]:
        return self._answer("submit", body, by)

    def fanout(self, target: str, limit: int, cursor: str | None) -> Deferred[models.FanoutAnswer]:
        return self._answer("fanout", target, limit, cursor)

    def cancel_job(
        self, target: str, body: models.CancelJob, by: Caller
    ) -> Deferred[models.JobAnswer]:
        return self._answer("cancel_job", target, body, by)

    def cancel_fanout(
        self, target: str, body: models.CancelJob, by: Caller
    ) -> Deferred[models.FanoutAnswer]:
        return self._answer("cancel_fanout", target, body, by)

    def purge(self, body: models.PurgeJobs, by: Caller) -> Deferred[models.PurgeAnswer]:
        return self._answer("purge", body, by)

    def follow_job(self, target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        return self._follow("follow_job", target, wake)

    def follow_fanout(self, target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        return self._follow("follow_fanout", target, wake)

    def job(self, target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        return self._answer("job", target, wait_ms)

    def health(self) -> Deferred[models.Health]:
        return self._answer("health")

    def _follow(self, name: str, target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        if name in self.answers:
            return self._answer(name, target)
        self.asked.append((name, target))
        following = FakeFollowing(wake)
        following.feed(*self.news)
        self.followings.append(following)
        return succeed(following)

    def _answer(self, name: str, *arguments: object, otherwise: object = None) -> Deferred[Any]:
        self.asked.append((name, *arguments))
        answer = self.answers.get(name, otherwise or {"contract": CONTRACT})
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(*arguments)
        if isinstance(answer, PalyraError):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(answer)
