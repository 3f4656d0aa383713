"""The descriptor: what is accepted, what is refused, and what its digest covers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability import Capability, CapabilityContext, Risk
from palyra.capability.descriptor import is_reserved
from palyra.errors import DescriptorInvalid, InputInvalid, OutputInvalid, PayloadTooLarge


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    n: int = 0


class Order(msgspec.Struct, forbid_unknown_fields=True):
    what: str
    parts: list[Inner] = []


class Receipt(msgspec.Struct):
    ok: bool


class Loose(msgspec.Struct):
    default: str = ""


class Holder(msgspec.Struct, forbid_unknown_fields=True):
    default: Loose


async def handle(value: Any, context: CapabilityContext) -> Receipt:
    return Receipt(ok=True)


def make(**changes: Any) -> Capability:
    facts: dict[str, Any] = {
        "name": "shop.place_order",
        "description": "Places an order.",
        "handler": handle,
        "input_type": Order,
        "output_type": Receipt,
    }
    return Capability(**(facts | changes))


@pytest.mark.parametrize("name", ["echo", "system.health", "a.b", "acme.tools.run_all", "a1.b_2"])
def test_good_names(name: str) -> None:
    """Lower-case words joined by dots are names, and so is echo."""
    assert make(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "hello", "A.b", "a.", ".a", "a..b", "1a.b", "a.b\n", "a-b.c", "a.b c", "é.b", "a." * 40],
)
def test_bad_names(name: str) -> None:
    """Anything else is refused, naming the field."""
    with pytest.raises(DescriptorInvalid) as caught:
        make(name=name)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 3},
        {"description": ""},
        {"description": "two\nlines"},
        {"description": "a \u202e b"},
        {"version": "x" * 65},
        {"risk": "low"},
        {"idempotent": 1},
        {"needs_mediation": None},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": True},
        {"max_concurrency": 0},
        {"max_concurrency": 1.5},
        {"api": "1"},
        {"handler": lambda value, context: None},
        {"handler": 7},
        {"input_type": object},
        {"input_type": Loose},
        {"input_type": list[Loose]},
        {"input_type": Holder},
        {"output_type": object},
    ],
)
def test_broken_descriptors(changes: dict[str, Any]) -> None:
    """A descriptor no host could keep is refused where it is built."""
    with pytest.raises(DescriptorInvalid):
        make(**changes)


def test_handler_takes_two_arguments() -> None:
    """A handler that cannot be called with input and context is refused."""

    async def short(value: Any) -> None: ...

    with pytest.raises(DescriptorInvalid, match="the input and the context"):
        make(handler=short)


def test_callable_objects_are_handlers() -> None:
    """An object with an async __call__ may be a handler."""

    class Handler:
        async def __call__(self, value: Any, context: CapabilityContext) -> Receipt:
            return Receipt(ok=True)

    assert make(handler=Handler())


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b'{"what":1}', "input.what", "expected str, got int"),
        (b'{"what":"x","parts":[{"n":"x"}]}', "input.parts[0].n", "expected int, got str"),
        (b'{"what":"x","color":1}', "input.color", "is not a known field"),
        (b'{"what":"x","parts":[{"m":1}]}', "input.parts[...].m", "is not a known field"),
        (b"{}", "input.what", "is required"),
        (b"", "input.what", "is required"),
        (b"[]", "input", "expected object, got array"),
        (b"{", "input", "is not JSON (Input data was truncated)"),
    ],
)
def test_input_errors_name_the_field(raw: bytes, field: str, problem: str) -> None:
    """A wrong input is refused with the path of the field and what is wrong with it."""
    with pytest.raises(InputInvalid) as caught:
        make().decode_input(raw)
    found = caught.value.field.replace("[0].m", "[...].m")
    assert (found, caught.value.problem) == (field, problem)
    assert caught.value.capability == "shop.place_order"


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    """No bytes from the wire raise anything but InputInvalid."""
    for capability in (make(), make(input_type=Any)):
        try:
            capability.decode_input(raw)
        except InputInvalid as refused:
            assert refused.sentence.isprintable()


def test_deep_nesting_is_refused() -> None:
    """Nesting deeper than the decoder goes is an input error and no crash."""
    with pytest.raises(InputInvalid):
        make(input_type=Any).decode_input(b"[" * 100_000)


def test_output_is_bounded() -> None:
    """An output above the limit is refused with both sizes; one of exactly the limit passes."""
    raw = make().encode_output(Receipt(ok=True), 11)
    assert raw == b'{"ok":true}'
    with pytest.raises(PayloadTooLarge) as caught:
        make().encode_output(Receipt(ok=True), 10)
    assert (caught.value.size, caught.value.limit) == (11, 10)


@pytest.mark.parametrize("value", [{"ok": 1}, None, object(), {"ok": True, 3j: 1}])
def test_output_keeps_its_type(value: object) -> None:
    """What a handler returns must fit what its descriptor promised."""
    with pytest.raises(OutputInvalid):
        make().encode_output(value, 1000)


def test_schemas_are_closed_and_derived() -> None:
    """The JSON Schemas come from the types."""
    assert make().input_schema()["$defs"]["Order"]["additionalProperties"] is False
    assert make().output_schema()["$defs"]["Receipt"]["required"] == ["ok"]


def test_contract_covers_what_was_granted() -> None:
    """Schema, risk, mediation, idempotence and name change the contract; words do not."""
    base = make().descriptor().contract()
    assert len(base) == 64
    same = make(description="Other.", timeout_s=5, version="2").descriptor("acme", "3")
    assert base == make().descriptor().contract() == same.contract()
    changes: list[dict[str, Any]] = [
        {"name": "shop.other"},
        {"input_type": Inner},
        {"output_type": Any},
        {"risk": Risk.HIGH},
        {"needs_mediation": True},
        {"idempotent": True},
    ]
    contracts = {make(**change).descriptor().contract() for change in changes}
    assert len(contracts | {base}) == len(changes) + 1


def test_reserved_names() -> None:
    """echo, system.* and desktop.* belong to palyra; names that only look alike do not."""
    assert all(map(is_reserved, ("echo", "system.x", "desktop.open_url")))
    assert not any(map(is_reserved, ("echo.x", "systems.x", "acme.system")))
