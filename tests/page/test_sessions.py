"""Browser sessions: over TLS, after a gateway's restart, and with links that were used."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.integration.house import PATIENT, Gateway, House
from tests.page.browser import Visitor, sign_in_link
from tests.page.conftest import Visits


@pytest.fixture(scope="module")
def gateway(house: House) -> Gateway:
    """A gateway without devices."""
    return house.gateway(config=PATIENT).start()


def origin_of(gateway: Gateway, scheme: str = "http") -> str:
    """Where its page is."""
    return f"{scheme}://localhost:{gateway.console_port}"


def test_over_tls(gateway: Gateway, visits: Visits) -> None:
    """The same page; no script sees the cookie, and it never leaves over plain HTTP."""
    who: Visitor = visits(origin_of(gateway, "https"))
    who.sign_in(sign_in_link(gateway).replace("http:", "https:"))
    who.says("No devices yet.")
    (cookie,) = who.context.cookies()
    assert cookie["name"].startswith("palyra_console_session")
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict"
    assert "palyra" not in who.page.evaluate("() => document.cookie")
    who.page.reload()
    who.heading("Devices")


def test_a_link_works_once(gateway: Gateway, visits: Visits) -> None:
    """Who opens it again is told what to do, and is not signed in."""
    link = sign_in_link(gateway)
    first: Visitor = visits(origin_of(gateway))
    first.sign_in(link)
    second: Visitor = visits(origin_of(gateway))
    second.page.goto(link)
    second.says("That sign-in link was used or has expired.")
    second.says("palyra console login")
    expect(second.page.locator("#sign-out")).to_be_hidden()
    assert not second.context.cookies()
    second.forgive("401")


def test_a_gateway_that_is_away_and_forgets(gateway: Gateway, visits: Visits) -> None:
    """The page says since when it is not live, then that the session is over, and by what to sign
    in again; what it shows stays."""
    who: Visitor = visits(origin_of(gateway))
    who.sign_in(sign_in_link(gateway))
    bar = who.page.locator("#bar")
    gateway.process.terminate()
    expect(bar).to_contain_text("Not live since")
    gateway.start()
    expect(bar).to_contain_text("palyra console login")
    who.says("No devices yet.")
    expect(who.page.locator("body")).to_contain_class("signed-out")
    who.forgive("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "401")
    who.sign_in(sign_in_link(gateway))
    expect(bar).to_be_hidden()
