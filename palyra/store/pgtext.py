"""Text on its way to PostgreSQL, which cannot keep U+0000.  Imported with the driver only."""

from __future__ import annotations

from typing import Any

from psycopg.types.string import StrDumperUnknown


class TextDumper(StrDumperUnknown):
    """Writes U+FFFD for U+0000: what a device says must not keep its job from ending."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)
