"""Targeting expressions: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from palyra.core import selection
from palyra.core.devices import AnnouncedCapability, ClientKind, Device, PresenceState
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.selection import Facts, parse
from palyra.errors import ExpressionInvalid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "targeting.md"
DEVICE_ID = DeviceId("01J9ZC5QXGX4K7QM2ZT9B3FVHD")


def a_device(**changes: Any) -> Device:
    device = Device(
        device_id=DEVICE_ID,
        client_kind=ClientKind.NODE,
        name="pi",
        platform="linux arm64",
        version="0.1.0",
        identity_public=b"",
        identity_fingerprint=Fingerprint(""),
        grants=frozenset(),
        capabilities=(AnnouncedCapability("echo"), AnnouncedCapability("off", available=False)),
        labels={"site": "prague", "edge": "", "odd": "[a]*"},
        approved_by="",
        paired_at_ms=0,
        transport="grpc",
        address="192.168.1.23",
    )
    return attrs.evolve(device, **changes)


def facts(**changes: Any) -> Facts:
    return Facts.of(a_device(**changes), PresenceState.ONLINE)


def refusal(text: str) -> ExpressionInvalid:
    with pytest.raises(ExpressionInvalid) as refused:
        parse(text)
    assert refused.value.text == text
    assert 1 <= refused.value.column <= len(text) + 1
    return refused.value


# -- the documentation ----------------------------------------------------------------------------


def tables() -> Iterator[list[dict[str, str]]]:
    """The tables of the page, each row by its column."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(PAGE.read_text(encoding="utf-8")):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(part.content for part in token.children or ()))
        elif token.type == "table_close":
            yield [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
            rows = []


def table(column: str) -> list[dict[str, str]]:
    return next(rows for rows in tables() if column in rows[0])


def described(row: dict[str, str]) -> Facts:
    """A device of the page."""
    pairs = (label.partition("=") for label in row["labels"].split())
    device = a_device(
        name=row["name"],
        platform=row["platform"],
        client_kind=ClientKind(row["kind"]),
        labels={key: value for key, _, value in pairs},
        capabilities=tuple(map(AnnouncedCapability, row["available capabilities"].split())),
    )
    return Facts.of(device, PresenceState(row["presence"]))


@pytest.mark.parametrize("row", table("is true of"), ids=lambda row: row["expression"])
def test_the_examples_of_the_page_are_true(row: dict[str, str]) -> None:
    """Each example chooses the devices that the page says."""
    expression = parse(row["expression"])
    inventory = map(described, table("platform"))
    assert [it.name for it in inventory if expression.matches(it)] == row["is true of"].split()


@pytest.mark.parametrize("row", table("error"), ids=lambda row: row["expression"])
def test_the_errors_of_the_page_are_true(row: dict[str, str]) -> None:
    """Each wrong example is refused with the sentence that the page says."""
    assert refusal(row["expression"]).sentence == row["error"]


# -- what they mean -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "name = pi",
        "name='pi'",
        'NOT name = "p"',
        f"id = {DEVICE_ID.lower()}",
        "id = x4k7",
        "id in (ZZZZ, X4K7QM)",
        "id != X4K8",
        "id ~ zt9b",
        "platform ~ 'LINUX'",
        "platform ~ linux*",
        "platform !~ arm*",
        "platform ~ '????? arm64'",
        "version ~ 0.1.?",
        "version !~ 0.1.??",
        "kind = node And presence = online",
        "kind ~ n*",
        "transport in (quic, grpc)",
        "address ~ 192.168.1.*",
        "label.site = prague",
        "label.site not in (brno)",
        "label.edge = ''",
        "label.edge ~ *",
        "label.odd ~ '[a]'",
        "label.odd ~ '[a]?'",
        "label.odd !~ '[ab]?'",
        "label.gone != x and label.gone !~ x and label.gone not in (x)",
        "not (label.gone = '' or label.gone ~ * or label.gone in ('', x))",
        "has(echo) and not has(off) and not has(gone)",
        "group(edge) and not group(site) and not group(gone)",
        "all",
        "name = x or name = pi and name = pi",
        "not name = x and name = pi",
    ],
)
def test_what_is_true_of_a_device(text: str) -> None:
    """Each of these is true of one device, whose labels and capabilities stand above."""
    assert parse(text).matches(facts())
    assert not parse(f"not ({text})").matches(facts())


@pytest.mark.parametrize(
    "text", ["name = PI", "name = p", "platform ~ inux*", "label.odd ~ '[!b]]*'", "id ~ 01J9ZC5QX?"]
)
def test_what_is_not_true_of_a_device(text: str) -> None:
    """Equality minds case and length, a pattern has to fit the whole, and brackets are brackets."""
    assert not parse(text).matches(facts())


def test_a_hostile_pattern_costs_no_more_than_a_plain_one() -> None:
    """A pattern of a thousand stars that nearly fits is tried in one way only."""
    expression = parse("platform ~ '" + "*a" * 1_000 + "*b'")
    assert not expression.matches(facts(platform="a" * 10_000))
    assert expression.matches(facts(platform="a" * 10_000 + "b"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" name=pi ", "name = pi"),
        ("ALL", "all"),
        ("((name = a))or(name = b or name = c)", "name = a or name = b or name = c"),
        ("(name=a or name=b)and all", "(name = a or name = b) and all"),
        ("not(name=a and all)", "not (name = a and all)"),
        ("Not  Not all", "not not all"),
        ("name in('a b',\"c\\\"\\\\\", 'IN')", 'name in ("a b", "c\\"\\\\", "IN")'),
        ("id = x4k7", "id = X4K7"),
        ("not label.a NOT IN (b)", "not label.a not in (b)"),
        ("has('x')and group(\"y\")", "has(x) and group(y)"),
        ("name !~ ''", 'name !~ ""'),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    """However an expression was written, it is kept in one form."""
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


# -- what is said of those that mean nothing ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 1, "expected an expression; all stands for every device"),
        ("  ", 1, "expected an expression; all stands for every device"),
        ("platform ~ linux and", 21, "expected a field, has, group, not, all or ("),
        ("label.site in (a) and platform =", 33, "expected a value after ="),
        ("name = and", 8, "expected a value after =; a value and needs quotes"),
        ("name in (a,)", 12, "expected a value after ,"),
        ("name in ()", 10, "expected a value after ("),
        ("name in a", 9, "expected ( after in"),
        ("name not = a", 10, "expected in after not"),
        ("name", 5, "expected =, !=, ~, !~, in or not in after name"),
        ("name is a", 6, "expected =, !=, ~, !~, in or not in after name"),
        ("name == a", 7, "expected a value after ="),
        ("name = a)", 9, "this ) closes nothing"),
        ("name = a b", 10, "expected and, or or the end before b"),
        ('name = "a', 8, "this quote is not closed"),
        ("name = 'a\\'", 8, "this quote is not closed"),
        ("name ! a", 6, "expected != or !~"),
        ("Name = a", 1, "there is no field Name; did you mean name? Known: name, id, "),
        ("'name' = a", 1, "expected a field, has, group, not, all or ("),
        ("has echo", 5, "expected ( after has"),
        ("has(echo", 9, "expected ) for the ( at column 4"),
        ("hass(echo)", 1, "there is no function hass; did you mean has? Known: has, group"),
        ("name(echo)", 1, "there is no function name; known: has, group"),
        ("group('a b')", 7, "'a b' cannot be a group, as it is no label key"),
        ("label.Site = a", 1, "label.Site names no label: a key is of a-z 0-9 . _ / -"),
        ("label. = a", 1, "label. names no label"),
        ("kind in (node, pc)", 16, "there is no kind pc; known: node, cli, desktop"),
        ("id = x4k", 6, "an id is 26 characters, or 4 or more of its short form"),
        ("name = 'a\x1b'", 8, "'a\\u001b' holds what cannot be printed"),
        ("name = \ud800", 8, "\\ud800 holds what cannot be printed"),
    ],
)
def test_an_error_points_at_its_column(text: str, column: int, problem: str) -> None:
    """The column is that of the word that is wrong, or one past the end where one is missing."""
    refused = refusal(text)
    assert refused.column == column
    assert refused.problem.startswith(problem)


def test_an_error_names_the_field_it_was_in() -> None:
    """Who does not parse an option of the command line gives the name of what is parsed."""
    with pytest.raises(ExpressionInvalid, match="where, column 1: "):
        parse("", field="where")


@pytest.mark.parametrize(
    ("most", "more", "problem"),
    [
        (
            f"name = {'x' * (selection.MAX_LENGTH - 7)}",
            f"name = {'x' * (selection.MAX_LENGTH - 6)}",
            "the expression is longer than 4096 characters",
        ),
        (
            f"name={'x' * (selection.MAX_LENGTH - 7)}",
            f"name={'x' * (selection.MAX_LENGTH - 6)}",
            "the expression is longer than 4096 characters when written with blanks",
        ),
        ("(" * 32 + "all" + ")" * 32, "(" * 33 + "all" + ")" * 33, "this is nested more than 32"),
        ("not " * 32 + "all", "not " * 33 + "all", "this is nested more than 32 deep"),
        ("not (" * 16 + "all" + ")" * 16, "not (" * 400, "this is nested more than 32 deep"),
        (
            f"name in ({','.join('x' * 256)})",
            f"name in ({','.join('x' * 257)})",
            "the expression has more than 256 values",
        ),
        (
            " or ".join(["has(x)"] * 256),
            " or ".join(["has(x)"] * 257),
            "the expression has more than 256 values",
        ),
    ],
)
def test_an_expression_is_bounded(most: str, more: str, problem: str) -> None:
    """Length, depth and width are refused one past their bound, and what is kept parses again."""
    assert parse(str(parse(most))) == parse(most)
    assert refusal(more).problem.startswith(problem)


SIGNS = ["(", ")", ",", "=", "!=", "~", "!~", "!", '"', "'", "\\", "\x00", "\u00a0", "é"]
WORDS = ["and", "OR", "not", "in", "all", "has", "group", "node", "online", "x4k7", "*", "a?b"]
FIELDS = ["name", "id", "kind", "presence", "label.", "label.a"]
SOUP = st.sampled_from(SIGNS + WORDS + FIELDS)


@settings(max_examples=100)
@given(st.lists(SOUP, max_size=30), st.sampled_from(["", " "]))
@example(["name", "=", "\x00"], " ")
def test_no_text_does_worse_than_be_refused(words: list[str], blank: str) -> None:
    """Any text parses to what its canonical form parses to, or is refused at a column it has."""
    check_any(blank.join(words))


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_no_characters_do_worse_than_be_refused(text: str) -> None:
    """The same for characters of every kind."""
    check_any(text)


def check_any(text: str) -> None:
    try:
        expression = parse(text)
    except ExpressionInvalid as refused:
        assert 1 <= refused.column <= len(text) + 1
        assert refused.problem.isprintable()
    else:
        assert parse(str(expression)) == expression
        assert str(expression).isprintable()
        expression.matches(facts())


# -- against a plain evaluator --------------------------------------------------------------------


@attrs.frozen
class Made:
    """A text, and what it should say of a device."""

    text: str
    truth: Callable[[Facts], bool]


VALUES = ["", "a", "B", "ab", "a b", "and", 'q"\\', "*"]
PATTERNS = ["", "a", "A*", "*b", "?", "*?b*", "**", "a b"]


def fits(pattern: str, text: str) -> bool:
    """Whether a whole text fits a pattern, by the definition of ``*``."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and fits(pattern[1:], text[1:])


def resembles(pattern: str, text: str) -> bool:
    pattern, text = pattern.lower(), text.lower()
    return fits(pattern, text) if set("*?") & set(pattern) else pattern in text


def value_of(field: str, it: Facts) -> str | None:
    return it.labels.get(field[6:]) if field.startswith("label.") else str(getattr(it, field))


def spelt(value: str, quote: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"


@st.composite
def comparisons(draw: st.DrawFn) -> Made:
    """A comparison with quoted values, of a label or of a field without rules of its own."""
    field = draw(st.sampled_from(["name", "platform", "label.k", "label.gone"]))
    negated, quote = draw(st.booleans()), draw(st.sampled_from("\"'"))
    kind = draw(st.sampled_from(["=", "~", "in"]))
    wanted = draw(
        st.lists(
            st.sampled_from(PATTERNS if kind == "~" else VALUES),
            min_size=1,
            max_size=3 if kind == "in" else 1,
        )
    )
    like = resembles if kind == "~" else str.__eq__
    sign = f"{'not ' * negated}in" if kind == "in" else "!" * negated + kind
    shown = ", ".join(spelt(value, quote) for value in wanted)

    def truth(it: Facts) -> bool:
        value = value_of(field, it)
        found = value is not None and any(like(each, value) for each in wanted)
        return found is not negated

    return Made(f"{field} {sign} ({shown})" if kind == "in" else f"{field}{sign}{shown}", truth)


CALLS = st.sampled_from(
    [
        Made("all", lambda it: True),
        Made("has(echo)", lambda it: any(cap.name == "echo" for cap in it.capabilities)),
        Made("group(k)", lambda it: it.labels.get("k") == ""),
    ]
)


def negation(made: Made) -> Made:
    return Made(f"NOT({made.text})", lambda it: not made.truth(it))


def junction(word: str, parts: list[Made]) -> Made:
    """Parts in parentheses, most of which the canonical form does without."""
    every = all if word == "and" else any
    text = f" {word} ".join(f"({part.text})" for part in parts)
    return Made(text, lambda it: every([part.truth(it) for part in parts]))


def wider(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    parts = st.lists(inner, min_size=2, max_size=3)
    return inner.map(negation) | st.builds(junction, st.sampled_from(["and", "or"]), parts)


EXPRESSIONS = st.recursive(comparisons() | CALLS, wider, max_leaves=8)
DEVICES = st.builds(
    lambda name, platform, value, capabilities: facts(
        name=name,
        platform=platform,
        labels={} if value is None else {"k": value},
        capabilities=capabilities,
    ),
    st.sampled_from(VALUES),
    st.sampled_from(VALUES),
    st.none() | st.sampled_from(VALUES),
    st.sampled_from([(), (AnnouncedCapability("echo"),)]),
)


@settings(max_examples=100)
@given(EXPRESSIONS, st.lists(DEVICES, min_size=1, max_size=5))
def test_an_expression_means_what_a_plain_evaluator_says(made: Made, some: list[Facts]) -> None:
    """Text, canonical text and a reference written for clearness agree about every device."""
    expression = parse(made.text)
    again = parse(str(expression))
    assert again == expression
    assert str(again) == str(expression)
    for it in some:
        assert expression.matches(it) is again.matches(it) is made.truth(it)
