"""What the page costs: its size on the wire, and a list that is very long."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.integration.house import ALL_ALLOWED, PATIENT, Gateway, House
from tests.page.browser import Visitor, sign_in_link
from tests.page.conftest import Visits
from tests.page.furnished import device, keep

BUDGET = 60 * 1024
DEVICES = 10_000
MAX_ROWS = 60
PLATFORMS = ("linux amd64", "linux arm64", "macos arm64")
SITES = ("prague", "brno", "plzen", "ostrava")


@pytest.fixture(scope="module")
def gateway(house: House) -> Gateway:
    """A gateway with very many devices, none of them there."""
    gateway = house.gateway(config=PATIENT, rules=ALL_ALLOWED)
    now_ms = int(time.time() * 1000)
    crowd = [
        device(
            number,
            f"node-{number:05}",
            PLATFORMS[number % len(PLATFORMS)],
            now_ms - number * 1000,
            {"site": SITES[number % len(SITES)]},
        )
        for number in range(DEVICES)
    ]
    keep(gateway.root, crowd, now_ms)
    return gateway.start()


@pytest.fixture(scope="module")
def who(browser: Browser, gateway: Gateway) -> Iterator[Visitor]:
    """Somebody who is signed in."""
    visitor = Visitor(browser, f"http://localhost:{gateway.console_port}")
    yield visitor.sign_in(sign_in_link(gateway))
    visitor.close()


def test_the_first_visit(gateway: Gateway, visits: Visits) -> None:
    """All that a browser fetches before it shows the devices is 60 KiB at most, compressed."""
    who: Visitor = visits(f"http://localhost:{gateway.console_port}")
    who.page.goto(sign_in_link(gateway))
    who.button("Sign in").click()
    who.heading("Devices")
    who.says("10 000".replace(" ", "\u202f") + " devices")
    files = {each.url: each for each in who.asked if "/console/v1/" not in each.url}
    sizes = {url: each.sizes()["responseBodySize"] for url, each in files.items()}
    total = sum(sizes.values())
    paint_ms = who.page.evaluate(
        "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    )
    print(f"\n{len(sizes)} files, {total / 1024:.1f} KiB; first paint after {paint_ms} ms")
    assert 0 < total <= BUDGET


def test_pages_of_a_long_list(who: Visitor) -> None:
    """The page holds one page of it; the next one is another."""
    rows = who.main.locator("tbody tr")
    expect(rows.first).to_contain_text("node-")
    assert 0 < rows.count() <= MAX_ROWS
    names = rows.locator("th").all_inner_texts()
    who.main.get_by_role("button", name="older").click()
    expect(who.main.locator(".pages")).to_contain_text("51\u2013100 of")
    assert rows.count() <= MAX_ROWS
    assert not set(names) & set(rows.locator("th").all_inner_texts())
    who.main.get_by_role("button", name="newer").click()
    expect(rows.first).to_contain_text(names[0])


def test_searching_a_long_list(who: Visitor) -> None:
    """The gateway looks through all of them, by words and by an expression."""
    search = who.main.get_by_label("Search devices")
    began_s = time.perf_counter()
    search.fill("node-09876")
    expect(who.row("node-09876")).to_be_visible()
    print(f"\nfound after {(time.perf_counter() - began_s) * 1000:.0f} ms")
    expect(who.main.locator("tbody tr")).to_have_count(1)
    search.fill("label.site = brno")
    who.says("more than 50 found")
    expect(who.row("site=brno").first).to_be_visible()
    expect(who.row("site=prague")).to_have_count(0)
    search.fill("")
    who.says("devices: 0 online")


def test_a_long_list_is_live(who: Visitor, gateway: Gateway) -> None:
    """What others change is seen in its row; what is not shown costs no row."""
    shown = who.main.locator("tbody tr th").first
    name = shown.inner_text()
    assert gateway.cli("nodes", "label", name, "seen=now").code == 0
    expect(who.row(name)).to_contain_text("seen=now")
    other = next(f"node-{n:05}" for n in (5000, 5001) if f"node-{n:05}" != name)
    assert gateway.cli("nodes", "revoke", other, "--reason", "a test").code == 0
    assert who.main.locator("tbody tr").count() <= MAX_ROWS
