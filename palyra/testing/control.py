"""A control that answers what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import IControl
from palyra.errors import PalyraError

CONTRACT = models.Contract()


@implementer(IControl)
class FakeControl:
    """Every call is remembered in ``asked`` as its name and arguments.

    What it gives is ``answers[name]``: a body, a PalyraError to fail with, a Deferred, or a
    function of the arguments.  Without one the body is only the contract.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}

    def nodes(self, limit: int, cursor: str | None) -> Deferred[models.NodeList]:
        return self._answer("nodes", limit, cursor)

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return self._answer("node", target)

    def invoke(self, target: str, body: models.Invoke, by: str) -> Deferred[models.InvokeAnswer]:
        return self._answer("invoke", target, body, by)

    def revoke(self, target: str, body: models.Revoke, by: str) -> Deferred[models.RevokeAnswer]:
        return self._answer("revoke", target, body, by)

    def pairing_requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        return self._answer("pairing_requests", state, client_kind, limit, cursor)

    def pairing_request(self, target: str) -> Deferred[models.PairingAnswer]:
        return self._answer("pairing_request", target)

    def mint(self, body: models.MintCode, by: str) -> Deferred[models.MintedCode]:
        return self._answer("mint", body, by)

    def decide(
        self, target: str, approved: bool, body: models.Decision, by: str
    ) -> Deferred[models.PairingAnswer]:
        return self._answer("decide", target, approved, body, by)

    def jobs(
        self, state: str | None, target: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.JobList]:
        return self._answer("jobs", state, target, limit, cursor)

    def job(self, target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        return self._answer("job", target, wait_ms)

    def health(self) -> Deferred[models.Health]:
        return self._answer("health")

    def _answer(self, name: str, *arguments: object) -> Deferred[Any]:
        self.asked.append((name, *arguments))
        answer = self.answers.get(name, {"contract": CONTRACT})
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(*arguments)
        if isinstance(answer, PalyraError):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(answer)
