"""The files of the page: read once, compressed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import attrs

from palyra.console.answers import compressed, etag_of, takes_gzip, unchanged

ROOT = "/static/"
_TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "json": b"application/json",
    "png": b"image/png",
    "svg": b"image/svg+xml",
    "txt": b"text/plain; charset=utf-8",
}
"""Nothing else is served: a file of another kind in that directory is none of the page's."""


@attrs.frozen
class Asset:
    """Something that is the same for everybody until the next release."""

    media_type: bytes
    body: bytes
    zipped: bytes
    etag: bytes

    @classmethod
    def of(cls, media_type: bytes, body: bytes) -> Asset:
        """From its plain bytes."""
        return cls(media_type, body, compressed(body), etag_of(body))

    def answer(self, request: Any) -> bytes:
        """The body for a request; its headers are set.  A browser asks each time whether it
        changed: an upgrade never leaves half an old page."""
        request.setHeader(b"cache-control", b"no-cache")
        if unchanged(request, self.etag):
            return b""
        request.setHeader(b"content-type", self.media_type)
        if takes_gzip(request) and len(self.zipped) < len(self.body):
            request.setHeader(b"content-encoding", b"gzip")
            return self.zipped
        return self.body


def read_assets() -> Mapping[str, Asset]:
    """The files of ``palyra/console/static`` by their path, which begins with :data:`ROOT`."""
    return dict(_assets(files("palyra.console").joinpath("static"), ROOT))


def _assets(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _assets(each, f"{path}{each.name}/")
        elif (media_type := _TYPES.get(each.name.rpartition(".")[2])) is not None:
            yield path + each.name, Asset.of(media_type, each.read_bytes())
