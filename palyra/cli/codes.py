"""How a new pairing code is shown: the only time that anybody sees it."""

from __future__ import annotations

import io

from palyra.cli import words
from palyra.cli.present import Screen
from palyra.console.models import MintedCode

PAIRING_PORT = ":7443"
"""Where devices pair unless another port is told; a hint leaves it out."""
_LABEL = 9
_INDENT = " " * _LABEL
_QR_BORDER = 2
_LINES_BELOW_QR = 5


def show(screen: Screen, minted: MintedCode) -> None:
    """A PIN, or a pairing line with its QR code; until when it is good, and what comes next."""
    if not screen.tty:
        kind, code = ("pin", minted.pin) if minted.pin else ("uri", minted.uri)
        screen.pair(kind, code)
        return screen.pair("expires", words.utc(minted.code.expires_at_unix_ms))
    if minted.pin:
        screen.parts(("PIN".ljust(_LABEL), ""), (minted.pin, "bold"))
    else:
        for line in _qr(screen, minted.uri):
            screen.parts((_INDENT, ""), (line, "#ffffff on #000000"))
        screen.line(_INDENT + minted.uri)
    screen.line("valid".ljust(_LABEL) + ", ".join(_limits(screen, minted)))
    screen.hint(f"on the device: {_next(minted)}", "hint".ljust(_LABEL))
    if minted.loopback_only:
        address = words.escaped(minted.address)
        screen.aside("note".ljust(_LABEL) + f"only this machine can reach {address}")
    return None


def _limits(screen: Screen, minted: MintedCode) -> list[str]:
    """What the code is good for."""
    made = minted.code
    limits = [
        f"{words.span(made.expires_at_unix_ms - made.issued_at_unix_ms)} "
        f"(until {words.clock(made.expires_at_unix_ms, screen.now())})",
        "one device",
    ]
    if minted.pin:
        limits.append("five wrong tries")
    if made.source:
        limits.append(f"from {words.escaped(made.source)}")
    if made.labels:
        limits.append(words.labels(made.labels))
    return limits


def _next(minted: MintedCode) -> str:
    """The command that takes the code on the device."""
    if minted.pin:
        gateway = words.escaped(minted.address).removesuffix(PAIRING_PORT)
        return f"palyra node run --gateway {gateway}"
    return "palyra node run --pairing-uri -  (then paste that line)"


def _qr(screen: Screen, uri: str) -> list[str]:
    """The code as half blocks, or nothing where the terminal cannot show it."""
    encoding = (screen.out.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return []
    import segno

    drawn = io.StringIO()
    made = segno.make(uri, error="l", boost_error=False, micro=False)
    made.terminal(drawn, border=_QR_BORDER, compact=True)
    lines = drawn.getvalue().splitlines()
    width = max(map(len, lines)) + len(_INDENT)
    fits = width <= screen.width and len(lines) + _LINES_BELOW_QR <= screen.height
    return lines if fits else []
