"""systemd's unit files, read as systemd reads them (systemd.syntax(7), systemd.service(5)).

For the stand-in of :mod:`tests.integration.unitrunner`, which runs without any library; and for
whoever wants to know that what was written reads back as it was meant.  Stricter than systemd
where that only warns: a unit of ours is to be right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

INFINITY = float("inf")
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
_NUMBERED = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
_UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "ms": 0.001, "us": 0.000001, "m": 60.0, "min": 60.0,
    "h": 3600.0, "hr": 3600.0, "d": 86_400.0, "day": 86_400.0,
}  # fmt: skip
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)")


class Malformed(Exception):
    """It is no unit file, or systemd would complain of it."""


class UnitFile:
    """The sections of a unit."""

    def __init__(self, text: str) -> None:
        self._given: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in _lines(text):
            if line.startswith("["):
                if not line.endswith("]"):
                    raise Malformed(line)
                section = line[1:-1]
                continue
            key, equals, value = line.partition("=")
            if not equals or not section:
                raise Malformed(line)
            self._give(section, key.strip(), value.strip())

    def _give(self, section: str, key: str, value: str) -> None:
        values = self._given.setdefault((section, key), [])
        if value:
            values.append(value)
        else:
            values.clear()  # an empty assignment forgets those before it

    def all(self, key: str, section: str = "Service") -> list[str]:
        """Every value of a setting."""
        return list(self._given.get((section, key), ()))

    def last(self, key: str, default: str = "", section: str = "Service") -> str:
        """The value of a setting that has one."""
        return (self.all(key, section) or [default])[-1]

    def seconds(self, key: str, default: float) -> float:
        """The value of a setting that is a time."""
        value = self.last(key)
        return seconds(value) if value else default

    def words(self, key: str, specifiers: Mapping[str, str], section: str = "Service") -> list[str]:
        """The words of every value, unquoted."""
        found = (word for value in self.all(key, section) for word in words(value))
        return [specified(word, specifiers) for word in found]


def _lines(text: str) -> list[str]:
    """Without comments, continued lines joined."""
    found, begun = [], ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not begun):
            continue
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        found.append(begun + line)
        begun = ""
    return found


def words(value: str) -> list[str]:
    """The words of a value: quotes around a whole word, C's escapes inside and outside of them."""
    found: list[str] = []
    place, end = 0, len(value)
    while place < end:
        if value[place].isspace():
            place += 1
            continue
        quote = value[place] if value[place] in "\"'" else ""
        place += len(quote)
        word = ""
        while place < end and (value[place] != quote if quote else not value[place].isspace()):
            if value[place] == "\\":
                character, place = _escape(value, place + 1)
                word += character
                continue
            if value[place] in "\"'" and not quote:
                raise Malformed(f"a quote inside a word: {value}")
            word += value[place]
            place += 1
        if quote:
            if place >= end:
                raise Malformed(f"a quote without its end: {value}")
            place += 1
            if place < end and not value[place].isspace():
                raise Malformed(f"a quote that ends inside a word: {value}")
        found.append(word)
    return found


def _escape(value: str, place: int) -> tuple[str, int]:
    """The character of an escape whose backslash is before ``place``; and where it ends."""
    kind = value[place : place + 1]
    if kind in _ESCAPES:
        return _ESCAPES[kind], place + 1
    if kind in _NUMBERED:
        length, base = _NUMBERED[kind]
        digits = value[place + 1 : place + 1 + length]
        rest = place + 1 + length
    else:
        digits, length, base, rest = value[place : place + 3], 3, 8, place + 3
    try:
        if len(digits) != length:
            raise ValueError
        return chr(int(digits, base)), rest
    except ValueError:
        raise Malformed(f"no escape: \\{value[place : place + 9]}") from None


def specified(text: str, specifiers: Mapping[str, str]) -> str:
    """``text`` with its %-specifiers replaced."""

    def meant(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind == "%":
            return "%"
        if kind not in specifiers:
            raise Malformed(f"no specifier: %{kind}")
        return specifiers[kind]

    return re.sub(r"%(.?)", meant, text, flags=re.DOTALL)


def expanded(arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """A command's arguments with its variables replaced; the program itself has none.

    ``$NAME`` as a word of its own becomes as many words as its value has.
    """
    found = arguments[:1]
    for each in arguments[1:]:
        whole = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", each)
        if whole:
            found += environ.get(whole.group(1), "").split()
        else:
            found.append(_VARIABLE.sub(lambda match: _value(match, environ), each))
    return found


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match.group() == "$$":
        return "$"
    # Outside of braces a variable inside a word is none.
    return environ.get(match.group(1), "") if match.group(1) else match.group()


def seconds(value: str) -> float:
    """A time as systemd.time(7) writes it: ``1min 30s``, a plain number of seconds, infinity."""
    if value == "infinity":
        return INFINITY
    place, total = 0, 0.0
    while place < len(value):
        match = _SPAN.match(value, place)
        if match is None or match.group(2) not in _UNITS:
            raise Malformed(f"no time: {value}")
        total += float(match.group(1)) * _UNITS[match.group(2)]
        place = match.end()
    return total
