"""A stream to a gateway over quiche and BoringSSL, by way of the program in ``quiche_client``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import attrs
import msgspec
import pytest

from palyra.transport.chain import TLS_NAME

LIMIT_S = 20.0
INSTALL_S = 300.0
SOURCES = Path(__file__).with_name("quiche_client")
INSTALLED = Path(__file__).parents[2] / "build" / "quiche_client"
FILES = ("package.json", "package-lock.json")
PROGRAM = "client.mjs"


# -- the program ----------------------------------------------------------------------------------


def program() -> Path:
    """The installed program; the test is skipped where it is not and cannot be.

    It is installed from the npm registry, at the versions and hashes of its lock file, where
    ``INTEROP=1`` asks for it.
    """
    if not _is_current():
        if os.environ.get("INTEROP") != "1":
            pytest.skip("the quiche client is not installed: INTEROP=1")
        _install()
    shutil.copy(SOURCES / PROGRAM, INSTALLED)
    return INSTALLED / PROGRAM


def _is_current() -> bool:
    """Whether what is installed is what the lock file names; npm writes its own list last."""
    if shutil.which("node") is None or not (INSTALLED / "node_modules/.package-lock.json").exists():
        return False
    return all((INSTALLED / name).read_bytes() == (SOURCES / name).read_bytes() for name in FILES)


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("the quiche client needs npm and Node.js")
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir(parents=True)
    for name in FILES:
        shutil.copy(SOURCES / name, INSTALLED)
    # Not "npm ci": it wants every platform's binaries listed, and not all of them were published.
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        command, cwd=INSTALLED, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        pytest.skip(f"npm could not install the quiche client: {' '.join(errors[:3])}")


# -- what it sees ---------------------------------------------------------------------------------


class Connected(msgspec.Struct, frozen=True, tag_field="saw", tag="connected"):
    """The handshake is done, and the server is who it should be."""


class Frame(msgspec.Struct, frozen=True, tag_field="saw", tag="frame"):
    """A frame came."""

    hex: str


class End(msgspec.Struct, frozen=True, tag_field="saw", tag="end"):
    """The server ended its side of the stream."""


class Reset(msgspec.Struct, frozen=True, tag_field="saw", tag="reset"):
    """The server broke the stream off."""

    code: int


class Closed(msgspec.Struct, frozen=True, tag_field="saw", tag="closed"):
    """``by`` one side, "peer" or "local", the connection was closed with this error."""

    by: str
    app: bool
    code: int
    reason: str

    @property
    def refusal(self) -> str:
        """The stable code of our error, from the reason phrase."""
        return str(json.loads(self.reason)["code"])


class Lost(msgspec.Struct, frozen=True, tag_field="saw", tag="lost"):
    """The connection ended in another way."""

    error: str


Sight = Connected | Frame | End | Reset | Closed | Lost
_READ = msgspec.json.Decoder(Sight)


# -- the stream -----------------------------------------------------------------------------------


@attrs.frozen
class Credentials:
    """The files that a client is given: the CA it trusts, and its own chain and key, if any."""

    ca: Path
    chain: Path | None = None
    key: Path | None = None

    @property
    def files(self) -> list[Path]:
        """In the order in which the program takes them."""
        return [file for file in (self.ca, self.chain, self.key) if file is not None]


class QuicheStream:
    """A connection with one stream: frames are sent as they are given, and seen in order."""

    def __init__(self, address: str, credentials: Credentials, name: str = TLS_NAME) -> None:
        self._process = subprocess.Popen(
            ["node", str(program()), address, name, *map(str, credentials.files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._sights: SimpleQueue[Sight] = SimpleQueue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._sights.put(_READ.decode(line))

    # -- what is said ---------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send one frame, of any length."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data.hex().encode() + b"\n")
            self._process.stdin.flush()

    def ask(self, method: str, **more: Any) -> None:
        """Send the frame that every request begins with."""
        self.send(json.dumps({"protocol_version": 1, "method": method, **more}).encode())

    def finish(self) -> None:
        """End our side of the stream."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    # -- what is seen ---------------------------------------------------------------------------

    def sight(self) -> Sight:
        """The next thing that happens, other than that the connection is there."""
        while True:
            try:
                sight = self._sights.get(timeout=LIMIT_S)
            except Empty:
                raise AssertionError(f"nothing was seen for {LIMIT_S:g} s") from None
            if not isinstance(sight, Connected):
                return sight

    def frame(self) -> bytes:
        """The next frame."""
        sight = self.sight()
        assert isinstance(sight, Frame), sight
        return bytes.fromhex(sight.hex)

    def answer(self) -> dict[str, Any]:
        """The next frame, which is JSON."""
        answer: dict[str, Any] = json.loads(self.frame())
        assert answer["protocol_version"] == 1, answer
        return answer

    def closed(self) -> Closed:
        """How the connection was closed, which is what happens next."""
        sight = self.sight()
        assert isinstance(sight, Closed), sight
        return sight

    def close(self) -> None:
        """End the program, whatever it does."""
        self._process.kill()
        self._process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def stream(address: str, credentials: Credentials, name: str = TLS_NAME) -> Iterator[QuicheStream]:
    """A stream that is gone at the end of the block."""
    opened = QuicheStream(address, credentials, name)
    try:
        yield opened
    finally:
        opened.close()
