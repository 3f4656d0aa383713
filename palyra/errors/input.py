"""What came from outside and does not fit: fields, payloads, configuration."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import attrs

from palyra.errors.base import Category, PalyraError


@attrs.define
class Malformed(PalyraError):
    """A field from outside does not parse.  ``field`` is its path, ``problem`` what is wrong."""

    code = "malformed"
    category = Category.INVALID
    field: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.field}: {self.problem}."

    @property
    def hint(self) -> str:
        return "correct that field and send it again"


@attrs.define
class ExpressionInvalid(Malformed):
    """A targeting expression that does not parse.  ``column`` counts from 1.

    ``text`` is the expression; whoever shows the error may put a caret under the column.
    """

    code = "expression_invalid"
    exit_code = 2
    column: int
    text: str

    @property
    def sentence(self) -> str:
        return f"{self.field}, column {self.column}: {self.problem}."

    @property
    def hint(self) -> str:
        return "palyra nodes list --help"


@attrs.define
class OptionInvalid(Malformed):
    """An option of a command line is none of the words that it takes; ``problem`` lists them."""

    code = "option_invalid"
    exit_code = 2

    @property
    def hint(self) -> str:
        return f"give one of these, or leave {self.field} out"


@attrs.define
class MalformedIdentifier(Malformed):
    """Not a canonical ULID (26 upper-case Crockford characters)."""

    code = "malformed_id"


@attrs.define
class InputInvalid(Malformed):
    """The input of a capability is not JSON or does not fit the capability's type.

    ``faults`` are fields and what is wrong with each, where there are several; ``field`` and
    ``problem`` are the first of them.  ``device`` is the one that brings the capability, empty
    where it comes with every installation.
    """

    code = "input_invalid"
    capability: str = ""
    device: str = ""
    faults: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, faults: Sequence[tuple[str, str]], capability: str, device: str = ""
    ) -> InputInvalid:
        """The refusal for at least one fault."""
        field, problem = faults[0]
        return cls(field, problem, capability, device, tuple(faults))

    @property
    def each(self) -> tuple[tuple[str, str], ...]:
        """Every field that is wrong, and what is wrong with it."""
        return self.faults or ((self.field, self.problem),)

    @property
    def sentence(self) -> str:
        return "\n".join(f"{field}: {problem}." for field, problem in self.each)

    @property
    def hint(self) -> str:
        if self.device:
            return f"on {self.device}: palyra capability show {shlex.quote(self.capability)}"
        if self.capability:
            return f"palyra capability show {self.capability}"
        return "correct that field and send it again"


@attrs.define
class DescriptorInvalid(Malformed):
    """A capability plugin describes a capability in a way no host accepts; its author mends it."""

    code = "descriptor_invalid"

    @property
    def hint(self) -> str:
        return "mend the plugin, then restart the node host"


@attrs.define
class OutputInvalid(PalyraError):
    """A handler returned what its own output type does not allow, or what JSON cannot say."""

    code = "output_invalid"
    capability: str
    field: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.capability} answered wrongly: {self.field}: {self.problem}."

    @property
    def hint(self) -> str:
        return "report it to the author of the plugin"


@attrs.define
class CannotOpen(PalyraError):
    """The desktop of the device could not open a URL or a path; ``cause`` says why."""

    code = "cannot_open"
    category = Category.PRECONDITION
    what: str
    cause: str

    @property
    def sentence(self) -> str:
        return f"Cannot open {self.what}: {self.cause}."

    @property
    def hint(self) -> str:
        return "try it on the device, in the session of the person who sits there"


@attrs.define
class UriTooLong(PalyraError):
    """A request line that is longer than the console reads (RFC 9110 section 15.5.15)."""

    code = "uri_too_long"
    category = Category.TOO_LARGE
    limit: int

    @property
    def sentence(self) -> str:
        return f"The request's line is longer than {self.limit} bytes."

    @property
    def hint(self) -> str:
        return "say less in the query, or in several requests"


@attrs.define
class PayloadTooLarge(PalyraError):
    """A payload is above its limit.  ``size`` and ``limit`` are bytes."""

    code = "payload_too_large"
    category = Category.TOO_LARGE
    what: str
    size: int
    limit: int

    @property
    def sentence(self) -> str:
        return f"The {self.what} is {_kib(self.size)}; the limit is {_kib(self.limit)}."

    @property
    def hint(self) -> str:
        if self.what == "request":
            return "say less in one request"
        return f"add --max-payload-bytes {self.size} (at most 3 MiB)"


@attrs.define
class ConfigInvalid(PalyraError):
    """A value of palyra.toml is unknown, of the wrong type, or out of range."""

    code = "config_invalid"
    category = Category.INVALID
    file: str
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.file}: {self.path}: {self.problem}."

    @property
    def hint(self) -> str:
        return f"correct {self.path} in {self.file}; docs/configuration.md lists every value"


@attrs.define
class NamesRequired(PalyraError):
    """A listener is bound beyond loopback but the gateway has no name that devices could use."""

    code = "names_required"
    category = Category.PRECONDITION
    address: str

    @property
    def sentence(self) -> str:
        return (
            f"Binding {self.address} needs configured names: they go into the console's "
            "certificate and the pairing line."
        )

    @property
    def hint(self) -> str:
        return "add the name devices use to palyra.toml; check: palyra doctor"


@attrs.define
class InsecureCodeArgument(PalyraError):
    """A code or token was given where the shell history and the process list keep it.

    ``pin``: it was a PIN, ``invitation``: that of an operator, and not a pairing line; ``command``
    asks for it.
    """

    code = "insecure_code_argument"
    category = Category.INVALID
    exit_code = 2
    pin: bool = False
    invitation: bool = False
    command: str = "palyra node run"

    @property
    def sentence(self) -> str:
        what = "An invitation" if self.invitation else "A code"
        return f"{what} as an argument stays in the shell history."

    @property
    def hint(self) -> str:
        if self.invitation:
            return "palyra operators accept - (it asks), or @FILE"
        if self.pin:
            return f"{self.command} --gateway HOST (it asks), or --pairing-code-stdin"
        return f"{self.command} --pairing-uri - (it asks), or --allow-insecure-pairing-code-arg"


def _kib(size: int) -> str:
    """Bytes as people read them, 1024-based: ``71 KiB``, ``3 MiB``."""
    if size < 1024:
        return f"{size} bytes"
    if size < 1024 * 1024:
        return f"{-(-size // 1024)} KiB"
    return f"{size / (1024 * 1024):.1f}".rstrip("0").rstrip(".") + " MiB"


@attrs.define
class ProtocolMismatch(PalyraError):
    """A request of another protocol version than this gateway speaks."""

    code = "protocol_mismatch"
    category = Category.INVALID
    version: int

    @property
    def sentence(self) -> str:
        return f"Protocol version {self.version} is not spoken here; version 1 is."

    @property
    def hint(self) -> str:
        return "update the older side of the two"


@attrs.define
class UnsupportedMethod(PalyraError):
    """A request for a method that this gateway does not have."""

    code = "unsupported_method"
    category = Category.INVALID
    method: str

    @property
    def sentence(self) -> str:
        return f"There is no method {self.method[:64]!r} here."

    @property
    def hint(self) -> str:
        return "docs/protocol.md lists the methods"
