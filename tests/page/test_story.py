"""The whole story of a device at the page, from the first sign-in to its removal, step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.integration.house import ALL_ALLOWED, PATIENT, Gateway, House, NodeHost
from tests.page import capabilities
from tests.page.browser import Visitor, sign_in_link
from tests.page.capabilities import FETCH

ASK = '[[policy.rule]]\nid = "who-is-it"\neffect = "ask"\ncapability = ["system.identity"]\n'
MARKUP = "<img/src=//example.net/x>"
AT_ONCE_MS = 5_000
"""A second is the promise; a busy machine gets some more."""


@pytest.fixture(scope="module")
def gateway(house: House) -> Gateway:
    """A gateway that asks before it tells who a device is."""
    return house.gateway(config=PATIENT, rules=ASK + ALL_ALLOWED).start()


@pytest.fixture(scope="module")
def pi(house: House, gateway: Gateway) -> NodeHost:
    """A device that begins to ask when it is given a PIN."""
    return house.node("pi", capabilities.install(house.path / "plugins"))


@pytest.fixture(scope="module")
def who(browser: Browser, gateway: Gateway) -> Iterator[Visitor]:
    """One person, who stays signed in through the story."""
    visitor = Visitor(browser, f"http://localhost:{gateway.console_port}")
    yield visitor
    visitor.close()


def test_signing_in(who: Visitor, gateway: Gateway) -> None:
    """A link asks first, says as whom, and leaves no token in the address; there is nothing yet."""
    link = sign_in_link(gateway)
    who.page.goto(link)
    who.says("(admin)?")
    assert who.page.url == f"{who.origin}/login"
    who.button("Sign in").click()
    who.heading("Devices")
    assert who.page.url == f"{who.origin}/devices"
    who.says("No devices yet.")
    expect(who.page.locator("#who")).to_contain_text("admin")
    assert who.page.title() == "Devices - Palyra"


def test_a_device_pairs_with_a_pin(who: Visitor, gateway: Gateway, pi: NodeHost) -> None:
    """The card comes by itself, says what the device prints, and grants what is ticked."""
    who.link("Pair a device").last.click()
    who.heading("Pairing")
    who.says("Nobody is waiting.")
    who.page.get_by_label("Labels").fill("site=prague")
    who.button("Make code").click()
    pin = who.main.locator(".pin").inner_text()
    assert re.fullmatch(r"\d{6}", pin)
    pi.start_with_pin(gateway, pin)
    card = who.main.get_by_role("article")
    expect(card).to_contain_text("pi asks to be paired")
    printed = pi.process.says("identity\t").split("\t")[-1]
    expect(card).to_contain_text(" ".join(re.findall("....", printed.replace(" ", ""))[:4]))
    expect(card).to_contain_text("never before")
    expect(card).to_contain_text("site=prague")
    expect(who.main.locator(".pin")).to_have_count(0)
    card.get_by_label(FETCH).check()
    card.get_by_label("Reason").fill("new in the lab")
    approve = card.get_by_role("button", name="Approve")
    expect(approve).to_be_enabled()
    approve.click()
    who.told("pi approved.")
    expect(card).to_have_count(0)
    pi.process.says("online")


def test_the_device_is_online(who: Visitor, gateway: Gateway, pi: NodeHost) -> None:
    """The list shows it; its own view has what was granted, and why it was let in."""
    who.section("Devices")
    expect(who.row("pi")).to_contain_text("online")
    who.row("pi").get_by_role("link", name="pi", exact=True).click()
    who.heading("pi")
    assert who.page.title() == "pi - Devices - Palyra"
    expect(who.fact("labels")).to_contain_text("site=prague")
    expect(who.fact("certificate")).to_contain_text("left, renews in")
    expect(who.row(FETCH)).to_contain_text("granted")
    who.page.get_by_role("tab", name="Pairing history").click()
    expect(who.row("new in the lab")).to_contain_text("PIN by")
    who.page.get_by_role("tab", name="Events").click()
    expect(who.row("device approved")).to_contain_text("name=pi")


def test_a_qr_code(who: Visitor) -> None:
    """It is a picture that a camera can read, and is gone when it is taken back."""
    who.section("Pairing")
    who.page.get_by_label("QR").check()
    who.button("Make code").click()
    picture = who.main.get_by_role("img", name="QR code")
    box = picture.bounding_box()
    assert box is not None and box["width"] >= 192 and box["width"] == box["height"]
    who.says("palyra://")
    who.button("Take back").click()
    who.told("The code is taken back.")
    expect(picture).to_have_count(0)
    assert "palyra://" not in who.main.inner_text()


def test_running_a_capability(who: Visitor, pi: NodeHost) -> None:
    """From the device's row to the output."""
    who.section("Devices")
    who.link("pi").click()
    who.row("echo").get_by_role("link", name="Run echo").click()
    who.heading("Run a capability")
    who.page.get_by_label("Input as JSON").fill('{"text": "hello"}')
    who.button("Run on pi").click()
    who.heading("Job")
    expect(who.main.locator(".state")).to_contain_text("succeeded")
    output = who.page.get_by_label("Output", exact=True)
    assert json.loads(output.inner_text()) == {
        "echo": {"text": "hello"},
        "device_id": pi.device_id,
    }


def test_a_form_from_the_schema(who: Visitor, pi: NodeHost) -> None:
    """What is missing is said at its field; form and JSON are two views of one value."""
    who.go(f"/run?device={pi.device_id}&capability=desktop.open_url", "Run a capability")
    url = who.page.get_by_label("url")
    who.button("Run on pi").click()
    expect(url).to_have_attribute("aria-invalid", "true")
    expect(url).to_be_focused()
    url.fill("https://example.org/")
    who.button("JSON").click()
    written = who.page.get_by_label("Input as JSON")
    assert json.loads(written.input_value()) == {"url": "https://example.org/"}
    written.fill('{"url": "https://example.net/"}')
    who.button("Form").click()
    expect(url).to_have_value("https://example.net/")


def test_a_form_of_a_device_s_own_capability(who: Visitor, pi: NodeHost) -> None:
    """Nobody taught it to the gateway: the device described it, and nothing of it is markup; what
    the gateway refuses stands at its field."""
    who.go(f"/run?device={pi.device_id}&capability={FETCH}", "Run a capability")
    who.says("Fetches a file from the device.")
    who.says(f"An absolute path. {MARKUP}")
    expect(who.main.locator("img")).to_have_count(0)
    path = who.page.get_by_label("path")
    expect(who.page.get_by_label("verify")).to_be_checked()
    who.page.get_by_label("gzip").check()
    path.fill("report.pdf")
    who.button("Run on pi").click()
    who.says("Must match ^/")
    who.forgive("400")
    expect(path).to_be_focused()
    who.button("JSON").click()
    written = json.loads(who.page.get_by_label("Input as JSON").input_value())
    assert written == {"path": "report.pdf", "verify": True, "compression": "gzip"}


def test_what_was_typed_stays_when_the_schema_comes(who: Visitor, pi: NodeHost) -> None:
    """Also where the form comes late: it begins with what is there."""
    held: list[Route] = []

    def first_page(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["capabilities"] = [each for each in body["capabilities"] if each["name"] != FETCH]
        route.fulfill(response=answer, json=body)

    who.page.route("**/console/v1/capabilities", first_page)
    who.page.route("**/console/v1/capabilities?digest=*", lambda route: held.append(route))
    who.go(f"/run?device={pi.device_id}&capability={FETCH}", "Run a capability")
    written = who.page.get_by_label("Input as JSON")
    written.fill('{"path": "/report.pdf"}')
    while not held:
        who.page.wait_for_timeout(50)
    held[0].continue_()
    who.button("Form").click()
    expect(who.page.get_by_label("path")).to_have_value("/report.pdf")
    who.page.unroute_all()


def test_withholding_and_granting(who: Visitor, pi: NodeHost) -> None:
    """A grant is for the contract that the page shows."""
    who.go(f"/devices/{pi.device_id}", "pi")
    who.button(f"Withhold {FETCH}").click()
    who.told(f"{FETCH} is withheld from pi.")
    with who.page.expect_request("**/grants") as asked:
        who.button(f"Grant {FETCH}").click()
    who.told(f"{FETCH} is granted to pi.")
    contracts = asked.value.post_data_json["contracts"]
    assert re.fullmatch("[0-9a-f]{64}", contracts[FETCH])


def test_following_and_cancelling(who: Visitor, house: House, pi: NodeHost) -> None:
    """A long job says how far it is; a cancel is asked until the device has confirmed it."""
    file = house.path / "report.pdf"
    who.go(f"/run?device={pi.device_id}&capability={FETCH}", "Run a capability")
    who.page.get_by_label("path").fill(str(file))
    who.button("Run on pi").click()
    who.heading("Job")
    who.says("48%, 3.1 MiB of 6.4 MiB")
    expect(who.main.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "48")
    expect(who.page.locator("[data-count=jobs]")).to_have_text("1 running")
    who.button("Cancel").click()
    head = who.main.locator(".card")
    expect(head).to_contain_text("cancel asked")
    expect(who.button("Cancel")).to_have_count(0)
    file.touch()
    expect(head).to_contain_text("cancelled")
    expect(who.page.locator("[data-count=jobs]")).to_have_text("")


def test_a_call_that_is_asked(who: Visitor, pi: NodeHost) -> None:
    """It waits; the card shows the whole call and its digest; with the yes it runs by itself."""
    who.go(f"/run?device={pi.device_id}&capability=system.identity", "Run a capability")
    who.button("Run on pi").click()
    who.heading("Job")
    who.says("An operator must approve this")
    expect(who.page.locator("[data-count=approvals]")).to_have_text("1")
    job = who.page.url
    who.link("see what is asked").click()
    who.heading("Approval")
    card = who.main.get_by_role("article")
    expect(card).to_contain_text("asks system.identity on pi")
    expect(card).to_contain_text(pi.device_id)
    expect(who.fact("digest")).to_have_text(re.compile("^[0-9a-f]{4} [0-9a-f]{4}$"))
    expect(who.fact("rule")).to_have_text("who-is-it")
    card.get_by_role("button", name="Approve").click()
    expect(card).to_contain_text(re.compile("approved|used"))
    expect(who.page.locator("[data-count=approvals]")).to_have_text("")
    who.page.goto(job)
    expect(who.main.locator(".card .state")).to_contain_text("succeeded")
    who.says(pi.device_id)


def test_labels_and_rotation(who: Visitor, gateway: Gateway, pi: NodeHost) -> None:
    """Labels are the operators', and text, whatever is in them; a new certificate is asked for."""
    who.go(f"/devices/{pi.device_id}", "pi")
    who.button("Add a label").click()
    who.dialog.get_by_label("Labels").fill(f"site=prague\nrack=2\nnote={MARKUP}")
    who.dialog.get_by_role("button", name="Save").click()
    expect(who.fact("labels")).to_contain_text("rack=2")
    expect(who.fact("labels")).to_contain_text(MARKUP)
    expect(who.main.locator("img")).to_have_count(0)
    who.button("Remove label site=prague").click()
    expect(who.fact("labels")).not_to_contain_text("site=prague")
    assert gateway.node(pi.device_id).labels == {"rack": "2", "note": MARKUP}
    actions(who, "Ask for a new certificate")
    expect(who.dialog).to_contain_text("its session goes on")
    who.dialog.get_by_role("button", name="Ask").click()
    who.told("pi was asked for a new certificate.")


def test_revoking(who: Visitor, pi: NodeHost) -> None:
    """The effect is said first; the session ends at once, and the page knows."""
    actions(who, "Revoke")
    expect(who.dialog).to_contain_text("Ends pi's session within a second. It must pair again.")
    who.dialog.get_by_label("Reason").fill("laptop stolen")
    who.dialog.get_by_role("button", name="Revoke").click()
    head = who.main.locator(".head").first
    expect(head).to_contain_text("revoked", timeout=AT_ONCE_MS)
    expect(head).to_contain_text("offline", timeout=AT_ONCE_MS)
    pi.process.says("revoked")
    expect(who.link("Run")).to_have_count(0)


def test_removing(who: Visitor, pi: NodeHost) -> None:
    """Only with its name; then it is forgotten, and the list is empty."""
    actions(who, "Remove")
    remove = who.dialog.get_by_role("button", name="Remove")
    expect(remove).to_be_disabled()
    who.dialog.get_by_label("Type pi to confirm").fill("pi")
    who.dialog.get_by_label("Reason").fill("gone")
    remove.click()
    who.heading("Devices")
    who.told("pi is removed.")
    who.says("No devices yet.")


def test_the_audit_log(who: Visitor) -> None:
    """Has a row of everything above, with its reason; the chain holds."""
    who.section("Audit")
    for action, reason in (
        ("pairing.approved", "new in the lab"),
        ("device.revoked", "laptop stolen"),
        ("device.removed", "gone"),
    ):
        expect(who.row(action).first).to_contain_text(reason)
    for action in ("session.signed_in", "job.submitted", "approval.approved"):
        expect(who.row(action).first).to_be_visible()
    who.button("device.revoked").click()
    expect(who.dialog).to_contain_text("laptop stolen")
    who.dialog.get_by_role("button", name="Close").click()
    expect(who.button("device.revoked")).to_be_focused()
    who.button("Verify").click()
    who.says("rows")
    with who.page.expect_download() as saving:
        who.button("Export").click()
    rows = [json.loads(line) for line in saving.value.path().read_text().splitlines()]
    assert {"device.revoked", "device.removed"} <= {row.get("action") for row in rows}


def test_signing_out(who: Visitor) -> None:
    """Ends it here and at the gateway: an address of the page leads to the sign-in."""
    who.button("Sign out").click()
    who.heading("Sign in")
    assert not who.context.cookies()
    who.forgive("401")
    who.go("/devices", "Sign in")
    who.says("palyra console login")


def actions(who: Visitor, name: str) -> None:
    """Choose from a device's menu."""
    who.main.locator("summary").filter(has_text="Actions").click()
    who.button(name).click()
