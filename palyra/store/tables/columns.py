"""The metadata of all tables, and the kinds of their columns."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, MetaData, Text, false

metadata = MetaData()


def text_column(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def text_or(name: str, default: str = "") -> Column[str]:
    """A text that rows of an older schema do not have."""
    return Column(name, Text, nullable=False, server_default=default)


def maybe_text(name: str) -> Column[str]:
    return Column(name, Text)


def number_column(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def maybe_number(name: str) -> Column[int]:
    return Column(name, BigInteger)


def maybe_bytes(name: str) -> Column[bytes]:
    """Bytes that may be absent, or were erased: NULL."""
    return Column(name, LargeBinary)


def flag_column(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def flag_or_not(name: str) -> Column[bool]:
    """A flag that rows of an older schema do not have."""
    return Column(name, Boolean, nullable=False, server_default=false())
