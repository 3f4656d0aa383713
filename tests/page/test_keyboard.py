"""The same without a mouse."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.integration.house import ALL_ALLOWED, PATIENT, Gateway, House, NodeHost
from tests.page.browser import Visitor, sign_in_link
from tests.page.conftest import Visits

MANY = 60
"""Stops between two things of one view; more would be nobody's patience."""


@pytest.fixture(scope="module")
def gateway(house: House) -> Gateway:
    """A gateway without devices."""
    return house.gateway(config=PATIENT, rules=ALL_ALLOWED).start()


@pytest.fixture(scope="module")
def pi(house: House) -> NodeHost:
    """A device that is not paired."""
    return house.node("pi")


def tab_to(who: Visitor, name: str) -> None:
    """Press Tab until something of that name has the focus; it can be seen there."""
    for _ in range(MANY):
        if who.focused == name:
            assert who.page.evaluate("() => document.activeElement.matches(':focus-visible')")
            return
        who.page.keyboard.press("Tab")
    raise AssertionError(f"{name} is not reached by Tab; {who.focused} is")


def press(who: Visitor, *keys: str) -> None:
    """Press keys one after the other."""
    for key in keys:
        who.page.keyboard.press(key)


def test_from_the_link_to_the_output(gateway: Gateway, pi: NodeHost, visits: Visits) -> None:
    """Sign in, make a code, approve, find the device, run a capability, leave."""
    who: Visitor = visits(f"http://localhost:{gateway.console_port}")
    who.page.goto(sign_in_link(gateway))
    expect(who.button("Sign in")).to_be_visible()
    tab_to(who, "Sign in")
    press(who, "Enter")
    who.heading("Devices")
    press(who, "g", "p")
    who.heading("Pairing")
    expect(who.page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(who, "Labels")
    who.page.keyboard.type("site=prague")
    press(who, "Enter")
    pin = who.main.locator(".pin").inner_text()
    pi.start_with_pin(gateway, pin)
    card = who.main.get_by_role("article")
    expect(card).to_contain_text("pi asks to be paired")
    tab_to(who, "Reason")
    who.page.keyboard.type("by hand")
    expect(card.get_by_role("button", name="Approve")).to_be_enabled()
    tab_to(who, "Approve")
    press(who, "Enter")
    who.told("pi approved.")
    press(who, "g", "d")
    who.heading("Devices")
    expect(who.row("pi")).to_contain_text("online")
    press(who, "/")
    assert who.focused == "Search devices"
    who.page.keyboard.type("nobody")
    who.says("Nothing matches.")
    press(who, "Control+a", "Backspace")
    expect(who.row("pi")).to_be_visible()
    press(who, "Escape", "j", "Enter")
    who.heading("pi")
    press(who, "r")
    who.heading("Run a capability")
    who.page.get_by_label("Capability").select_option("echo")
    tab_to(who, "Input as JSON")
    press(who, "Control+a")
    who.page.keyboard.type("[1, 2]")
    tab_to(who, "Run on pi")
    press(who, "Enter")
    who.heading("Job")
    expect(who.page.get_by_label("Output", exact=True)).to_contain_text('"echo"')
    who.page.get_by_role("heading", level=1).focus()
    press(who, "t")
    expect(who.page.locator("html")).to_have_attribute("data-theme", "light")
    press(who, "t")
    expect(who.page.locator("html")).to_have_attribute("data-theme", "dark")
    tab_to(who, "Sign out")
    press(who, "Enter")
    who.heading("Sign in")
    who.forgive("401")


def test_a_dialog_gives_the_focus_back(gateway: Gateway, pi: NodeHost, visits: Visits) -> None:
    """Escape changes nothing; the focus is where it was, and never left the dialog before."""
    who: Visitor = visits(f"http://localhost:{gateway.console_port}")
    who.sign_in(sign_in_link(gateway))
    press(who, "j", "Enter")
    who.heading("pi")
    tab_to(who, "Actions")
    press(who, "Enter")
    tab_to(who, "Revoke")
    press(who, "Enter")
    expect(who.dialog).to_contain_text(re.compile("session within a second"))
    for _ in range(8):
        press(who, "Tab")
        assert who.page.evaluate(
            "() => document.activeElement === document.body"
            " || document.querySelector('dialog').contains(document.activeElement)"
        )
    press(who, "Escape")
    expect(who.dialog).to_have_count(0)
    assert who.focused == "Actions"
    assert gateway.node(pi.device_id).trust == "trusted"
