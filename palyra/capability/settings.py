"""Settings: what a device's owner configures for a capability, and secrets among them.

A plugin describes them by a struct and finds one, decoded, in ``context.settings``::

    class Settings(msgspec.Struct, forbid_unknown_fields=True):
        url: str
        token: Secret
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from palyra.capability.wording import located
from palyra.errors import SettingsInvalid

SECRET_MARK = "x-palyra-secret"
"""The member of a JSON Schema that tells a secret from other texts."""

Secret = Annotated[str, msgspec.Meta(extra_json_schema={SECRET_MARK: True})]
"""A text that the owner keeps in a file and names as ``{ file = "/absolute/path" }``, or has a
service manager hand over: ``{ credential = "NAME" }``.

The handler gets what is in the file; it never stands in a configuration or an environment.
"""

_SHOWN_VALUE = re.compile(r"(invalid (?:enum )?value) .*", re.DOTALL)


def decode_settings(type_: Any, raw: bytes, capability: str) -> Any:
    """The JSON ``raw`` as a ``type_``; no bytes at all, and ``null``, count as ``{}``.

    :raises SettingsInvalid: it does not fit.  No value is shown: it could be a secret.
    """
    given = raw if raw.strip() not in (b"", b"null") else b"{}"
    try:
        return msgspec.json.decode(given, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        field, problem = located("settings", exc)
        if exc.__cause__ is not None:
            problem = "is refused by the plugin"  # whose own words may quote the value
        problem = _SHOWN_VALUE.sub(r"\1", problem)
        raise SettingsInvalid(capability, field.removeprefix("settings."), problem) from None
