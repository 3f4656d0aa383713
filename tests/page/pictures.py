"""The pictures of the documentation, which are taken where ``PICTURES=1``."""

from __future__ import annotations

import io
import os
from pathlib import Path

from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
KEPT = {
    f"{view}-{theme}"
    for view in ("devices", "device", "pairing", "approvals", "job", "run", "audit")
    for theme in ("light", "dark")
} | {"devices-phone", "pairing-phone"}
MAX_BYTES = 120 * 1024
COLOURS = 128


def take(page: Page, name: str) -> None:
    """Take a picture of what is on the screen, if it is one of those that are kept."""
    if os.environ.get("PICTURES") and name in KEPT:
        FOLDER.mkdir(exist_ok=True)
        clip = page.evaluate(_FILLED)
        small = with_palette(page.screenshot(animations="disabled", caret="hide", clip=clip))
        assert len(small) <= MAX_BYTES, f"{name} is {len(small)} bytes"
        (FOLDER / f"{name}.png").write_bytes(small)


_FILLED = """
() => {
  const view = document.querySelector("#main > .view").getBoundingClientRect();
  const height = innerWidth < 640 ? innerHeight : Math.min(innerHeight, view.bottom + 24);
  return { x: 0, y: 0, width: innerWidth, height: Math.max(height, 400) };
}
"""
"""The part of the screen on which there is something."""


def with_palette(png: bytes) -> bytes:
    """The same picture in few colours, a third as large."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
