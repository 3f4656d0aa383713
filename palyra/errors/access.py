"""Who may ask the console for what."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class SignInRequired(PalyraError):
    """Nobody is signed in, or not any more; a wrong credential is not told from none."""

    code = "sign_in_required"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "Nobody is signed in here, or not any more."

    @property
    def hint(self) -> str:
        return "on the gateway: palyra console login"


@attrs.define
class RoleDenied(PalyraError):
    """The operator's role does not include what the route asks for."""

    code = "role_denied"
    category = Category.FORBIDDEN
    role: str
    right: str

    @property
    def sentence(self) -> str:
        return f"The role {self.role} may not {_ACTS.get(self.right, self.right)}."

    @property
    def hint(self) -> str:
        return "an admin changes roles: palyra operators role NAME ROLE"


_ACTS = {
    "read": "see this",
    "submit": "submit or cancel jobs",
    "decide": "decide pairing requests and approvals",
    "administer": "administer the gateway",
}


@attrs.define
class NotYourJob(PalyraError):
    """An operator may cancel the jobs they submitted; others take an admin."""

    code = "not_your_job"
    category = Category.FORBIDDEN
    job: str
    by: str

    @property
    def sentence(self) -> str:
        return f"Job {self.job} was submitted by {self.by or 'somebody else'}."

    @property
    def hint(self) -> str:
        return "an admin may cancel it"


@attrs.define
class OperatorCertificateRefused(PalyraError):
    """A client certificate that is no operator's, or not any more; ``reason`` is stable."""

    code = "operator_certificate_refused"
    category = Category.UNAUTHENTICATED
    reason: str

    @property
    def sentence(self) -> str:
        return f"This operator certificate is refused: {self.reason.replace('_', ' ')}."

    @property
    def hint(self) -> str:
        return "an admin invites again: palyra operators invite NAME"


@attrs.define
class WrongHost(PalyraError):
    """A request for a name that the console is not reached by (RFC 9110 section 15.5.20).

    A page of another site could otherwise reach it under a name that it points here.
    """

    code = "wrong_host"
    category = Category.INVALID

    @property
    def sentence(self) -> str:
        return "The console is not reached under this name or port."

    @property
    def hint(self) -> str:
        return "use a configured name; on the gateway: palyra console login"


@attrs.define
class RequestsLimited(PalyraError):
    """More requests came from one source than the console takes."""

    code = "requests_limited"
    category = Category.EXHAUSTED
    retryable = True
    retry_after_s: float

    @property
    def sentence(self) -> str:
        return "Too many requests came from this address."

    @property
    def hint(self) -> str:
        return f"try again in {max(1, round(self.retry_after_s))} s"


@attrs.define
class ConsoleCertificateUnusable(PalyraError):
    """The certificate that an operator gave the console cannot be shown."""

    code = "console_certificate_unusable"
    category = Category.PRECONDITION
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"The console cannot show the certificate in {self.path}: {self.problem}."

    @property
    def hint(self) -> str:
        return "correct console.certificate and console.private_key in palyra.toml"


@attrs.define
class TwoCredentials(PalyraError):
    """A request with a certificate and a session's cookie does not say whose it is."""

    code = "two_credentials"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "The request has a client certificate and a session cookie; it may have only one."

    @property
    def hint(self) -> str:
        return "in a browser choose no certificate for the console"


@attrs.define
class OriginRefused(PalyraError):
    """Another site asks, in the name of somebody whose browser sends their credential along."""

    code = "origin_refused"
    category = Category.FORBIDDEN

    @property
    def sentence(self) -> str:
        return "The request comes from another site than the console's own page."

    @property
    def hint(self) -> str:
        return "open the console under the address that palyra console login prints"


@attrs.define
class CsrfRefused(PalyraError):
    """A cookie without the token that signing in gave, or with another one."""

    code = "csrf_refused"
    category = Category.FORBIDDEN

    @property
    def sentence(self) -> str:
        return "The request does not carry the token of its browser session."

    @property
    def hint(self) -> str:
        return "sign in again: palyra console login"


@attrs.define
class MediaTypeRefused(PalyraError):
    """A body that does not say that it is JSON; a form of another site could not say it."""

    code = "media_type_refused"
    category = Category.INVALID

    @property
    def sentence(self) -> str:
        return "A request that changes something must be of type application/json."

    @property
    def hint(self) -> str:
        return "send content-type: application/json"


@attrs.define
class BrowserRefused(PalyraError):
    """What would outlive a browser session is not given to one."""

    code = "browser_refused"
    category = Category.FORBIDDEN
    what: str

    @property
    def sentence(self) -> str:
        return f"A browser session makes no {self.what}."

    @property
    def hint(self) -> str:
        return "use the palyra command"


@attrs.define
class LoginLinkExpired(PalyraError):
    """A sign-in link that was used, has expired, or never was."""

    code = "login_link_expired"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "That sign-in link was used or has expired."

    @property
    def hint(self) -> str:
        return "palyra console login"


@attrs.define
class SignInLimited(PalyraError):
    """Too many failed sign-ins from one source."""

    code = "sign_in_limited"
    category = Category.EXHAUSTED
    retryable = True
    retry_after_s: float

    @property
    def sentence(self) -> str:
        wait_s = max(1, round(self.retry_after_s))
        return f"Too many failed sign-ins from this address; try again in {wait_s}s."

    @property
    def hint(self) -> str:
        return "wait, then: palyra console login"


@attrs.define
class InvitationInvalid(PalyraError):
    """An invitation that was used, withdrawn, has expired, or never was; never which."""

    code = "invitation_invalid"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "That invitation is wrong, expired or used up."

    @property
    def hint(self) -> str:
        return "an admin invites again: palyra operators invite NAME"


@attrs.define
class InvitationCaMismatch(PalyraError):
    """The gateway that answers is not the one that the invitation names."""

    code = "ca_mismatch"
    category = Category.UNAUTHENTICATED

    @property
    def sentence(self) -> str:
        return "This gateway's CA is not the one in the invitation; nothing was sent."

    @property
    def hint(self) -> str:
        return "an admin invites again: palyra operators invite NAME"


@attrs.define
class OperatorNameTaken(PalyraError):
    """An active operator, or an account of the gateway's machine, has that name."""

    code = "operator_name_taken"
    category = Category.CONFLICT
    name: str

    @property
    def sentence(self) -> str:
        return f"Another operator is called {self.name}; nothing was changed."

    @property
    def hint(self) -> str:
        return "palyra operators list"


@attrs.define
class OperatorRevoked(PalyraError):
    """The operator was revoked, which cannot be taken back."""

    code = "operator_revoked"
    category = Category.CONFLICT
    name: str

    @property
    def sentence(self) -> str:
        return f"Operator {self.name} was revoked."

    @property
    def hint(self) -> str:
        return f"invite them again: palyra operators invite {self.name}"


@attrs.define
class ConsoleNotServed(PalyraError):
    """The console is on console.sock only: there is no page to sign in to, no way from afar."""

    code = "console_not_served"
    category = Category.PRECONDITION

    @property
    def sentence(self) -> str:
        return "This gateway serves its console on console.sock only."

    @property
    def hint(self) -> str:
        return "set [console] endpoint in palyra.toml and restart the gateway"


@attrs.define
class NameNotInCertificate(PalyraError):
    """The console's certificate does not carry the name it was asked under; ``names`` it does."""

    code = "name_not_in_certificate"
    category = Category.PRECONDITION
    wanted: str
    names: tuple[str, ...]

    @property
    def sentence(self) -> str:
        names = ", ".join(self.names) or "no name"
        return (
            f"The console's certificate is for {names}; not for {self.wanted}. "
            "Devices are not affected."
        )

    @property
    def hint(self) -> str:
        return f"add {self.wanted} to the configured names, restart; check: palyra doctor"


@attrs.define
class ContextUnknown(PalyraError):
    """No gateway from afar is known under that name or address on this machine."""

    code = "context_unknown"
    category = Category.NOT_FOUND
    wanted: str

    @property
    def sentence(self) -> str:
        return f"No context is called {self.wanted}."

    @property
    def hint(self) -> str:
        return "palyra context list"


@attrs.define
class ContextUnusable(PalyraError):
    """What is kept of a gateway from afar cannot be used."""

    code = "context_unusable"
    category = Category.PRECONDITION
    name: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"Context {self.name} cannot be used: {self.problem}."

    @property
    def hint(self) -> str:
        return "get a new invitation: palyra operators accept -"
