"""A capability as its plugin builds it: handler, types, and what is said of it."""

from __future__ import annotations

import copy
import enum
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from palyra.capability.closing import (
    closed_schema,
    needs_closing,
    open_struct,
    unknown_field,
)
from palyra.capability.context import CapabilityContext
from palyra.capability.settings import decode_settings
from palyra.capability.wording import has_unshown, located, one_line
from palyra.core.descriptors import (
    MAX_BYTES,
    MAX_CONCURRENCY,
    MAX_DESCRIPTION,
    MAX_NAME,
    Descriptor,
)
from palyra.errors import DescriptorInvalid, InputInvalid, OutputInvalid, PayloadTooLarge

if TYPE_CHECKING:
    import pluggy

API = 1
"""The major version of the plugin interface; a host refuses a descriptor of another one."""

MAX_VERSION = 64
MAX_TIMEOUT_S = 24 * 3600.0
_ROOM_FOR_NAMES = 512
"""Bytes for the distribution and its version, which a plugin does not say itself."""
OWNER = "palyra"
"""The only distribution that may use a reserved name."""

_NAME = re.compile(r"(?:echo|[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+)\Z", re.ASCII)
_RESERVED = ("system.", "desktop.")
_BAD_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BAD_VALUE = (TypeError, ValueError, OverflowError, RecursionError)

Handler = Callable[[Any, CapabilityContext], Awaitable[Any]]
"""``async def handler(input, context)``: the decoded input in, a value of the output type out."""


class Risk(enum.Enum):
    """What a wrong call could cost; the gateway's floor may raise it, nothing lowers it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def is_name(name: str) -> bool:
    """Whether a capability may be called so."""
    return len(name) <= MAX_NAME and _NAME.match(name) is not None


def is_reserved(name: str) -> bool:
    """Whether only the distribution ``palyra`` may offer this name."""
    return name == "echo" or name.startswith(_RESERVED)


@attrs.frozen(slots=True, kw_only=True, eq=False)
class Capability:
    """One named function of a node.  Built by a plugin, checked here, :class:`DescriptorInvalid`.

    ``input_type`` and ``output_type`` are types msgspec can decode: structs, dataclasses, plain
    types.  A struct in the input must refuse unknown fields (``forbid_unknown_fields=True``); for
    dataclasses they are refused here.  ``timeout_s`` is the
    run time in seconds when the caller names none, ``max_concurrency`` the most runs at once on
    one node.  An empty ``version`` is the distribution's.  ``settings_type`` is a struct of what
    the device's owner may configure; the handler finds one in ``context.settings``.  ``hooks``,
    set by whoever loads the plugin, has its hooks around a run.
    """

    name: str
    description: str
    handler: Handler
    input_type: Any = Any
    output_type: Any = Any
    settings_type: Any = None
    risk: Risk = Risk.MEDIUM
    needs_mediation: bool = False
    idempotent: bool = False
    timeout_s: float = 30.0
    max_concurrency: int = 4
    version: str = ""
    api: int = API
    hooks: pluggy.HookRelay | None = attrs.field(init=False, default=None, repr=False)
    _decoder: msgspec.json.Decoder[Any] = attrs.field(init=False, repr=False)
    _checker: msgspec.json.Decoder[Any] = attrs.field(init=False, repr=False)
    _closes: bool = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _check_words(self)
        _check_numbers(self)
        _check_handler(self.handler)
        _check_schema("input_type", self.input_type, closed=True)
        _check_schema("output_type", self.output_type, closed=False)
        _check_settings(self.settings_type)
        _check_size(self)
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.input_type))
        object.__setattr__(self, "_closes", needs_closing(self.input_type))
        # a msgspec.Raw in an output of any type may hold anything: see that all of it is JSON
        checked = msgspec.Raw if self.output_type is Any else self.output_type
        object.__setattr__(self, "_checker", msgspec.json.Decoder(checked))

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of the input."""
        return closed_schema(self.input_type)

    def output_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of the output."""
        return msgspec.json.schema(self.output_type)

    def decode_input(self, raw: bytes) -> Any:
        """The typed input.  No bytes at all count as ``{}``.  Raises :class:`InputInvalid`."""
        raw = raw or b"{}"
        try:
            value = self._decoder.decode(raw)
            unknown = unknown_field("input", raw, value) if self._closes else ""
        except _BAD_JSON as exc:
            field, problem = located("input", exc)
            raise InputInvalid(field, problem, self.name) from exc
        if unknown:
            raise InputInvalid(one_line(unknown, 120), "is not a known field", self.name)
        return value

    def decode_settings(self, raw: bytes) -> Any:
        """The typed settings; no bytes at all, and ``null``, count as ``{}``.

        :raises SettingsInvalid: they do not fit; it never shows a value.
        """
        return decode_settings(self.settings_type, raw, self.name)

    def hooked(self, hooks: pluggy.HookRelay) -> Capability:
        """The same, with the hooks of its plugin around each run."""
        same = copy.copy(self)
        object.__setattr__(same, "hooks", hooks)
        return same

    def encode_output(self, value: Any, max_bytes: int) -> bytes:
        """``value`` as JSON.  Raises :class:`OutputInvalid` where it does not fit the output type,
        :class:`PayloadTooLarge` above ``max_bytes``."""
        try:
            raw = msgspec.json.encode(value)
        except _BAD_VALUE as exc:
            raise OutputInvalid(self.name, "output", one_line(str(exc))) from exc
        if len(raw) > max_bytes:
            raise PayloadTooLarge("output", len(raw), max_bytes)
        self._check_output(raw)
        return raw

    def _check_output(self, raw: bytes) -> None:
        try:
            self._checker.decode(raw)
        except _BAD_JSON as exc:
            field, problem = located("output", exc)
            raise OutputInvalid(self.name, field, problem) from exc

    def descriptor(self, distribution: str = "", version: str = "") -> Descriptor:
        """All of it but the handler; ``distribution`` and its ``version`` are what brings it."""
        settings = self.settings_type
        return Descriptor(
            api=self.api,
            name=self.name,
            version=self.version or version[:MAX_VERSION],
            distribution=distribution,
            description=self.description,
            risk=self.risk.value,
            needs_mediation=self.needs_mediation,
            idempotent=self.idempotent,
            timeout_ms=max(1, round(self.timeout_s * 1000)),
            max_concurrency=self.max_concurrency,
            input_schema=self.input_schema(),
            output_schema=self.output_schema(),
            settings_schema=None if settings is None else msgspec.json.schema(settings),
        )


def _check_words(capability: Capability) -> None:
    name = capability.name
    if not isinstance(name, str) or not is_name(name):
        raise DescriptorInvalid(
            "name",
            f"must be lower-case words joined by dots, as vendor.verb_noun, of {MAX_NAME} "
            f"characters at most (got {one_line(repr(name), 80)})",
        )
    for field, limit in (("description", MAX_DESCRIPTION), ("version", MAX_VERSION)):
        text = getattr(capability, field)
        optional = field == "version"  # an empty one stands for the distribution's
        if not isinstance(text, str) or not (text.strip() or optional):
            raise DescriptorInvalid(f"{name}.{field}", "must be a text and not empty")
        if len(text) > limit or has_unshown(text):
            raise DescriptorInvalid(
                f"{name}.{field}", f"must be one line of {limit} printable characters at most"
            )


def _check_numbers(capability: Capability) -> None:
    where = capability.name
    if not isinstance(capability.risk, Risk):
        raise DescriptorInvalid(f"{where}.risk", "must be Risk.LOW, Risk.MEDIUM or Risk.HIGH")
    for field in ("needs_mediation", "idempotent"):
        if not isinstance(getattr(capability, field), bool):
            raise DescriptorInvalid(f"{where}.{field}", "must be True or False")
    if not _is_number(capability.timeout_s) or not 0 < capability.timeout_s <= MAX_TIMEOUT_S:
        raise DescriptorInvalid(f"{where}.timeout_s", "must be above 0 s and at most 24 h")
    most = capability.max_concurrency
    if type(most) is not int or not 1 <= most <= MAX_CONCURRENCY:
        raise DescriptorInvalid(f"{where}.max_concurrency", f"must be 1 to {MAX_CONCURRENCY}")
    if type(capability.api) is not int:
        raise DescriptorInvalid(f"{where}.api", "must be a whole number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_handler(handler: object) -> None:
    called = handler if inspect.isroutine(handler) else getattr(handler, "__call__", None)  # noqa: B004
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)):
        raise DescriptorInvalid("handler", "must be an async def function")
    try:
        inspect.signature(handler).bind(None, None)  # type: ignore[arg-type]
    except TypeError as exc:
        raise DescriptorInvalid("handler", "must take the input and the context") from exc


def _check_schema(field: str, type_: Any, *, closed: bool) -> None:
    try:
        msgspec.json.schema(type_)
        msgspec.json.Decoder(type_)
    except (TypeError, ValueError) as exc:
        said = str(exc).strip().splitlines() or [type(exc).__name__]  # msgspec names the type last
        raise DescriptorInvalid(field, f"has no JSON form: {one_line(said[-1])}") from exc
    if closed and (name := open_struct(type_)):
        raise DescriptorInvalid(
            field, f"{name} must refuse unknown fields (forbid_unknown_fields=True)"
        )


def _check_settings(type_: Any) -> None:
    if type_ is None:
        return
    if not (isinstance(type_, type) and issubclass(type_, msgspec.Struct)):
        raise DescriptorInvalid("settings_type", "must be a msgspec.Struct")
    _check_schema("settings_type", type_, closed=True)


def _check_size(capability: Capability) -> None:
    if len(capability.descriptor().encode()) > MAX_BYTES - _ROOM_FOR_NAMES:
        problem = f"has a descriptor above {MAX_BYTES // 1024} KiB; its schemas are too large"
        raise DescriptorInvalid(capability.name, problem)
