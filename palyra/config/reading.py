"""TOML files of the owner's: read, checked against their types, refused by the path of a value."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from palyra.core.devices import clean_text
from palyra.errors import ConfigInvalid, Malformed

MAX_PROBLEM = 240
MAX_BYTES = 4 * 1024 * 1024
_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_File = TypeVar("_File")


def read_bytes(path: Path, required: bool) -> bytes:
    """What is in a file; nothing where there is none and none is ``required``.

    One that nobody named must be a file: whoever owns its directory may have put a pipe there.

    :raises ConfigInvalid: it cannot be read.
    """
    try:
        with open(path, "rb", opener=None if required else _open) as file:
            if not required and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigInvalid(str(path), "file", "is not a file")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        if required:
            raise ConfigInvalid(str(path), "file", "does not exist") from error
        return b""
    except OSError as error:
        raise ConfigInvalid(str(path), "file", f"cannot be read ({error})") from error
    if len(data) > MAX_BYTES:
        raise ConfigInvalid(str(path), "file", f"is longer than {MAX_BYTES // 2**20} MiB")
    return data


def _open(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def as_text(data: bytes, path: Path) -> str:
    """The bytes of a file as text.

    :raises ConfigInvalid: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigInvalid(str(path), "file", f"cannot be read ({error})") from error


def parse_toml(
    text: str, kind: type[_File], file: str, described: Callable[[str], str] = lambda path: ""
) -> _File:
    """The text as ``kind``; ``file`` is only for errors.

    ``described`` says, for the path of a value, what it must be, where a pattern does not say it.

    :raises ConfigInvalid: naming the file, the value's path and what is wrong with it.
    """
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None, "the pattern matches every text"
        path, problem = found["path"] or "top level", found["problem"]
        problem = clean_text(described(path) or problem, MAX_PROBLEM)
        raise ConfigInvalid(file, path, problem) from error
    except Malformed as error:  # a rule that means nothing
        raise ConfigInvalid(file, error.field, clean_text(error.problem, MAX_PROBLEM)) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, a number of 5,000 digits
        raise ConfigInvalid(file, "syntax", clean_text(str(error), MAX_PROBLEM)) from error
