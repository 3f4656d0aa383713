"""What the console asks of the gateway; the gateway provides it, tests fake it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from palyra.console import models


@attrs.frozen
class JobFilter:
    """Which jobs to list, as the query says it; an empty text or tuple does not filter."""

    states: tuple[str, ...] = ()
    device: str = ""
    capability: str = ""
    by: str = ""
    fanout: str = ""


class IFollowing(Interface):
    """One follower of a job or a fan-out.  It is told to look, and takes what it can carry."""

    finished: bool = Attribute("Whether ``end`` was taken: nothing follows.")

    def take() -> list[models.JobEvent]:
        """What changed since the last call: of each job only its newest state and progress."""

    def close() -> None:
        """Stop following.  Again: nothing."""


class IControl(Interface):
    """Operations, each a Deferred of an answer's body; failing with PalyraError.

    ``target`` is a device id, a name, or at least four characters of an id's random part;
    ``by`` is the operator.
    """

    def nodes(limit: int, cursor: str | None, where: str) -> Deferred[models.NodeList]:
        """The inventory, or the part of it that a targeting expression matches."""

    def node(target: str) -> Deferred[models.NodeAnswer]:
        """One device."""

    def invoke(target: str, body: models.Invoke, by: str) -> Deferred[models.InvokeAnswer]:
        """Run a capability and wait for it as long as the body says."""

    def revoke(target: str, body: models.Revoke, by: str) -> Deferred[models.RevokeAnswer]:
        """Take a device's trust away."""

    def grant(target: str, body: models.GrantNode, by: str) -> Deferred[models.NodeAnswer]:
        """Grant capabilities to a device, or withhold them."""

    def rotate(body: models.Rotate, by: str) -> Deferred[models.RotateAnswer]:
        """Order a new certificate from some devices; fires when the order is on record."""

    def remove(target: str, body: models.Remove, by: str) -> Deferred[models.RemoveAnswer]:
        """Forget a device; one that was not revoked is revoked by it."""

    def clear(body: models.Remove, by: str) -> Deferred[models.ClearAnswer]:
        """Forget every device that is revoked."""

    def ca() -> Deferred[models.CaAnswer]:
        """The CAs of this gateway, and who is left in a rotation."""

    def rotate_ca(body: models.RotateCa, by: str) -> Deferred[models.CaAnswer]:
        """Begin to move all devices to a new CA."""

    def crl() -> Deferred[bytes]:
        """The signed certificate revocation lists, PEM: one of each CA."""

    def state() -> Deferred[models.StateAnswer]:
        """Whether devices are served."""

    def confirm_state(by: str) -> Deferred[models.StateAnswer]:
        """Confirm that what was revoked since a restored state is revoked here too: serve."""

    def label(target: str, body: models.LabelNode, by: str) -> Deferred[models.NodeAnswer]:
        """Change a device's name and labels."""

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

    def jobs(which: JobFilter, limit: int, cursor: str | None) -> Deferred[models.JobList]:
        """Jobs, newest first."""

    def submit(body: models.SubmitJobs, by: str) -> Deferred[models.FanoutAnswer]:
        """Accept a fan-out: fires when it is committed, with a row for every target."""

    def fanout(target: str, limit: int, cursor: str | None) -> Deferred[models.FanoutAnswer]:
        """A fan-out with a page of its rows."""

    def cancel_job(target: str, body: models.CancelJob, by: str) -> Deferred[models.JobAnswer]:
        """Ask for the end of a job; the answer says whether it is cancelled, or only asked to."""

    def cancel_fanout(
        target: str, body: models.CancelJob, by: str
    ) -> Deferred[models.FanoutAnswer]:
        """Ask for the end of every row that has not ended."""

    def purge(body: models.PurgeJobs, by: str) -> Deferred[models.PurgeAnswer]:
        """Cancel what waits for one device, or for all."""

    def follow_job(target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        """Follow a job: ``wake`` says that there is something to take; its state is there at once.

        Fails with LimitReached where too many follow already.
        """

    def follow_fanout(target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        """Follow a fan-out and all its rows; otherwise as :meth:`follow_job`."""

    def job(target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        """One job, after at most ``wait_ms`` if it is not final."""

    def health() -> Deferred[models.Health]:
        """What only the running gateway can say of itself."""
