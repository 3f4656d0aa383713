"""Text from plugins and callers, made fit to be shown: one line, no controls, bounded."""

from __future__ import annotations

import re
import unicodedata

import msgspec

MAX_SENTENCE = 200
MAX_TYPE_NAME = 64
_AT = re.compile(r"^(?P<problem>.*) - at (?:`key` in )?`\$(?P<path>[^`]*)`$", re.DOTALL)
_NAMED = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`$")
_PROBLEMS = {"contains unknown": "is not a known field", "missing required": "is required"}
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
    except BaseException:
        text = ""
    name = one_line(type(exc).__name__, MAX_TYPE_NAME)
    return f"{name}: {text}" if text else name


def located(root: str, exc: Exception) -> tuple[str, str]:
    """Where msgspec found fault and with what: ``("input.url", "expected str, got int")``."""
    if not isinstance(exc, msgspec.ValidationError):
        return root, f"is not JSON ({one_line(str(exc))})"
    text, path = str(exc), ""
    if at := _AT.match(text):
        text, path = at["problem"], at["path"]
    if named := _NAMED.match(text):
        path, text = f"{path}.{named['name']}", _PROBLEMS[named["what"]]
    problem = one_line(text.replace("`", ""))
    return one_line(root + path, 120), problem[:1].lower() + problem[1:]
