"""``[store]``: where the record is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``url`` of a PostgreSQL database; empty: SQLite in the state root."""

    url: Annotated[str, msgspec.Meta(pattern=r"^(postgresql(\+psycopg)?://.*)?$")] = ""

    def __repr__(self) -> str:
        """Without the URL: it may have a password in it."""
        return f"StoreSection(url={'...' if self.url else ''!r})"
