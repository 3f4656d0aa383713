"""What is said over ``control.sock``: one JSON object on a line each way, one request a connection.

Both ends have it from here.  ``verb`` and ``answer`` tell what the rest of an object is.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

MAX_ASKED = 64 * 1024
"""Bytes of a request's line.  An answer may be longer: it can hold an argument whole."""
MAX_ANSWER = 32 * 1024 * 1024
PATIENCE_S = 10.0
"""For a request to arrive, and for its answer to be taken."""

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Length: TypeAlias = Literal["once", "session", "always"]
"""For how long a yes is."""
State: TypeAlias = Literal["starting", "online", "offline"]


class Verb(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb"):
    """A request."""


class Status(Verb, frozen=True, tag="status"):
    """How the node host is."""


class Requests(Verb, frozen=True, tag="requests"):
    """What a person is being asked; with an id that question alone, its argument whole."""

    id: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Remembered(Verb, frozen=True, tag="remembered"):
    """Which choices are remembered."""


class Allow(Verb, frozen=True, tag="allow"):
    """Say yes."""

    id: _Id
    choice: Length = "once"


class Deny(Verb, frozen=True, tag="deny"):
    """Say no."""

    id: _Id


class Forget(Verb, frozen=True, tag="forget"):
    """Forget a remembered choice."""

    id: _Id


class Reload(Verb, frozen=True, tag="reload"):
    """Read the owner's rules and configuration again, and find plugins again."""


class Stop(Verb, frozen=True, tag="stop"):
    """End the node host, as SIGTERM does."""


Asked: TypeAlias = Status | Requests | Remembered | Allow | Deny | Forget | Reload | Stop


class Said(msgspec.Struct, frozen=True, tag_field="answer"):
    """An answer."""


class CapabilityCount(msgspec.Struct, frozen=True):
    """How many can be run, and how many cannot."""

    count: int
    faults: int


class LastError(msgspec.Struct, frozen=True):
    """What last kept the node host from its gateway, or from its work.

    ``healed_at_unix_ms`` is 0 while it lasts.  ``where`` is the address that could not be reached,
    where that was it.
    """

    code: str
    sentence: str
    hint: str
    began_at_unix_ms: int
    healed_at_unix_ms: int = 0
    where: str = ""


class StatusAnswer(Said, frozen=True, tag="status"):
    """``transport`` and ``address`` are empty without a session; ``requests`` is how many
    questions are open; ``containment`` is by what a plugin's processes are kept together.

    ``last_heard_unix_ms`` is when the gateway last said anything, ``retry_at_unix_ms`` when it is
    tried next while there is no session, and ``cert_renews_at_unix_ms`` when the certificate is
    renewed; each is 0 where there is none.  ``faults`` are sentences.
    """

    state: State
    name: str
    device_id: str
    pid: int
    started_at_unix_ms: int
    transport: str
    address: str
    capabilities: CapabilityCount
    jobs: int
    requests: int
    containment: str = ""
    version: str = ""
    gateway_version: str = ""
    last_heard_unix_ms: int = 0
    retry_at_unix_ms: int = 0
    cert_expires_at_unix_ms: int = 0
    cert_renews_at_unix_ms: int = 0
    faults: list[str] = []
    last_error: LastError | None = None


class RequestItem(msgspec.Struct, frozen=True):
    """One open question.  ``argument`` may be the beginning of ``argument_length`` characters;
    ``opens`` is the URL or path that it means, ``scope`` what a longer yes would be for, and
    ``job_id`` what the gateway calls it."""

    request_id: str
    capability: str
    risk: str
    requested_by: str
    argument: str
    argument_length: int
    opens: str
    scope: str
    left_ms: int
    job_id: str = ""


class RequestsAnswer(Said, frozen=True, tag="requests"):
    """Oldest first."""

    requests: list[RequestItem]


class RememberedItem(msgspec.Struct, frozen=True):
    """One remembered yes; ``scope`` is as it was shown, ``argument`` may be a beginning."""

    choice_id: str
    choice: str
    capability: str
    scope: str
    argument: str
    decided_by: str
    decided_at_unix_ms: int


class RememberedAnswer(Said, frozen=True, tag="remembered"):
    """Oldest first."""

    choices: list[RememberedItem]


class DecidedAnswer(Said, frozen=True, tag="decided"):
    """A question was answered; ``scope`` is what a longer yes is for."""

    request_id: str
    capability: str
    choice: str
    decided_by: str
    scope: str = ""


class ForgottenAnswer(Said, frozen=True, tag="forgotten"):
    """A choice is remembered no more."""

    choice: RememberedItem


class ReloadedAnswer(Said, frozen=True, tag="reloaded"):
    """What is in force now; ``faults`` are sentences about what cannot be used, ``kept`` about
    what was refused, so that the old stays."""

    capabilities: int
    rules: int
    faults: list[str]
    kept: list[str]


class StoppingAnswer(Said, frozen=True, tag="stopping"):
    """It ends."""

    pid: int


class RefusedAnswer(Said, frozen=True, tag="refused"):
    """It was not done; the fields are those of every refusal."""

    error: str
    code: str
    category: str
    retryable: bool
    hint: str


Answered: TypeAlias = (
    StatusAnswer
    | RequestsAnswer
    | RememberedAnswer
    | DecidedAnswer
    | ForgottenAnswer
    | ReloadedAnswer
    | StoppingAnswer
    | RefusedAnswer
)
