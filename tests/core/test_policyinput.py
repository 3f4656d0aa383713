"""Tests of an input: places by JSON pointer, and three answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.policyinput import AtMost, InputTest, OneOf, Pointer, Prefix
from palyra.errors import Malformed

# The document of RFC 6901, section 5.
DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_pointers_find_what_the_standard_says(pointer: str, found: object) -> None:
    """The examples of RFC 6901."""
    assert Pointer.parse(pointer).find(DOCUMENT) == found


@pytest.mark.parametrize(
    "pointer", ["/bar", "/foo/2", "/foo/-", "/foo/-1", "/foo/00", "/foo/x", "/foo/0/0", "//0"]
)
def test_a_missing_place(pointer: str) -> None:
    """It is no value, and not null either; a list has the indices that the standard knows."""
    assert Pointer.is_missing(Pointer.parse(pointer).find(DOCUMENT))
    assert not Pointer.is_missing(Pointer.parse("/x").find({"x": None}))


def test_escapes_are_read_in_the_right_order() -> None:
    """``~01`` is ``~1`` and not a slash."""
    assert Pointer.parse("/~01").tokens == ("~1",)


@pytest.mark.parametrize("pointer", ["foo", "#/foo", "/~2", "/~", "/a~", "/" + "a" * 256])
def test_what_is_no_pointer(pointer: str) -> None:
    """It is refused when the file is read."""
    with pytest.raises(Malformed) as refused:
        Pointer.parse(pointer, "here")
    assert refused.value.field == "here"


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        (OneOf(("a",)), "a", True),
        (OneOf(("a",)), "A", False),
        (OneOf(("a", "b")), "b", True),
        (OneOf((1,)), 1, True),
        (OneOf((1,)), 1.0, True),
        (OneOf((1,)), True, False),
        (OneOf((1,)), "1", False),
        (OneOf((0,)), False, False),
        (OneOf((True,)), True, True),
        (OneOf((True,)), 1, False),
        (OneOf((True,)), "true", False),
        (OneOf((2**70,)), 2**70, True),
        (OneOf((2**70,)), 2**70 + 1, False),
        (OneOf(("",)), None, False),
        (OneOf(("a",)), ["a"], None),
        (OneOf(("a",)), {}, None),
        (AtMost(5), 5, True),
        (AtMost(5), 5.0, True),
        (AtMost(5), -(10**30), True),
        (AtMost(5), 5.1, False),
        (AtMost(0.5), 1, False),
        (AtMost(5), True, None),
        (AtMost(5), "5", None),
        (AtMost(5), None, None),
        (Prefix.parse("ab"), "abc", True),
        (Prefix.parse("ab"), "Abc", False),
        (Prefix.parse("ab"), None, None),
        (Prefix.parse("ab"), ["abc"], None),
        (Prefix.parse("a.."), "a..b", True),
        (Prefix.parse("/home/anna/"), "/home/anna/x", True),
        (Prefix.parse("/home/anna/"), "/home/anna/..x", True),
        (Prefix.parse("/home/anna/"), "/home/anna/../bo", None),
        (Prefix.parse("/home/anna/"), "/home/anna/..\\bo", None),
        (Prefix.parse("/home/anna/"), "/home/anna//x", True),
        (Prefix.parse("/home/anna/"), "/home/anna/x//y/", None),
        (Prefix.parse("/home/anna/"), "/./home/anna/x", None),
        (Prefix.parse("/home/anna/"), "//home/anna/x", None),
        (Prefix.parse("/home/anna/"), "/home/bo/", False),
        (Prefix.parse("C:\\Users\\"), "C:\\Users\\anna\\", True),
        (Prefix.parse("C:\\Users\\"), "C:\\Users\\..\\Windows", None),
        (Prefix.parse("C:\\Users\\"), "C:\\.\\Users\\anna", None),
        (Prefix.parse("\\\\host\\"), "\\\\host\\share", True),
        (Prefix.parse("https:"), "https://example.org/", True),
        (Prefix.parse("https://example.org/a"), "https://example.org/a/b", True),
        (Prefix.parse("https://example.org/a"), "https://example.org/ab", False),
        (Prefix.parse("https://example.org/a"), "https://example.org/a/../b", None),
        (Prefix.parse("https://example.org/a"), "mailto:anna@example.org", None),
        (Prefix.parse("https://example.org/a"), 1, None),
    ],
)
def test_yes_no_and_cannot_be_told(test: Any, value: object, expected: bool | None) -> None:
    """Types are strict, numbers are numbers; another kind of value is neither yes nor no."""
    assert test.holds(value) is expected
    assert InputTest(Pointer.parse("/x"), test).holds({"x": value}) is expected
    assert InputTest(Pointer.parse("/y"), test).holds({"x": value}) is None


@pytest.mark.parametrize(
    "prefix",
    [
        "https://",
        "https://anna@example.org/",
        "https://example.org/?a",
        "https://example.org/#a",
        "https://example.org/../",
        "https://bücher.example/",
        "http://127.1/",
    ],
)
def test_a_prefix_that_could_be_read_in_two_ways(prefix: str) -> None:
    """It is refused when the file is read, and not compared as a text."""
    with pytest.raises(Malformed) as refused:
        Prefix.parse(prefix, "here")
    assert refused.value.field == "here"


@given(st.text(max_size=12))
@settings(max_examples=100)
def test_any_text_is_a_pointer_or_refused(text: str) -> None:
    """A pointer finds what was put where it points."""
    try:
        pointer = Pointer.parse(text)
    except Malformed:
        return
    value: object = "found"
    for token in reversed(pointer.tokens):
        value = {token: value}
    assert pointer.find(value) == "found"
