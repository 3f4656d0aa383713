"""Rules that say no, and approvals of calls."""

from __future__ import annotations

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class RuleDenies(PalyraError):
    """A rule says no.  ``rule`` names it as ``palyra.toml, rule 4``; ``where`` is its expression,
    empty where it has none."""

    code = "policy_denied"
    category = Category.FORBIDDEN
    who: str
    capability: str
    device: str
    rule: str
    where: str = ""

    @property
    def sentence(self) -> str:
        where = self.where or self.device
        return f"A rule denies {self.who} {self.capability} on {where} ({self.rule})."

    @property
    def hint(self) -> str:
        return "palyra audit tail"


@attrs.define
class RequesterGone(PalyraError):
    """Whoever asked for a job that waited may not ask for it any more."""

    code = "policy_denied"
    category = Category.FORBIDDEN
    who: str
    what: str

    @property
    def sentence(self) -> str:
        return f"{self.who} may not {self.what} any more."

    @property
    def hint(self) -> str:
        return "palyra audit tail"


@attrs.define
class ApprovalNeeded(PalyraError):
    """A call that was allowed when it was accepted would wait for approval now."""

    code = "approval_needed"
    category = Category.PRECONDITION
    capability: str
    device: str

    @property
    def sentence(self) -> str:
        return f"{self.capability} on {self.device} needs an approval by now; it was not sent."

    @property
    def hint(self) -> str:
        return "run it again: it will wait for approval"


@attrs.define
class ApprovalChanged(PalyraError):
    """What is decided is not what was seen: another digest was sent."""

    code = "approval_changed"
    category = Category.CONFLICT
    approval: str

    @property
    def sentence(self) -> str:
        return f"Approval {self.approval} is for another call than the one that was shown."

    @property
    def hint(self) -> str:
        return f"palyra approvals show {self.approval}"


@attrs.define
class CallDecided(PalyraError):
    """An approval of a call is decided once, or it has expired."""

    code = "approval_final"
    category = Category.CONFLICT
    approval: str
    state: str

    @property
    def sentence(self) -> str:
        return f"Approval {self.approval} is already {self.state}."

    @property
    def hint(self) -> str:
        return "palyra approvals list"


@attrs.define
class NotAnApprover(PalyraError):
    """The rule says who decides, and it is not who tries to."""

    code = "not_an_approver"
    category = Category.FORBIDDEN
    approval: str
    approvers: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return f"Approval {self.approval} is decided by {', '.join(self.approvers)}."

    @property
    def hint(self) -> str:
        return f"palyra approvals show {self.approval}"


@attrs.define
class FourEyes(PalyraError):
    """Another person than the one who asks must decide."""

    code = "four_eyes"
    category = Category.FORBIDDEN
    approval: str
    requested_by: str

    @property
    def sentence(self) -> str:
        return f"{self.requested_by} asks for it, so another person must decide."

    @property
    def hint(self) -> str:
        return f"somebody else: palyra approvals show {self.approval}"


@attrs.define
class ApprovalApart(PalyraError):
    """A row of a fan-out has other approvers than those asked with it; the two are what the rules
    say."""

    code = "approval_apart"
    category = Category.PRECONDITION
    this: str
    first: str

    @property
    def sentence(self) -> str:
        return f"Others decide here ({self.this}) than on the first device ({self.first})."

    @property
    def hint(self) -> str:
        return "run it apart on this device"


@attrs.define
class ApprovalVoid(PalyraError):
    """What was approved is not there any more: ``why`` says what has changed since."""

    code = "approval_void"
    category = Category.PRECONDITION
    why: str

    @property
    def sentence(self) -> str:
        return f"The approval is void: {self.why}; it was not sent."

    @property
    def hint(self) -> str:
        return "run it again: it will wait for another approval"


@attrs.define
class ApprovalExpired(PalyraError):
    """Nobody decided in time, or the device did not come in time after the yes."""

    code = "approval_expired"
    category = Category.DEADLINE
    minutes: str
    approved: bool

    @property
    def sentence(self) -> str:
        if self.approved:
            return f"It was approved, but not sent within {self.minutes}; the approval is over."
        return f"Nobody approved it within {self.minutes}; it was not sent."

    @property
    def hint(self) -> str:
        return "run it again: it will wait for another approval"


@attrs.define
class ApprovalRejected(PalyraError):
    """An operator said no."""

    code = "approval_rejected"
    category = Category.FORBIDDEN
    by: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.by} rejected it{': ' + self.reason if self.reason else ''}."

    @property
    def hint(self) -> str:
        return "palyra approvals list"
