"""``palyra console``: the gateway's page."""

from __future__ import annotations

import click
import msgspec

from palyra.cli import browsing, words
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.cli.present import Screen
from palyra.console.models import NoBody, SignInLink
from palyra.core.identifiers import grouped


@click.group(cls=VerbGroup)
def console() -> None:
    """Sign in to the gateway's page."""


@console.command()
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser, instead of typing it.")
@pass_call
def login(call: Call, open_it: bool) -> None:
    """Print a link that signs you in to the page, once and within two minutes."""
    answer = call.console.post("auth/link", NoBody(), SignInLink)
    made = _as_reached(call, answer.value)
    if not open_it:
        return _tell(call.screen, made)
    with browsing.opened(made.link) as found:
        if not found:
            call.screen.aside("note  no browser could be opened here")
        _tell(call.screen, made)
    return None


def _tell(screen: Screen, made: SignInLink) -> None:
    if screen.as_json:
        return screen.json(msgspec.json.encode(made))
    return show(screen, made)


def _as_reached(call: Call, made: SignInLink) -> SignInLink:
    """From afar the page is where the console is, whatever the gateway calls itself."""
    context = call.afar
    if context is None:
        return made
    _, _, token = made.link.partition("/login#")
    return msgspec.structs.replace(made, link=f"{context.url}/login#{token}")


def show(screen: Screen, made: SignInLink) -> None:
    """The link, and what the browser will say of its certificate."""
    over_tls = made.link.startswith("https:")
    if not screen.tty:
        screen.pair("link", made.link)
        screen.pair("expires", words.utc(made.expires_at_unix_ms))
        return screen.pair("certificate", made.certificate_fingerprint if over_tls else "-")
    screen.line(made.link)
    screen.aside(f"note  for one use, until {words.clock(made.expires_at_unix_ms, screen.now())}")
    if over_tls:
        shown = grouped(made.certificate_fingerprint, 64)
        screen.aside(
            "note  the browser will warn once: this gateway signs its own certificate, "
            f"SHA-256 {shown}"
        )
    return None
