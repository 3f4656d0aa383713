"""Text from plugins and callers, made fit to be shown: one line, no controls, bounded."""

from __future__ import annotations

import unicodedata

MAX_SENTENCE = 200
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def has_unshown(text: str) -> bool:
    """Whether ``text`` has a control, bidi, unassigned or surrogate character in it."""
    return any(unicodedata.category(c) in _UNSHOWN for c in text)


def one_line(text: str, limit: int = MAX_SENTENCE) -> str:
    """The first line of ``text``, at most ``limit`` characters, unshown characters as ``?``.

    A bidi override in an error message could make a terminal show something else than was said.
    """
    first = text.strip().split("\n", 1)[0].strip()[: limit + 1]
    shown = "".join("?" if unicodedata.category(c) in _UNSHOWN else c for c in first)
    return shown if len(shown) <= limit else shown[: limit - 1] + "~"


def exception_sentence(exc: BaseException) -> str:
    """``<Type>: <first line>``; an exception whose own ``str`` fails is named by its type."""
    try:
        text = one_line(str(exc))
    except Exception:
        text = ""
    name = type(exc).__name__
    return f"{name}: {text}" if text else name
