"""Settings of a capability: typed, and never shown where they do not fit."""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec
import pytest

from palyra.capability import Capability, CapabilityContext, Secret
from palyra.capability.settings import SECRET_MARK
from palyra.errors import DescriptorInvalid, SettingsInvalid


class Colour(enum.Enum):
    RED = "red"


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    token: Secret
    colour: Colour = Colour.RED
    paper: Literal["a4"] = "a4"
    copies: int = 1
    backup: Secret | None = None

    def __post_init__(self) -> None:
        if self.copies > 9:
            raise ValueError(f"{self.token} may not print so much")


async def handle(value: Any, context: CapabilityContext) -> None: ...


def capability(settings_type: Any) -> Capability:
    return Capability(
        name="acme.print", description="Prints.", handler=handle, settings_type=settings_type
    )


def test_they_are_decoded() -> None:
    """A handler gets the plugin's own type, with its defaults."""
    assert capability(Settings).decode_settings(b'{"token":"t","copies":2}') == Settings(
        "t", copies=2
    )


@pytest.mark.parametrize("nothing", [b"", b"null", b" null "])
def test_nothing_configured_is_all_defaults(nothing: bytes) -> None:
    """An owner who configured nothing has what the plugin has for that."""

    class Easy(msgspec.Struct, forbid_unknown_fields=True):
        copies: int = 1

    assert capability(Easy).decode_settings(nothing) == Easy()
    with pytest.raises(SettingsInvalid, match="token: is required"):
        capability(Settings).decode_settings(nothing)


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b'{"token":"s3cret","colour":"s3cret"}', "colour", "invalid enum value"),
        (b'{"token":"s3cret","paper":"s3cret"}', "paper", "invalid enum value"),
        (b'{"token":"s3cret","copies":"s3cret"}', "copies", "expected int, got str"),
        (b'{"token":"s3cret","extra":"s3cret"}', "extra", "is not a known field"),
        (b'{"token":"s3cret","copies":10}', "settings", "is refused by the plugin"),
        (b'{"token":"s3cret"', "settings", "is not JSON (Input data was truncated)"),
        (b'["s3cret"]', "settings", "expected object, got array"),
        (b'{"token":"\xff"}', "settings", "is not JSON"),
    ],
)
def test_what_does_not_fit_is_named_and_not_shown(raw: bytes, field: str, problem: str) -> None:
    """The error has the field and what is wrong with it, and no value, also not as a cause."""
    with pytest.raises(SettingsInvalid) as refused:
        capability(Settings).decode_settings(raw)
    error = refused.value
    assert error.capability == "acme.print"
    assert error.field == field
    assert error.problem.startswith(problem)
    assert "s3cret" not in repr(error) + str(error)
    assert error.__cause__ is None


def test_a_secret_is_marked_in_the_schema() -> None:
    """The host, which reads it from a file, and whoever shows the form, can tell it."""
    schema = capability(Settings).descriptor("acme", "1").settings_schema
    assert schema is not None
    fields = schema["$defs"]["Settings"]["properties"]
    assert fields["token"][SECRET_MARK] is True
    assert [name for name in fields if SECRET_MARK in str(fields[name])] == ["token", "backup"]


@pytest.mark.parametrize("other", [int, dict[str, str], Settings("t")])
def test_settings_are_a_struct(other: Any) -> None:
    """Nothing else has fields that an owner could name."""
    with pytest.raises(DescriptorInvalid, match=r"settings_type.*must be a msgspec\.Struct"):
        capability(other)


def test_a_struct_that_takes_anything_is_refused() -> None:
    """A mistyped setting is told to the owner, not ignored."""

    class Open(msgspec.Struct):
        copies: int = 1

    with pytest.raises(DescriptorInvalid, match="forbid_unknown_fields"):
        capability(Open)
