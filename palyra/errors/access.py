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
