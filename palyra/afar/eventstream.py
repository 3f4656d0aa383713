"""Server-sent events as they come in pieces: pure, so that every cut can be tested.

Format: WHATWG HTML, section 9.2.6, as far as the gateway uses it.
"""

from __future__ import annotations

MAX_LINE = 4 * 1024 * 1024


class EventReader:
    """Takes bytes as they arrive and gives the data of every event that is whole.

    Comments (the keep-alive), names and ids of events are passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that ``data`` completes, oldest first.

        :raises ValueError: for a line that no event of ours can have.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ValueError("an event that does not end")
        found: list[bytes] = []
        for line in lines:
            self._read(line.removesuffix(b"\r"), found)
        return found

    def _read(self, line: bytes, found: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            found.append(b"\n".join(self._data))
            self._data = []
