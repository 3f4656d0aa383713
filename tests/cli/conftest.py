"""A console that answers what a test tells it to, on a UNIX socket, and a known time zone."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec
import pytest

from palyra.cli import main
from palyra.console.models import JobEvent


@attrs.frozen
class Stream:
    """A stream of events: its pieces are sent one by one, a function among them is called.

    ``cut``: the connection breaks where the stream would end.
    """

    pieces: Sequence[bytes | Callable[[], object]]
    cut: bool = False

    @classmethod
    def of(cls, *events: JobEvent, cut: bool = False) -> Stream:
        """A stream of these events, written as the gateway writes them."""
        written = [
            b"event: %s\nid: %d\ndata: %s\n\n"
            % (event.kind.encode(), i, msgspec.json.encode(event))
            for i, event in enumerate(events)
        ]
        return cls([b": begin\n\n", *written], cut)


Body = msgspec.Struct | bytes | Stream
Answer = Body | list[Any] | Callable[[], Body]


class FakeConsole(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers by (method, path); a list is answered one by one, its last entry again and again."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[tuple[str, str], tuple[int, Answer]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        super().__init__(str(root / "console.sock"), _Handler)

    def on(self, method: str, path: str, answer: Answer, status: int = 200) -> None:
        """Answer that request so."""
        self.answers[method, "/console/v1/" + path] = (status, answer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault."""

    def bodies(self, method: str) -> list[Any]:
        """What was sent with that method."""
        return [body for each, _, _, body in self.asked if each == method]

    def run(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command on this root."""
        status = main([*args, "--state-root", str(self.root)])
        return status, *capsys.readouterr()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeConsole
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer(json.loads(self.rfile.read(length)))

    def _answer(self, body: Any) -> None:
        parts = urlsplit(self.path)
        found = parse_qs(parts.query).items()
        query = {key: ",".join(values) for key, values in found}
        self.server.asked.append((self.command, parts.path, query, body))
        status, answer = self.server.answers.get((self.command, parts.path), (404, b"not here"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer()
        if isinstance(answer, Stream):
            return self._stream(answer)
        data = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in stream.pieces:
            if callable(piece):
                piece()
            else:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if not stream.cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = stream.cut


@pytest.fixture
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeConsole]:
    """A console on a short path of its own."""
    server = FakeConsole(tmp_path_factory.mktemp("c"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Local times are those of UTC, and nothing of the caller's environment counts."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in (
        "NO_COLOR",
        "PALYRA_STATE_ROOT",
        "PALYRA_GATEWAY_URL",
        "COLUMNS",
        "LINES",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
