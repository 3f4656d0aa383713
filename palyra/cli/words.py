"""How values are written for people: ages, durations, sizes, times, ids, cut and escaped text.

Pure functions.  Times are Unix milliseconds; ``now_ms`` is a parameter.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from palyra.core.identifiers import grouped, short_id, unique_lengths

NOTHING = "-"
THIN_BLANK = "\u2009"
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
_UNITS = (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S), ("s", 1))

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff]"
)
"""C0, DEL and C1 controls, line separators, invisible and bidirectional marks."""


def escaped(text: str) -> str:
    """Text from a device so that it cannot steer a terminal: ``\\u202e`` for what is unsafe."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escaped_lines(text: str) -> str:
    """As :func:`escaped`, but ends of lines stay.  JSON keeps its meaning."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else escaped(found[0]), text)


def age(elapsed_ms: int) -> str:
    """The largest unit of a time span: ``4s``, ``2m``, ``3h``, ``31d``."""
    seconds = max(0, elapsed_ms) // 1000
    unit, size = next(((u, s) for u, s in _UNITS if seconds >= s), ("s", 1))
    return f"{seconds // size}{unit}"


def ago(then_ms: int | None, now_ms: int) -> str:
    """An age with ``ago``, or ``-`` where there is no time."""
    return NOTHING if then_ms is None else f"{age(now_ms - then_ms)} ago"


def duration(took_ms: int | None, blank: str = "") -> str:
    """How long something took: ``14ms``, ``1.2s``, ``30s``, ``2m 4s``, ``2h 5m``, ``2d 4h``."""
    if took_ms is None:
        return NOTHING
    if took_ms < 1000:
        return f"{took_ms}{blank}ms"
    if took_ms < 10_000:
        return f"{took_ms // 100 / 10:g}{blank}s"
    seconds = took_ms // 1000
    if seconds < MINUTE_S:
        return f"{seconds}{blank}s"
    (big, size), (small, rest) = next(
        pair for pair in itertools.pairwise(_UNITS) if seconds >= pair[0][1]
    )
    second = seconds % size // rest
    return f"{seconds // size}{big} {second}{small}" if second else f"{seconds // size}{big}"


def countdown(left_ms: int) -> str:
    """What is left: ``8:12``, ``1:08:12``."""
    seconds = max(0, left_ms) // 1000
    hours, minutes = seconds // HOUR_S, seconds // MINUTE_S % 60
    if hours:
        return f"{hours}:{minutes:02}:{seconds % 60:02}"
    return f"{minutes}:{seconds % 60:02}"


def span(length_ms: int) -> str:
    """A chosen length of time: ``10 min``, ``45 s``, ``24 h``."""
    seconds = round(length_ms / 1000)
    if seconds >= HOUR_S and not seconds % HOUR_S:
        return f"{seconds // HOUR_S} h"
    if seconds >= MINUTE_S and not seconds % MINUTE_S:
        return f"{seconds // MINUTE_S} min"
    return f"{seconds} s"


def when(at_ms: int | None, now_ms: int) -> str:
    """A time as near as it must be told: ``03:44:02``, ``22 Nov 03:43``, ``22 Nov 2025``."""
    if at_ms is None:
        return NOTHING
    at, now = _local(at_ms), _local(now_ms)
    if at.date() == now.date():
        return at.strftime("%H:%M:%S")
    if at.year == now.year:
        return f"{at.day} {at.strftime('%b %H:%M')}"
    return f"{at.day} {at.strftime('%b %Y')}"


def clock(at_ms: int, now_ms: int) -> str:
    """A time in the near future, without seconds: ``03:51`` or ``23 Nov 03:51``."""
    text = when(at_ms, now_ms)
    return text[:5] if text.count(":") == 2 else text


def day(at_ms: int | None, now_ms: int) -> str:
    """A day: ``3 May``, or with its year when that is another."""
    if at_ms is None:
        return NOTHING
    at = _local(at_ms)
    year = "" if at.year == _local(now_ms).year else f" {at.year}"
    return f"{at.day} {at.strftime('%b')}{year}"


def whole_time(at_ms: int | None) -> str:
    """A time to the second with its offset: ``2026-11-22 03:43:10 +01:00``."""
    return NOTHING if at_ms is None else _local(at_ms).isoformat(" ", "seconds").replace("+", " +")


def utc(at_ms: int | None) -> str:
    """A time for scripts, RFC 3339 in UTC: ``2026-11-22T02:51:07Z``."""
    if at_ms is None:
        return NOTHING
    try:
        return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return NOTHING  # somebody's editor was in the file that says so


def size(count: int) -> str:
    """Bytes, 1024-based: ``512 bytes``, ``71 KiB``, ``3.1 GiB``."""
    if count < 1024:
        return f"{count} bytes"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "KiB" else f"{value:.1f} {unit}"


def number(count: int) -> str:
    """A count with thin blanks between thousands."""
    return f"{count:,}".replace(",", THIN_BLANK)


def counted(count: int, thing: str) -> str:
    """``1 device``, ``3 devices``."""
    return f"{number(count)} {thing}{'' if count == 1 else 's'}"


def shortener(ids: Iterable[str]) -> dict[str, str]:
    """Short ids for a printed list, all of the length at which they differ."""
    whole = list(dict.fromkeys(ids))
    length = unique_lengths(whole)
    return {each: short_id(each, length) for each in whole}


def fingerprint_lines(fingerprint: str) -> tuple[str, str]:
    """All 64 digits in groups of four, on two lines."""
    return grouped(fingerprint[:32], 32), grouped(fingerprint[32:], 32)


def labels(values: dict[str, str], shown: int | None = None, separator: str = ",") -> str:
    """``k=v,k=v`` in the order of their keys, then ``+2`` for those beyond ``shown``.

    A group is a label without a value, and stands as its bare name.
    """
    pairs = [escaped(f"{key}={text}" if text else key) for key, text in sorted(values.items())]
    more = len(pairs) - shown if shown is not None else 0
    text = separator.join(pairs[:shown])
    return (f"{text} +{more}" if more > 0 else text) or NOTHING


def cut_end(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, with ``~`` where its end was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "~"


def cut_start(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, with ``~`` where its start was cut: for paths."""
    return text if len(text) <= width else "~" + text[len(text) - max(0, width - 1) :]


def cut_middle(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, its last three kept: ``build-age~-07``."""
    if len(text) <= width:
        return text
    tail = min(3, max(0, width - 2))
    return text[: max(0, width - 1 - tail)] + "~" + (text[-tail:] if tail else "")


def _local(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone()
