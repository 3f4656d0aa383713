"""What the console asks of the gateway; the gateway provides it, tests fake it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from palyra.console import models


class IControl(Interface):
    """Operations, each a Deferred of an answer's body; failing with PalyraError.

    ``target`` is a device id, a name, or at least four characters of an id's random part;
    ``by`` is the operator.
    """

    def nodes(limit: int, cursor: str | None) -> Deferred[models.NodeList]:
        """The inventory."""

    def node(target: str) -> Deferred[models.NodeAnswer]:
        """One device."""

    def invoke(target: str, body: models.Invoke, by: str) -> Deferred[models.InvokeAnswer]:
        """Run a capability and wait for it as long as the body says."""

    def revoke(target: str, body: models.Revoke, by: str) -> Deferred[models.RevokeAnswer]:
        """Take a device's trust away."""

    def pairing_requests(
        state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        """Pairing requests, active codes and sources with failed tries."""

    def pairing_request(target: str) -> Deferred[models.PairingAnswer]:
        """One pairing request."""

    def mint(body: models.MintCode, by: str) -> Deferred[models.MintedCode]:
        """A new pairing code."""

    def decide(
        target: str, approved: bool, body: models.Decision, by: str
    ) -> Deferred[models.PairingAnswer]:
        """Approve or reject a pairing request."""

    def jobs(
        state: str | None, target: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.JobList]:
        """Jobs, newest first."""

    def job(target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        """One job, after at most ``wait_ms`` if it is not final."""

    def health() -> Deferred[models.Health]:
        """What only the running gateway can say of itself."""
