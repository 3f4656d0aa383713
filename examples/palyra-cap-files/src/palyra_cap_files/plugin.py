"""What this package offers to a node: files.fetch."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta
from palyra.capability import Capability, CapabilityContext, Risk, hookimpl

from palyra_cap_files.opening import MAX_PATH, PathRefused, opened

NAME = "files.fetch"
_MIB = 1024 * 1024
MAX_BYTES = 2 * _MIB
"""Of a piece; with base64 around it, it still fits into the largest payload of a job."""
_CHUNK = 256 * 1024
_AbsolutePath = Annotated[str, Meta(min_length=1, max_length=MAX_PATH, pattern="^/")]


class Fetch(msgspec.Struct, forbid_unknown_fields=True):
    """A file, and which piece of it; ``offset`` and ``max_bytes`` are bytes."""

    path: Annotated[_AbsolutePath, Meta(description="An absolute path on the device.")]
    offset: Annotated[int, Meta(ge=0)] = 0
    max_bytes: Annotated[int, Meta(ge=0, le=MAX_BYTES)] = 32 * 1024


class Fetched(msgspec.Struct):
    """``size`` and ``sha256`` (hex) are of the whole file, the content is the piece.

    ``truncated``: the file goes on behind the piece.
    """

    path: str
    size: int
    sha256: str
    modified_unix_ms: int
    offset: int
    content_base64: bytes
    truncated: bool


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """From which directories files may be fetched, with all that is below them."""

    directories: Annotated[list[_AbsolutePath], Meta(min_length=1, max_length=64)]
    max_file_mib: Annotated[int, Meta(ge=1, le=64 * 1024)] = 256


async def fetch(asked: Fetch, context: CapabilityContext) -> Fetched:
    """Read a piece of a file, and hash all of it."""
    settings: Settings = context.settings
    with opened(asked.path, settings.directories) as file:
        facts = os.fstat(file.fileno())
        if facts.st_size > settings.max_file_mib * _MIB:
            raise PathRefused(asked.path, f"it is larger than {settings.max_file_mib} MiB")
        digest = await _digest(file, facts.st_size, asked.path, context)
        file.seek(min(asked.offset, facts.st_size))  # far behind the end the system refuses
        content = file.read(max(0, min(asked.max_bytes, facts.st_size - asked.offset)))
    return Fetched(
        path=asked.path,
        size=facts.st_size,
        sha256=digest,
        modified_unix_ms=facts.st_mtime_ns // 1_000_000,
        offset=asked.offset,
        content_base64=content,
        truncated=asked.offset + len(content) < facts.st_size,
    )


async def _digest(file: BinaryIO, size: int, path: str, context: CapabilityContext) -> str:
    """SHA-256 of the first ``size`` bytes."""
    digest = hashlib.sha256()
    done = 0
    while done < size:
        chunk = file.read(min(_CHUNK, size - done))
        if not chunk:
            raise PathRefused(path, "it became shorter while it was read")
        digest.update(chunk)
        done += len(chunk)
        context.progress(done / size, f"{done // 1024} of {-(-size // 1024)} KiB")
        await asyncio.sleep(0)  # here a cancel, or the deadline, ends it
    return digest.hexdigest()


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """What this plugin brings."""
    return [
        Capability(
            name=NAME,
            description="Fetches a file, or a piece of one, from a directory that is allowed.",
            handler=fetch,
            input_type=Fetch,
            output_type=Fetched,
            settings_type=Settings,
            risk=Risk.MEDIUM,
            idempotent=True,
            timeout_s=300.0,
        )
    ]
