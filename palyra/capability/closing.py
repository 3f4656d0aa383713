"""Inputs that refuse unknown fields, also where their type cannot: dataclasses and TypedDicts.

A struct of msgspec says itself that it forbids them.  The others have no way to say so: their
schema is closed here, and what their decoder passed over is found by comparing it with the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

_Closable = (types.DataclassType, types.TypedDictType)


def open_struct(type_: Any) -> str:
    """The name of the first struct in ``type_`` that lets unknown fields pass, or ''."""
    for found in _objects(types.type_info(type_), set()):
        if isinstance(found, types.StructType) and not found.forbid_unknown_fields:
            return found.cls.__name__
    return ""


def needs_closing(type_: Any) -> bool:
    """Whether there is an object in ``type_`` that cannot refuse unknown fields itself."""
    return any(isinstance(found, _Closable) for found in _objects(types.type_info(type_), set()))


def closed_schema(type_: Any) -> dict[str, Any]:
    """The JSON Schema of an input type; each object with named fields takes no other ones."""
    schema = msgspec.json.schema(type_)
    _close(schema)
    return schema


def unknown_field(root: str, raw: bytes, value: Any) -> str:
    """The path of a field in ``raw``, below ``root``, that is not in the value decoded from it, or
    ''."""
    given = msgspec.json.decode(raw)
    return _unknown(root, given, msgspec.to_builtins(value, str_keys=True))


def _objects(info: types.Type, seen: set[Any]) -> Iterator[types.Type]:
    """Every type in it that is an object with named fields, once."""
    if isinstance(info, (types.StructType, *_Closable)):
        if info.cls in seen:
            return
        seen.add(info.cls)
        yield info
    for below in _below(info):
        yield from _objects(below, seen)


def _below(info: types.Type) -> Iterator[types.Type]:
    for name in info.__struct_fields__:
        part = getattr(info, name)
        for each in part if isinstance(part, tuple) else (part,):
            if isinstance(each, types.Field):
                yield each.type
            elif isinstance(each, types.Type):
                yield each


def _close(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _close(item)
    elif isinstance(node, dict):
        if node.get("type") == "object" and isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
        for item in node.values():
            _close(item)


def _unknown(path: str, given: Any, known: Any) -> str:
    if isinstance(given, list) and isinstance(known, list):
        pairs = (
            (f"{path}[{at}]", *both) for at, both in enumerate(zip(given, known, strict=False))
        )
    elif isinstance(given, dict) and isinstance(known, dict):
        for name in given:
            if name not in known:
                return f"{path}.{name}"
        pairs = ((f"{path}.{name}", given[name], known[name]) for name in given)
    else:
        return ""
    return next((found for pair in pairs if (found := _unknown(*pair))), "")
