"""Asking systemd about a unit: ``systemctl show``, whose output is made for programs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
from palyra.errors import Category, PalyraError

PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "Description", "Result",
    "StateChangeTimestampMonotonic", "MainPID", "NRestarts", "MemoryCurrent",
)  # fmt: skip
TIME_S = 10.0
_MOST_BYTES = 64 * 1024
_UNIT = re.compile(
    r"[A-Za-z0-9:_.\\@-]{1,240}\."
    r"(?:automount|device|mount|path|scope|service|slice|socket|swap|target|timer)\Z",
    re.ASCII,
)

Show = Callable[[str], Awaitable[bytes]]
"""What ``systemctl show`` prints of a unit."""


@attrs.define
class SystemdUnusable(PalyraError):
    """systemd did not answer; ``why`` has no point at its end."""

    code = "systemd_unusable"
    category = Category.PRECONDITION
    why: str

    @property
    def sentence(self) -> str:
        return f"systemd says nothing: {self.why}."

    @property
    def hint(self) -> str:
        return "on the device: systemctl status"


def full_name(unit: str) -> str:
    """A unit's name with its type, which is ``.service`` where none is given; '' for what cannot
    be the name of a unit."""
    named = unit if _UNIT.match(unit) else f"{unit}.service"
    return named if _UNIT.match(named) and not named.startswith(("-", ".")) else ""


async def systemctl(unit: str) -> bytes:
    """Run ``systemctl show``.

    :raises SystemdUnusable: there is none, it failed, or it took too long.
    """
    command = ("systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", unit)
    try:
        async with asyncio.timeout(TIME_S):
            return await _output(command)
    except TimeoutError as error:
        raise SystemdUnusable(f"systemctl did not answer within {TIME_S:g} s") from error
    except OSError as error:
        raise SystemdUnusable(f"systemctl cannot be run ({error.strerror})") from error


async def _output(command: Sequence[str]) -> bytes:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None and child.stderr is not None
    complaints = asyncio.create_task(_all(child.stderr))
    try:
        said = await _all(child.stdout)
        complained = await complaints
        if await child.wait() != 0:
            first = complained.decode("utf-8", "replace").strip().partition("\n")[0][:200]
            raise SystemdUnusable(first.rstrip(".") or f"systemctl ended with {child.returncode}")
        return said
    finally:  # a cancel comes here too: nothing of it is left behind
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        complaints.cancel()
        await asyncio.gather(complaints, return_exceptions=True)
        # Its end is not seen before the end of its pipes, and a full one is not read any more.
        for stream in (child.stdout, child.stderr):
            while await stream.read(_MOST_BYTES):
                pass
        await child.wait()


async def _all(stream: asyncio.StreamReader) -> bytes:
    """Everything up to the end, as far as that is sensible."""
    parts, size = [], 0
    while part := await stream.read(_MOST_BYTES):
        size += len(part)
        if size > _MOST_BYTES:
            raise SystemdUnusable(f"it says more than {_MOST_BYTES // 1024} KiB")
        parts.append(part)
    return b"".join(parts)


def parsed(output: bytes) -> Mapping[str, str]:
    """The properties that were asked for; each is there, empty where systemd did not say it."""
    lines = output.decode("utf-8", "replace").splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    return {name: said.get(name, "") for name in PROPERTIES}


def number(text: str) -> int | None:
    """A number of systemd's; None where it has none, which it writes in several ways."""
    value = int(text) if text.isascii() and text.isdecimal() else 0
    return value if 0 < value < 2**63 else None
