"""What a dialog says: who wants what of this device, in plain text that nobody else laid out."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from palyra.core.devices import clean_text
from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.node.mediation import MAX_ARGUMENT, Question, beginning

TITLE = "Palyra"
LABELS = {
    REFUSED: "No",
    ONCE: "Allow once",
    FOR_SESSION: "Allow for this session",
    ALWAYS: "Always allow",
}
"""Each answer as its button says it."""

_WIDTH = 72
_MARK = "| "


@attrs.frozen(slots=True)
class Shown:
    """One dialog: its text, the answers it offers (no comes first), and how long it may stay."""

    text: str
    choices: tuple[str, ...]
    lasts_s: int | None = None


def shown(question: Question, left_s: float | None) -> Shown:
    """``question`` as a dialog; ``left_s`` None where it does not end by itself.

    All that others wrote is escaped, on marked lines of its own: it can neither pass for a line of
    ours nor push one out of sight.  (A mark, and no indent: kdialog centres its lines.)
    """
    lasts_s = None if left_s is None else max(1, round(left_s))
    choices = (REFUSED, ONCE, FOR_SESSION, ALWAYS) if question.scope else (REFUSED, ONCE)
    return Shown("\n".join(_lines(question, lasts_s)), choices, lasts_s)


def _lines(question: Question, lasts_s: int | None) -> Iterator[str]:
    # The first line has no text of others in it: some toolkits look there for markup.
    yield "Somebody asks to use this device."
    yield ""
    yield from _quoted(f"{question.who} {question.asks()}")
    yield ""
    yield f"Capability (risk {clean_text(question.risk, 20)}):"
    yield from _quoted(clean_text(question.capability, 120))
    if question.scope:
        yield f"'{LABELS[FOR_SESSION]}' and '{LABELS[ALWAYS]}' are for this capability and:"
        yield from _quoted(_cut(question.scope))
    if lasts_s is not None:
        yield ""
        yield f"It is refused if nobody answers in {lasts_s}s."


def _cut(text: str) -> str:
    """``text`` whole, or its beginning and how much is missing."""
    shown, missing = beginning(text, MAX_ARGUMENT)
    return f"{shown} (+{missing} characters)" if missing else shown


def _quoted(text: str) -> Iterator[str]:
    for at in range(0, max(1, len(text)), _WIDTH):
        yield _MARK + text[at : at + _WIDTH]
