"""Every view, as people see it: for all eyes, on every screen, by day and by night."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.page import pictures
from tests.page.browser import NAME, Visitor, axe_source
from tests.page.conftest import Visits
from tests.page.furnished import Furnished, furnished

WIDE = {"width": 1200, "height": 820}
PHONE = {"width": 360, "height": 740}
NARROW = {"width": 320, "height": 640}
"""As wide as a window of 1280 pixels at 400 % (WCAG 2.2, 1.4.10)."""
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def world() -> Iterator[Furnished]:
    """A gateway at work."""
    with furnished(int(time.time() * 1000)) as world:
        yield world


@pytest.fixture(scope="module")
def ana(browser: Browser, world: Furnished) -> Iterator[Visitor]:
    """An admin who is signed in from afar, over TLS."""
    visitor = Visitor(
        browser, f"https://{NAME}:{world.gateway.console_port}", viewport=WIDE,
        reduced_motion="reduce",
    )  # fmt: skip
    visitor.sign_in(re.sub("^https?://[^/]*", visitor.origin, world.ana.link()))
    yield visitor
    visitor.close()


Shown = Callable[[Visitor, Furnished], None]


def devices(ana: Visitor, world: Furnished) -> None:
    """The inventory."""
    ana.go("/devices", "Devices")
    expect(ana.main.get_by_text("online").last).to_be_visible()


def device(ana: Visitor, world: Furnished) -> None:
    """One device, and what it can do."""
    ana.go(f"/devices/{world.pi.device_id}", "pi")
    ana.says("files.fetch")


def device_jobs(ana: Visitor, world: Furnished) -> None:
    """Its jobs."""
    ana.go(f"/devices/{world.pi.device_id}?tab=jobs", "pi")
    ana.says("succeeded")


def device_pairing(ana: Visitor, world: Furnished) -> None:
    """How it came in."""
    ana.go(f"/devices/{world.pi.device_id}?tab=pairing", "pi")
    ana.says("PIN by")


def device_events(ana: Visitor, world: Furnished) -> None:
    """What happened to it."""
    ana.go(f"/devices/{world.pi.device_id}?tab=events", "pi")
    ana.says("device approved")


def revoking(ana: Visitor, world: Furnished) -> None:
    """The question that stops."""
    device(ana, world)
    ana.main.locator("summary").filter(has_text="Actions").click()
    ana.button("Revoke").click()
    expect(ana.dialog).to_contain_text("It must pair again.")


def pairing(ana: Visitor, world: Furnished) -> None:
    """A QR code, and somebody who waits."""
    ana.go("/pairing", "Pairing")
    ana.says("garden asks to be paired")
    ana.page.get_by_label("QR").check()
    ana.button("Make code").click()
    expect(ana.main.get_by_role("img", name="QR code")).to_be_visible()
    ana.page.evaluate("() => scrollTo(0, 0)")


def approvals(ana: Visitor, world: Furnished) -> None:
    """All that waits."""
    ana.go("/approvals", "Approvals")
    ana.says("asks desktop.open_url on pi")
    ana.says("garden asks to be paired")
    for each in ana.main.get_by_role("button", name="Approve").all():
        expect(each).to_be_enabled()


def approval(ana: Visitor, world: Furnished) -> None:
    """One call that somebody asks for."""
    ana.go(f"/approvals/{world.approval}", "Approval")
    ana.says("https://example.org/docs/palyra?page=2")


def jobs(ana: Visitor, world: Furnished) -> None:
    """The newest jobs."""
    ana.go("/jobs", "Jobs")
    ana.says("files.fetch")


def job(ana: Visitor, world: Furnished) -> None:
    """A job that goes on."""
    ana.go(f"/jobs/{world.running}", "Job")
    ana.says("48%")


def ended(ana: Visitor, world: Furnished) -> None:
    """A job that has ended, and its output."""
    ana.go(f"/jobs/{world.ended}", "Job")
    expect(ana.page.get_by_label("Output", exact=True)).to_be_visible()


def fanout(ana: Visitor, world: Furnished) -> None:
    """One call to several devices."""
    ana.go(f"/fanouts/{world.fanout}", "Fan-out")
    ana.says("rejected")


def run(ana: Visitor, world: Furnished) -> None:
    """A form from a schema."""
    ana.go(f"/run?device={world.pi.device_id}&capability=desktop.open_url", "Run a capability")
    ana.page.get_by_label("url").fill("https://example.org/docs/palyra")


def run_json(ana: Visitor, world: Furnished) -> None:
    """The same as JSON, refused."""
    ana.go("/run?where=has(echo)", "Run a capability")
    ana.button("JSON").click() if ana.button("JSON").count() else None
    ana.page.get_by_label("Input as JSON").fill("{")
    ana.page.get_by_role("button", name="Run on").click()
    expect(ana.page.get_by_label("Input as JSON")).to_have_attribute("aria-invalid", "true")


def audit(ana: Visitor, world: Furnished) -> None:
    """What was done."""
    ana.go("/audit", "Audit")
    ana.says("pairing.approved")


def audit_row(ana: Visitor, world: Furnished) -> None:
    """All of one row."""
    audit(ana, world)
    ana.main.get_by_role("button", name="pairing.approved").first.click()
    expect(ana.dialog).to_contain_text("hash")


def nowhere(ana: Visitor, world: Furnished) -> None:
    """A device that is not there."""
    ana.go("/devices?q=nobody", "Devices")
    ana.says("Nothing matches.")


def keys(ana: Visitor, world: Furnished) -> None:
    """The keys, for those who like them."""
    ana.go("/devices", "Devices")
    ana.page.keyboard.press("?")
    expect(ana.dialog).to_contain_text("next, previous row")


VIEWS = (
    devices, audit, audit_row, device, device_jobs, device_pairing, device_events, revoking,
    pairing, approvals, approval, jobs, job, ended, fanout, run, run_json, nowhere, keys,
)  # fmt: skip


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> str:
    """axe-core."""
    return axe_source()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view.__name__))
def test_a_view(view: Shown, ana: Visitor, world: Furnished, axe: str) -> None:
    """axe-core finds no serious fault, by day and by night; nothing scrolls sideways on a phone,
    and nothing moves for those who do not want it."""
    ana.page.set_viewport_size(WIDE)
    faults = []
    for theme in THEMES:
        ana.page.emulate_media(color_scheme=theme)
        view(ana, world)
        faults += faults_of(ana, axe, theme)
        pictures.take(ana.page, f"{view.__name__}-{theme}")
    for name, size in (("phone", PHONE), ("narrow", NARROW)):
        ana.page.set_viewport_size(size)
        view(ana, world)
        if wide := ana.wider_than_screen():
            faults.append(f"{name}: {wide}")
        if name == "phone":
            faults += faults_of(ana, axe, name)
            pictures.take(ana.page, f"{view.__name__}-{name}")
    faults += ana.page.evaluate("() => document.getAnimations().map((each) => each.animationName)")
    assert faults == []


def test_what_a_role_lacks_is_not_shown(world: Furnished, visits: Visits) -> None:
    """An operator runs and cancels their own; they neither pair, decide nor change devices."""
    bo: Visitor = visits(f"https://{NAME}:{world.gateway.console_port}")
    bo.sign_in(re.sub("^https?://[^/]*", bo.origin, world.bo.link()))
    expect(bo.row("pi")).to_be_visible()
    expect(bo.link("Pair a device")).to_have_count(0)
    device(bo, world)
    expect(bo.link("Run")).to_be_visible()
    expect(bo.main.locator("summary")).to_have_count(0)
    expect(bo.main.get_by_role("button", name="Withhold")).to_have_count(0)
    bo.section("Pairing")
    bo.says("garden asks to be paired")
    for name in ("Make code", "Approve", "Reject"):
        expect(bo.button(name)).to_have_count(0)
    approval(bo, world)
    expect(bo.button("Approve")).to_have_count(0)
    bo.go(f"/jobs/{world.running}", "Job")
    bo.says("48%")
    expect(bo.button("Cancel")).to_have_count(0)


def faults_of(who: Visitor, axe: str, where: str) -> list[str]:
    """What axe-core calls serious, and where."""
    who.page.evaluate(axe)
    found: dict[str, Any] = who.page.evaluate("() => axe.run(document)")
    assert {"color-contrast", "button-name"} <= {each["id"] for each in found["passes"]}
    return [
        f"{where}: {fault['id']}: {node['html'][:160]} {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]
