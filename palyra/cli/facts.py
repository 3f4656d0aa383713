"""Facts about one thing: ``key  value`` lines for people, ``key<TAB>value`` for scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from palyra.cli.present import Screen

GAP = 2
_WORD = re.compile(r"\w+")


@attrs.frozen
class Fact:
    """``shown`` is escaped already and may have several lines; ``raw`` is the whole value."""

    key: str
    shown: str
    raw: str
    style: str = ""

    @classmethod
    def same(cls, key: str, text: str) -> Fact:
        """A fact that people and scripts read in the same form."""
        return cls(key, text, text)


def show(screen: Screen, facts: Sequence[Fact], *, label: int = 0) -> None:
    """One fact a line; labels take ``label`` characters or more."""
    if not screen.tty:
        return _pairs(screen, facts)
    label = max(label, _label_width(facts))
    for fact in facts:
        for key, line in _lines(fact):
            screen.parts((key.ljust(label), ""), *_parts(line, fact.style))
    return None


def show_beside(
    screen: Screen,
    left: Sequence[Fact],
    right: Sequence[Fact],
    *,
    label: int = 0,
    least: int = 0,
) -> None:
    """Facts in two columns where both fit, row by row; what is too long gets a row of its own.

    The right column begins at the left one's longest short value, at ``least`` characters after
    its label; labels on the left take ``label`` characters or more.
    """
    if not screen.tty:
        return _pairs(screen, [*left, *right])
    labels = max(label, _label_width(left)), _label_width(right)
    right_width = max(labels[1] + len(line) for fact in right for _, line in _lines(fact))
    room = screen.width - labels[0] - right_width - GAP
    fitting = [len(line) for fact in left for _, line in _lines(fact) if len(line) <= room]
    value = max([least - GAP, *fitting])
    for first, second in _rows(left, right, labels[1], screen.width - labels[0] - GAP, value):
        _show_row(screen, first, second, labels, value)
    return None


def _rows(
    left: Sequence[Fact], right: Sequence[Fact], label: int, room: int, value: int
) -> list[tuple[tuple[str, str, str] | None, tuple[str, str, str] | None]]:
    """Pairs of (key, line, style): beside each other where they fit, else one below the other."""
    ours = [(key, line, fact.style) for fact in left for key, line in _lines(fact)]
    theirs = [(key, line, fact.style) for fact in right for key, line in _lines(fact)]
    rows: list[tuple[tuple[str, str, str] | None, tuple[str, str, str] | None]] = []
    for i in range(max(len(ours), len(theirs))):
        first = ours[i] if i < len(ours) else None
        second = theirs[i] if i < len(theirs) else None
        fits = first is None or len(first[1]) <= value
        if second is None or (fits and value + label + len(second[1]) <= room):
            rows.append((first, second))
        else:
            rows += [(first, None), (None, second)] if first else [(None, second)]
    return rows


def _show_row(
    screen: Screen,
    first: tuple[str, str, str] | None,
    second: tuple[str, str, str] | None,
    labels: tuple[int, int],
    value: int,
) -> None:
    if first is None and second is not None:
        key, line, style = second
        screen.parts((key.ljust(labels[0]), ""), *_parts(line, style))
        return
    assert first is not None
    parts = [(first[0].ljust(labels[0]), ""), *_parts(first[1], first[2])]
    if second is not None:
        blank = " " * (value + GAP - len(first[1]))
        parts += [(blank + second[0].ljust(labels[1]), ""), *_parts(second[1], second[2])]
    screen.parts(*parts)


def _lines(fact: Fact) -> list[tuple[str, str]]:
    lines = fact.shown.split("\n")
    return [(fact.key if not i else "", line) for i, line in enumerate(lines)]


def _parts(line: str, style: str) -> list[tuple[str, str]]:
    """The first word has the style, what follows ``!!`` is yellow."""
    before, mark, after = line.partition("!!")
    found = _WORD.match(before)
    end = found.end() if found is not None and style else 0
    return [(before[:end], style), (before[end:], ""), (mark + after, "yellow")]


def _label_width(facts: Sequence[Fact]) -> int:
    return max(len(fact.key) for fact in facts) + GAP


def _pairs(screen: Screen, facts: Sequence[Fact]) -> None:
    for fact in facts:
        screen.pair(fact.key, fact.raw)
