"""The passphrase of a backup: typed without echo, or the first line of a file."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import click

from palyra._files import check_private

LEAST = 8
"""Characters of a new passphrase."""
_MAX = 1024

option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE|-",
    help="The passphrase is its first line; - reads stdin (default: it is asked for).",
)


def asked(file: Path | None, *, new: bool) -> bytes:
    """The passphrase as bytes, from a file (``-``: stdin) or a person, who types a new one twice.

    :raises palyra.errors.KeyFilePermission: others may read the file.
    :raises click.UsageError: there is none, or it is too short for a new one.
    """
    if file is None:
        typed = _typed(new)
    else:
        try:
            typed = _first_line(file).decode()
        except UnicodeDecodeError as error:
            raise click.UsageError("the passphrase is not UTF-8") from error
    # Keyboards write the same letter in different ways.
    passphrase = unicodedata.normalize("NFC", typed)
    if len(passphrase) < (LEAST if new else 1):
        raise click.UsageError(f"a passphrase has at least {LEAST} characters")
    return passphrase.encode()


def _typed(new: bool) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("without a terminal --passphrase-file is needed")
    again = "The same again" if new else False
    typed: str = click.prompt(
        "Passphrase of the backup", hide_input=True, confirmation_prompt=again, err=True
    )
    return typed


def _first_line(file: Path) -> bytes:
    if str(file) == "-":
        line = sys.stdin.buffer.readline(_MAX)
    else:
        if file.is_file():
            check_private(file)
        with file.open("rb") as opened:
            line = opened.readline(_MAX)
    return line.rstrip(b"\r\n")
