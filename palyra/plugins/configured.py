"""Settings as the device's owner wrote them: checked against the plugin's schema, secrets read.

A secret (``"x-palyra-secret": true`` in the schema) stands in a file of its own, which only the
owner may read; in the configuration it is ``{ file = "/absolute/path" }``, or ``{ credential =
"NAME" }`` where a service manager hands it to this process.  No value is ever shown, for any of
them may be one that should have been a secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from palyra.capability.settings import SECRET_MARK
from palyra.core.descriptors import Descriptor, Schema
from palyra.core.schemas import Checker
from palyra.errors import SettingsInvalid

MAX_SECRET_BYTES = 64 * 1024
MAX_BYTES = 48 * 1024
"""Of all settings of a capability, as JSON; they travel beside the input of every run."""
_ROOT = "settings"
_REF = "#/$defs/"
_FORM = 'is a secret; it is written as { file = "/absolute/path" } or { credential = "NAME" }'
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
"""A pipe without a writer must not hold up the node host."""
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z", re.ASCII)
_NAME_FORM = "a credential has 1 to 64 letters, digits, points, dashes and underscores as its name"
_NOT_HANDED = (
    "its credential was not handed to this process by a service manager"
    " (palyra node install --credential NAME=FILE)"
)
_UNREADABLE = "its file cannot be read"
_GOT = re.compile(r" \(got .*", re.DOTALL)
"""The value, at the end of a sentence about it."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Refused(Exception):
    """Something is wrong with the value at ``field``."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem


def settings_of(descriptor: Descriptor, written: Mapping[str, Any]) -> bytes:
    """The JSON that a handler is given; empty where the capability takes no settings.

    ``written`` is as TOML has it.  Reads the files of secrets.

    :raises SettingsInvalid: it is not what the plugin's schema says.
    """
    name, schema = descriptor.name, descriptor.settings_schema
    if schema is None:
        if written:
            raise SettingsInvalid(name, _ROOT, "it takes none")
        return b""
    try:
        encoded = _encoded(_Reader(schema).read(dict(written)))
    except _Refused as refused:
        raise SettingsInvalid(name, refused.field, refused.problem) from None
    for fault in Checker(schema).faults(msgspec.json.decode(encoded), _ROOT):
        raise SettingsInvalid(name, fault.field, _GOT.sub("", fault.problem))
    return encoded


def _encoded(value: Any) -> bytes:
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise _Refused(_ROOT, "there is a value that JSON cannot say") from None
    if len(encoded) > MAX_BYTES:
        raise _Refused(_ROOT, f"are longer than {MAX_BYTES // 1024} KiB, with their secrets")
    return encoded


class _Reader:
    """Puts the text of a file where the schema says that there is a secret."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def read(self, written: dict[str, Any]) -> Any:
        """``written``, with its secrets."""
        return self._value(written, [self._schema], _ROOT)

    def _value(self, value: Any, schemas: Sequence[Any], field: str) -> Any:
        said = [each for schema in schemas for each in self._meant(schema)]
        if any(each.get(SECRET_MARK) is True for each in said):
            return _secret(value, field)
        if isinstance(value, dict):
            return {
                key: self._value(each, _of_key(said, key), f"{field}.{key}")
                for key, each in value.items()
            }
        if isinstance(value, list):
            items = [each["items"] for each in said if "items" in each]
            return [
                self._value(each, [*items, *_of_place(said, place)], f"{field}[{place}]")
                for place, each in enumerate(value)
            ]
        return value

    def _meant(self, schema: Any) -> Iterator[dict[str, Any]]:
        """Every schema that may be what is said of a value; the profile knows no circles."""
        if not isinstance(schema, dict):
            return
        yield schema
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith(_REF):
            yield from self._meant(self._schema["$defs"][reference.removeprefix(_REF)])
        for keyword in ("anyOf", "oneOf", "allOf"):
            for each in schema.get(keyword, ()):
                yield from self._meant(each)


def _of_key(said: Sequence[dict[str, Any]], key: str) -> list[Any]:
    found = []
    for schema in said:
        properties = schema.get("properties", {})
        found.append(properties[key] if key in properties else schema.get("additionalProperties"))
    return found


def _of_place(said: Sequence[dict[str, Any]], place: int) -> list[Any]:
    prefixes = (schema.get("prefixItems", ()) for schema in said)
    return [prefix[place] for prefix in prefixes if place < len(prefix)]


# -- secrets ------------------------------------------------------------------------------------


def _secret(value: Any, field: str) -> str:
    """The text of the file that stands for a secret.

    :raises _Refused: it is not written so, or somebody else may read or change that file.
    """
    written = tuple(value.items()) if isinstance(value, dict) and len(value) == 1 else ()
    match written:
        case (("file", str(path)),) if os.path.isabs(path) and "\0" not in path:
            data = _of_file(path, field)
        case (("credential", str(name)),):
            data = _of_credential(name, field)
        case _:
            raise _Refused(field, _FORM)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _Refused(field, "its file is no UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _of_file(path: str, field: str) -> bytes:
    try:
        return _read(os.open(path, _FLAGS), _check_owner, field)
    except FileNotFoundError:
        raise _Refused(field, "its file does not exist") from None
    except OSError:
        raise _Refused(field, _UNREADABLE) from None


def _of_credential(name: str, field: str) -> bytes:
    """A file of the directory that systemd made for this service, and of no other: neither a name
    nor a link leads out of it."""
    if not _CREDENTIAL.match(name) or name in (".", ".."):
        raise _Refused(field, _NAME_FORM)
    handed = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not os.path.isabs(handed):
        raise _Refused(field, _NOT_HANDED)
    try:
        directory = os.open(handed, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            flags = _FLAGS | getattr(os, "O_NOFOLLOW", 0)
            return _read(os.open(name, flags, dir_fd=directory), _check_credential, field)
        finally:
            os.close(directory)
    except FileNotFoundError:
        raise _Refused(field, _NOT_HANDED) from None
    except OSError:
        raise _Refused(field, _UNREADABLE) from None


def _read(descriptor: int, refuse: Callable[[os.stat_result, str], None], field: str) -> bytes:
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _Refused(field, "its file is no file")
        if os.name == "posix":
            refuse(facts, field)
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise _Refused(field, f"its file is longer than {MAX_SECRET_BYTES // 1024} KiB")
    return data


def _check_owner(facts: os.stat_result, field: str) -> None:
    if facts.st_uid != os.geteuid():
        raise _Refused(field, "its file belongs to another user")
    _check_mode(facts, field, stat.S_IRWXG | stat.S_IRWXO)


def _check_credential(facts: os.stat_result, field: str) -> None:
    """It may be root's, with an access list for this user; the mode then shows the list's mask as
    the rights of the group (0440)."""
    if facts.st_uid not in (0, os.geteuid()):
        raise _Refused(field, "its file belongs to another user")
    _check_mode(facts, field, stat.S_IWGRP | stat.S_IRWXO)


def _check_mode(facts: os.stat_result, field: str, forbidden: int) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if mode & forbidden:
        raise _Refused(field, f"its file may be read by others (mode {mode:04o})")
