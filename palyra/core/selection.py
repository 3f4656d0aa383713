"""Targeting expressions: which devices a call, a list or a rule is for.

``platform ~ linux and label.site in (prague, brno) and has(system.health)``

* ``or``, ``and``, ``not``, from loose to tight, and parentheses; ``all`` is every device.
* ``FIELD = value``, ``!=``, ``in (a, b)``, ``not in (a, b)`` compare exactly.
* ``FIELD ~ value`` and ``!~`` disregard case: a value with ``*`` or ``?`` is a pattern of the whole
  text, another value is a part of it.
* ``has(CAPABILITY)``: announced and available.  ``group(NAME)``: a label without a value.

A label that a device does not have equals nothing and resembles nothing, so that the tests without
``!`` or ``not`` are false for it and the others true.  There is no test of its own for having a
label: ``label.KEY ~ *`` says it.  A value is a word or stands in quotes, where a backslash takes
the next character as it is.  There are no regular expressions, because a rule must stay readable
and its cost bounded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import NoReturn

import attrs

from palyra.core.devices import ClientKind, PresenceState, clean_text, valid_label
from palyra.core.expressions import (
    BARE,
    KEYWORDS,
    LABEL,
    Comparison,
    Everything,
    Expression,
    Facts,
    Group,
    Has,
    Junction,
    Negation,
    Term,
)
from palyra.core.identifiers import as_prefix, is_ulid
from palyra.errors import ExpressionInvalid

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_TERMS", "Expression", "Facts", "parse"]

MAX_LENGTH = 4096
MAX_DEPTH = 32
MAX_TERMS = 256
_SHOWN = 40
_WORDS = {
    "kind": [kind.value for kind in ClientKind],
    "presence": [state.value for state in PresenceState],
}
_FIELDS = ("name", "id", "platform", "version", *_WORDS, "transport", "address")
_FUNCTIONS = ("has", "group")
_SIGNS = frozenset({"=", "!=", "~", "!~"})
_BLANK = re.compile(r"\s+")
_TOKEN = re.compile(
    rf"(?P<sign>!=|!~|[=~(),])|(?P<word>{BARE.pattern})"
    r"|(?P<quoted>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')",
    re.DOTALL,
)


def parse(text: str, field: str = "--where") -> Expression:
    """The expression that ``text`` is; ``field`` is what an error calls it.

    :raises ExpressionInvalid: it is none, is empty, or is longer, deeper or wider than
        ``MAX_LENGTH`` characters, ``MAX_DEPTH`` parentheses and negations within one another, or
        ``MAX_TERMS`` values.
    """
    return _Parser(text, field).expression()


@attrs.frozen
class _Token:
    """``kind`` is the sign or the keyword itself, or ``word``, ``quoted``, ``end``."""

    kind: str
    text: str
    column: int

    @property
    def shown(self) -> str:
        return clean_text(self.text, _SHOWN)


class _Parser:
    """Recursive descent, one method for each level of binding."""

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._depth = 0
        self._terms = 0
        if len(text) > MAX_LENGTH:
            self._refuse(MAX_LENGTH + 1, f"the expression is longer than {MAX_LENGTH} characters")
        self._next = self._scan(0)

    def expression(self) -> Expression:
        if self._next.kind == "end":
            self._refuse(1, "expected an expression; all stands for every device")
        found = Expression(self._either())
        if self._next.kind == ")":
            self._refuse(self._next.column, "this ) closes nothing")
        if self._next.kind != "end":
            self._refuse(
                self._next.column, f"expected and, or or the end before {self._next.shown}"
            )
        if len(str(found)) > MAX_LENGTH:
            problem = (
                f"the expression is longer than {MAX_LENGTH} characters when written with blanks"
            )
            self._refuse(len(self._text) + 1, problem)
        return found

    def _either(self) -> Term:
        return self._joined("or", self._both)

    def _both(self) -> Term:
        return self._joined("and", self._single)

    def _joined(self, word: str, part: Callable[[], Term]) -> Term:
        terms = [part()]
        while self._next.kind == word:
            self._take()
            terms.append(part())
        return terms[0] if len(terms) == 1 else Junction(word, tuple(_flat(word, terms)))

    def _single(self) -> Term:
        token = self._take()
        if token.kind == "not":
            return Negation(self._deeper(token, self._single))
        if token.kind == "(":
            inner = self._deeper(token, self._either)
            self._close(token)
            return inner
        if token.kind == "all":
            self._count(token)
            return Everything()
        if token.kind != "word":
            self._refuse(token.column, "expected a field, has, group, not, all or (")
        return self._call(token) if self._next.kind == "(" else self._comparison(token)

    def _deeper(self, token: _Token, part: Callable[[], Term]) -> Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(token.column, f"this is nested more than {MAX_DEPTH} deep")
        term = part()
        self._depth -= 1
        return term

    def _call(self, function: _Token) -> Term:
        if function.text not in _FUNCTIONS:
            self._unknown(function, "function", _FUNCTIONS)
        opening = self._take()
        token, name = self._next, self._value(f"{function.text}(")
        self._close(opening)
        if function.text == "has":
            return Has(name)
        if not valid_label(name, ""):
            self._refuse(token.column, f"{token.shown} cannot be a group, as it is no label key")
        return Group(name)

    def _comparison(self, field: _Token) -> Term:
        self._check_field(field)
        sign = self._take()
        if sign.kind in _SIGNS:
            return Comparison(field.text, sign.kind, (self._operand(field, sign.kind),))
        if sign.kind == "in":
            return Comparison(field.text, "in", self._list(field))
        if sign.kind == "not":
            self._take_only("in", "after not")
            return Comparison(field.text, "not in", self._list(field))
        self._refuse(sign.column, f"expected =, !=, ~, !~, in or not in after {field.shown}")

    def _list(self, field: _Token) -> tuple[str, ...]:
        opening = self._take_only("(", "after in")
        values = [self._operand(field, "(")]
        while self._next.kind == ",":
            self._take()
            values.append(self._operand(field, ","))
        self._close(opening)
        return tuple(values)

    def _check_field(self, token: _Token) -> None:
        key = token.text.removeprefix(LABEL)
        if key != token.text and not valid_label(key, ""):
            self._refuse(token.column, f"{token.shown} names no label: a key is of a-z 0-9 . _ / -")
        if key == token.text and key in _FUNCTIONS:
            self._refuse(self._next.column, f"expected ( after {key}")
        if key == token.text and key not in _FIELDS:
            self._unknown(token, "field", (*_FIELDS, "label.KEY"))

    def _operand(self, field: _Token, after: str) -> str:
        """A value, checked where the field takes only certain ones; an id in its one spelling."""
        token, value = self._next, self._value(after)
        exact = "~" not in after
        known = _WORDS.get(field.text)
        if exact and known is not None and value not in known:
            self._unknown(token, field.text, known)
        if exact and field.text == "id":
            value = value.upper()
            if not is_ulid(value) and as_prefix(value) is None:
                self._refuse(token.column, "an id is 26 characters, or 4 or more of its short form")
        return value

    def _value(self, after: str) -> str:
        token = self._next
        if token.kind in KEYWORDS:
            self._refuse(
                token.column, f"expected a value after {after}; a value {token.shown} needs quotes"
            )
        if token.kind not in ("word", "quoted"):
            self._refuse(token.column, f"expected a value after {after}")
        self._take()
        self._count(token)
        if token.kind == "word":
            return token.text
        return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)

    def _count(self, token: _Token) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._refuse(token.column, f"the expression has more than {MAX_TERMS} values")

    def _close(self, opening: _Token) -> None:
        self._take_only(")", f"for the ( at column {opening.column}")

    def _take_only(self, kind: str, where: str) -> _Token:
        if self._next.kind != kind:
            self._refuse(self._next.column, f"expected {kind} {where}")
        return self._take()

    def _take(self) -> _Token:
        token = self._next
        self._next = self._scan(token.column - 1 + len(token.text))
        return token

    def _scan(self, start: int) -> _Token:
        blank = _BLANK.match(self._text, start)
        start = start if blank is None else blank.end()
        if start == len(self._text):
            return _Token("end", "", start + 1)
        found = _TOKEN.match(self._text, start)
        if found is None:
            fault = "expected != or !~" if self._text[start] == "!" else "this quote is not closed"
            self._refuse(start + 1, fault)
        text = found[0]
        if not text.isprintable():
            self._refuse(start + 1, f"{clean_text(text, _SHOWN)} holds what cannot be printed")
        if found["sign"] or (found["word"] and text.lower() in KEYWORDS):
            return _Token(text.lower(), text, start + 1)
        return _Token("word" if found["word"] else "quoted", text, start + 1)

    def _unknown(self, token: _Token, what: str, known: Iterable[str]) -> NoReturn:
        nearest = difflib.get_close_matches(token.text[:_SHOWN].lower(), known, 1)
        maybe = f"did you mean {nearest[0]}? Known" if nearest else "known"
        problem = f"there is no {what} {token.shown}; {maybe}: {', '.join(known)}"
        self._refuse(token.column, problem)

    def _refuse(self, column: int, problem: str) -> NoReturn:
        raise ExpressionInvalid(self._field, problem, column, self._text)


def _flat(word: str, terms: Iterable[Term]) -> Iterable[Term]:
    for term in terms:
        if isinstance(term, Junction) and term.word == word:
            yield from term.terms
        else:
            yield term
