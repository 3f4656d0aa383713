"""Tests of :mod:`palyra.capability.closing`: dataclasses are as strict as structs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import attrs
import msgspec
import pytest

from palyra.capability import Capability
from palyra.capability.closing import closed_schema, needs_closing, open_struct
from palyra.core.schemas import Checker, check_profile
from palyra.errors import DescriptorInvalid, InputInvalid


@dataclass
class Page:
    number: int
    notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Print:
    title: str
    pages: list[Page] = field(default_factory=list)
    cover: Page | None = None


@attrs.define
class Copy:
    of: Print


class Typed(TypedDict, total=False):
    page: Page


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    page: Page


class Open(msgspec.Struct):
    text: str = ""


@dataclass
class Holder:
    held: Open


@dataclass
class Tree:
    leaves: list[Tree] = field(default_factory=list)


async def handler(value: Any, context: Any) -> None: ...


def capability(input_type: Any) -> Capability:
    return Capability(name="a.b", description="x", handler=handler, input_type=input_type)


@pytest.mark.parametrize(
    ("type_", "raw"),
    [
        (Print, b'{"title":"a","pages":[{"number":1,"notes":{"any":"key"}}],"cover":null}'),
        (Copy, b'{"of":{"title":"a"}}'),
        (Typed, b'{"page":{"number":1}}'),
        (Closed, b'{"page":{"number":1}}'),
        (list[Print], b'[{"title":"a","cover":{"number":1}}]'),
        (Tree, b'{"leaves":[{"leaves":[{}]}]}'),
    ],
)
def test_what_fits_is_taken(type_: Any, raw: bytes) -> None:
    """Known fields, keys of mappings and defaults pass, at the device and by the schema."""
    offered = capability(type_)
    assert offered.decode_input(raw) is not None
    if type_ is not Tree:  # a schema that refers to itself is none of the profile
        schema = offered.input_schema()
        check_profile(schema, "input_schema")
        assert Checker(schema).faults(msgspec.json.decode(raw)) == ()


@pytest.mark.parametrize(
    ("type_", "raw", "path"),
    [
        (Print, b'{"title":"a","sides":2}', "input.sides"),
        (Print, b'{"title":"a","pages":[{"number":1},{"number":2,"x":0}]}', "input.pages[1].x"),
        (Print, b'{"title":"a","cover":{"number":1,"y":0}}', "input.cover.y"),
        (Copy, b'{"of":{"title":"a"},"times":3}', "input.times"),
        (Typed, b'{"page":{"number":1},"z":1}', "input.z"),
        (Closed, b'{"page":{"number":1,"z":1}}', "input.page.z"),
        (Tree, b'{"leaves":[{"leaves":[{"bark":1}]}]}', "input.leaves[0].leaves[0].bark"),
    ],
)
def test_unknown_fields_are_refused_by_their_place(type_: Any, raw: bytes, path: str) -> None:
    """At the device, and by the schema that the gateway checks."""
    offered = capability(type_)
    with pytest.raises(InputInvalid) as refused:
        offered.decode_input(raw)
    assert (refused.value.field, refused.value.problem) == (path, "is not a known field")
    if type_ is not Tree:
        (fault,) = Checker(offered.input_schema()).faults(msgspec.json.decode(raw))
        assert fault.field == path


@pytest.mark.parametrize("type_", [Open, Holder, list[Open], dict[str, Open]])
def test_a_struct_must_say_so_itself(type_: Any) -> None:
    """Its author can mend it, so it is not mended silently."""
    assert open_struct(type_) == "Open"
    with pytest.raises(DescriptorInvalid, match="Open must refuse unknown fields"):
        capability(type_)


def test_structs_alone_cost_nothing() -> None:
    """Only where something cannot refuse by itself are inputs looked at twice."""
    assert needs_closing(Closed) and not needs_closing(int) and not needs_closing(Any)
    assert closed_schema(dict[str, int]) == msgspec.json.schema(dict[str, int])
