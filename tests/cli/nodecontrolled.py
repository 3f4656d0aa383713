"""A node host's control socket that answers what a test tells it to."""

from __future__ import annotations

import json
import socketserver
from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra.cli import main


class FakeNodeHost(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers by verb; an answer is a struct, bytes as they are, or nothing."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, msgspec.Struct | bytes] = {}
        self.asked: list[dict[str, Any]] = []
        (root / "node-host").mkdir()
        super().__init__(str(root / "node-host" / "control.sock"), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no fault."""

    def run(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of ``palyra node`` with these arguments."""
        status = main(["node", *args, "--state-root", str(self.root)])
        return status, *capsys.readouterr()


class _Handler(socketserver.StreamRequestHandler):
    server: FakeNodeHost

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        self.server.asked.append(asked)
        answer = self.server.answers.get(asked["verb"], b"")
        if isinstance(answer, msgspec.Struct):
            answer = msgspec.json.encode(answer) + b"\n"
        self.wfile.write(answer)
