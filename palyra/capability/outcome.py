"""How a run ended: one value, whatever happened in the handler."""

from __future__ import annotations

import enum
import re

import attrs

from palyra.capability.wording import exception_sentence, one_line
from palyra.errors import PalyraError

HANDLER_FAILED = "handler_failed"
MAX_ERROR = 1024
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z", re.ASCII)


class OutcomeKind(enum.Enum):
    """The ways a run can end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@attrs.frozen(slots=True)
class Outcome:
    """The end of one run.

    ``output`` is JSON where it succeeded, else empty.  ``stopped`` is False where the handler was
    given up but its thread still runs: what it was doing may yet take effect.
    """

    kind: OutcomeKind
    output: bytes = b""
    error_code: str = ""
    error_sentence: str = ""
    stopped: bool = True


def succeeded(output: bytes) -> Outcome:
    """The handler answered."""
    return Outcome(OutcomeKind.SUCCEEDED, output)


def failed(exc: BaseException) -> Outcome:
    """The handler raised; an error of our own tree keeps its code and sentence."""
    code, sentence = _said(exc) if isinstance(exc, PalyraError) else ("", "")
    return Outcome(
        OutcomeKind.FAILED, b"", code or HANDLER_FAILED, sentence or exception_sentence(exc)
    )


def interrupted(kind: OutcomeKind, capability: str, *, began: bool, stopped: bool) -> Outcome:
    """The run was ended from outside: ``kind`` is TIMED_OUT or CANCELLED."""
    cause = "ran out of time" if kind is OutcomeKind.TIMED_OUT else "was cancelled"
    if not began:
        tail = " before it began"
    else:
        tail = "" if stopped else " and did not stop; it may still take effect"
    return Outcome(kind, b"", kind.value, f"{capability} {cause}{tail}.", stopped)


def _said(exc: PalyraError) -> tuple[str, str]:
    """Code and sentence, each empty where it cannot be shown: a plugin may extend the tree."""
    try:
        code, sentence = exc.code, exc.sentence
        return code if _CODE.match(code) else "", one_line(sentence, MAX_ERROR)
    except Exception:
        return "", ""
