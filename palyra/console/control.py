"""What the console asks of the gateway; the gateway provides it, tests fake it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from zope.interface import Attribute, Interface

from palyra.console import models
from palyra.core.operators import Caller


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


class IFeed(Interface):
    """What one page watches: its counts, and the newest state of what it shows."""

    finished: bool = Attribute("Whether nothing follows: the caller may not watch any more.")

    def take() -> list[models.FeedEvent]:
        """What changed since the last call; of each thing only its newest state."""

    def close() -> None:
        """Watch no more.  Again: nothing."""


@attrs.frozen
class FeedQuery:
    """What a page shows: these devices and jobs (full ids), and lists that grow at their top.

    ``topics`` are of ``approvals`` (with pairing requests), ``jobs`` (every job, newest state) and
    ``devices`` (every device); counts come always.  ``resumed``: the page has watched before, and
    missed what happened since.
    """

    devices: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    resumed: bool = False


class IFeedControl(Interface):
    """What is live."""

    def watch(which: FeedQuery, by: Caller, wake: Callable[[], None]) -> Deferred[IFeed]:
        """Watch from now on: ``wake`` says that there is something to take, at most four times a
        second; the counts, and what is named as it is now, are there at once.

        Fails with LimitReached where too many watch already, Malformed where no full id is named
        or no topic.
        """


class ISignIn(Interface):
    """Signing in by a one-time link, and the browser sessions it makes.

    ``IRequest`` is handed in where a cookie is set or read; a session's secret is nowhere else.
    """

    def link(by: Caller) -> Deferred[models.SignInLink]:
        """A link that signs ``by`` in, once and within two minutes."""

    def preview(body: models.SignInToken, by: Caller) -> Deferred[models.SignInPreview]:
        """As whom a link would sign in; it stays usable."""

    def sign_in(
        body: models.SignInToken, request: IRequest, by: Caller
    ) -> Deferred[models.SignedIn]:
        """Use a link up: the request's answer sets the session's cookie."""

    def self(by: Caller) -> Deferred[models.CallerAnswer]:
        """Who asks."""

    def sign_out(request: IRequest, by: Caller) -> Deferred[models.SignedOut]:
        """End the browser session of the request."""


class IOperatorControl(Interface):
    """Operators, their invitations and certificates; ``target`` is an id or a name."""

    def operators(limit: int, cursor: str | None) -> Deferred[models.OperatorList]:
        """Every operator, by name, and the invitations that are open."""

    def invite(body: models.InviteOperator, by: Caller) -> Deferred[models.InvitedOperator]:
        """Invite somebody; the answer is the only one that holds the URI."""

    def enrol(body: models.EnrolOperator, by: Caller) -> Deferred[models.OperatorCertificateAnswer]:
        """Accept an invitation; nobody is signed in yet."""

    def renew(body: models.RenewOperator, by: Caller) -> Deferred[models.OperatorCertificateAnswer]:
        """A new certificate for who asks."""

    def change_role(
        target: str, body: models.ChangeRole, by: Caller
    ) -> Deferred[models.OperatorAnswer]:
        """Give an operator another role: at once, also on what is open."""

    def revoke(
        target: str, body: models.RevokeOperator, by: Caller
    ) -> Deferred[models.RevokedOperator]:
        """End an operator and the programs they answer for, with certificates, sessions, links,
        streams and pending approvals."""


class IApprovalControl(Interface):
    """What waits for an operator: pairing requests and calls."""

    def approvals(
        state: str | None, kind: str | None, limit: int, cursor: str | None, by: Caller
    ) -> Deferred[models.ApprovalList]:
        """Approvals, newest first."""

    def approval(target: str, by: Caller) -> Deferred[models.ApprovalAnswer]:
        """One approval, by its id or the beginning of its random part."""

    def decide(
        target: str, body: models.ApprovalDecision, by: Caller
    ) -> Deferred[models.ApprovalAnswer]:
        """Say yes or no."""


@attrs.frozen
class AuditFilter:
    """Which audit rows to list; an empty text does not filter.

    ``after_seq`` begins behind a row, oldest first; None lists the newest first.
    """

    who: str = ""
    action: str = ""
    subject: str = ""
    chain_id: str = ""
    after_seq: int | None = None


class IAuditControl(Interface):
    """The audit log."""

    def rows(which: AuditFilter, limit: int, cursor: str | None) -> Deferred[models.AuditList]:
        """Rows of the chain."""

    def heads(limit: int, cursor: str | None) -> Deferred[models.AuditHeads]:
        """Signed heads, newest first."""

    def verify() -> Deferred[models.AuditVerification]:
        """Look through the whole chain that is kept."""


class IControl(Interface):
    """Operations, each a Deferred of an answer's body; failing with PalyraError.

    ``target`` is a device id, a name, or at least four characters of an id's random part;
    ``by`` is who asks.
    """

    def nodes(
        limit: int, cursor: str | None, where: str, search: str = "", trust: str = ""
    ) -> Deferred[models.NodeList]:
        """The inventory, those online first; an empty text does not filter.

        ``where`` is a targeting expression, which only trusted devices match unless ``trust`` is
        ``revoked``; each word of ``search`` is a part of the name or of a label ``key=value``, or
        an id or the beginning of its random part.
        """

    def node(target: str) -> Deferred[models.NodeAnswer]:
        """One device."""

    def capabilities(
        limit: int, cursor: str | None, name: str = "", digest: str = ""
    ) -> Deferred[models.CapabilityCatalogue]:
        """The capabilities whose descriptors the gateway knows, by name; those of one name, or the
        one of a digest."""

    def journal(target: str, limit: int, cursor: str | None) -> Deferred[models.JournalList]:
        """What happened to a device, newest first."""

    def pairing_history(
        target: str, limit: int, cursor: str | None
    ) -> Deferred[models.PairingHistory]:
        """Every pairing request of a device that is kept, newest first."""

    def invoke(target: str, body: models.Invoke, by: Caller) -> Deferred[models.InvokeAnswer]:
        """Run a capability and wait for it as long as the body says."""

    def revoke(target: str, body: models.Revoke, by: Caller) -> Deferred[models.RevokeAnswer]:
        """Take a device's trust away."""

    def grant(target: str, body: models.GrantNode, by: Caller) -> Deferred[models.NodeAnswer]:
        """Grant capabilities to a device, or withhold them."""

    def rotate(body: models.Rotate, by: Caller) -> Deferred[models.RotateAnswer]:
        """Order a new certificate from some devices; fires when the order is on record."""

    def remove(target: str, body: models.Remove, by: Caller) -> Deferred[models.RemoveAnswer]:
        """Forget a device; one that was not revoked is revoked by it."""

    def clear(body: models.Remove, by: Caller) -> Deferred[models.ClearAnswer]:
        """Forget every device that is revoked."""

    def ca() -> Deferred[models.CaAnswer]:
        """The CAs of this gateway, and who is left in a rotation."""

    def rotate_ca(body: models.RotateCa, by: Caller) -> Deferred[models.CaAnswer]:
        """Begin to move all devices to a new CA."""

    def crl() -> Deferred[bytes]:
        """The signed certificate revocation lists, PEM: one of each CA."""

    def state() -> Deferred[models.StateAnswer]:
        """Whether devices are served."""

    def confirm_state(by: Caller) -> Deferred[models.StateAnswer]:
        """Confirm that what was revoked since a restored state is revoked here too: serve."""

    def label(target: str, body: models.LabelNode, by: Caller) -> Deferred[models.NodeAnswer]:
        """Change a device's name and labels."""

    def pairing_requests(
        state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        """Pairing requests, active codes and sources with failed tries."""

    def pairing_request(target: str) -> Deferred[models.PairingAnswer]:
        """One pairing request."""

    def mint(body: models.MintCode, by: Caller) -> Deferred[models.MintedCode]:
        """A new pairing code."""

    def withdraw_code(target: str, by: Caller) -> Deferred[models.WithdrawnCode]:
        """Take a pairing code back, by its id or the beginning of its random part."""

    def decide(
        target: str, approved: bool, body: models.Decision, by: Caller
    ) -> Deferred[models.PairingAnswer]:
        """Approve or reject a pairing request."""

    def jobs(which: JobFilter, limit: int, cursor: str | None) -> Deferred[models.JobList]:
        """Jobs, newest first."""

    def submit(body: models.SubmitJobs, by: Caller) -> Deferred[models.FanoutAnswer]:
        """Accept a fan-out: fires when it is committed, with a row for every target."""

    def fanout(target: str, limit: int, cursor: str | None) -> Deferred[models.FanoutAnswer]:
        """A fan-out with a page of its rows."""

    def cancel_job(target: str, body: models.CancelJob, by: Caller) -> Deferred[models.JobAnswer]:
        """Ask for the end of a job; the answer says whether it is cancelled, or only asked to."""

    def cancel_fanout(
        target: str, body: models.CancelJob, by: Caller
    ) -> Deferred[models.FanoutAnswer]:
        """Ask for the end of every row that has not ended."""

    def purge(body: models.PurgeJobs, by: Caller) -> Deferred[models.PurgeAnswer]:
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
