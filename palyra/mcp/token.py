"""The bearer token of the HTTP server: a file that only its owner may read."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from palyra._files import check_private, write_atomic
from palyra.errors import KeyFilePermission, McpTokenUnusable

TOKEN_BYTES = 32
MAX_FILE = 4096
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,512}\Z", re.ASCII)


def token_of(file: Path) -> bytes:
    """The token in a file; it is made where it is missing.

    :raises McpTokenUnusable: others may read it, or it holds no token of 32 characters or more.
    """
    try:
        if not file.exists():
            write_atomic(file, f"{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode())
        check_private(file)
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE).decode("ascii").strip()
    except KeyFilePermission as error:
        raise McpTokenUnusable(str(file), "others may read it") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
        raise McpTokenUnusable(str(file), reason or "it is no text") from error
    if not _TOKEN.match(text):
        raise McpTokenUnusable(str(file), "it has no 32 characters that a header may carry")
    return text.encode()
