"""A capability that takes as long as a test wants, and says how far it is."""

from __future__ import annotations

from pathlib import Path

from tests.integration import plugin

FETCH = "files.fetch"

_MODULE = '''
import asyncio
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from palyra.capability import Capability, Risk, hookimpl

PathText = Annotated[str, msgspec.Meta(
    description="An absolute path. <img/src=//example.net/x>", pattern="^/", min_length=1,
)]


class Fetch(msgspec.Struct, forbid_unknown_fields=True):
    path: PathText
    verify: bool = True
    compression: Literal["none", "gzip", "zstd"] = "none"


async def fetch(asked: Fetch, context) -> dict[str, str]:
    """Half of it, then nothing more until there is a file; a cancel is honoured at that moment."""
    file = Path(asked.path)
    try:
        await there(file, context)
    except asyncio.CancelledError:
        await there(file, context)
        raise
    return {"fetched": asked.path}


async def there(file, context):
    while not file.exists():
        context.progress(0.48, "3.1 MiB of 6.4 MiB")
        await asyncio.sleep(0.12)


@hookimpl
def palyra_capabilities():
    return [
        Capability(
            name="files.fetch", description="Fetches a file from the device.", handler=fetch,
            input_type=Fetch, output_type=dict[str, str], risk=Risk.MEDIUM, timeout_s=3600.0,
        )
    ]
'''


def install(directory: Path) -> Path:
    """Put it where a node finds it."""
    return plugin.install(directory, "files", _MODULE)
