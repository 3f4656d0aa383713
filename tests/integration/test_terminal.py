"""What a person sees and types: two terminals, one gateway."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from palyra.console.models import PairingItem
from tests.integration.house import Gateway, House
from tests.integration.terminal import Terminal, on_terminal

PROMPT = "PIN shown by the gateway:"


@contextlib.contextmanager
def device(house: House, name: str) -> Iterator[Terminal]:
    """``palyra node run`` on a terminal, asking for the line."""
    root = str(house.path / name)
    words = ["node", "run", "--pairing-uri", "-", "--name", name, "--state-root", root]
    with on_terminal(house, *words) as terminal:
        yield terminal


def other_than(pin: str) -> str:
    """A PIN that is not that one, under the same nameplate."""
    return pin[:-1] + str((int(pin[-1]) + 1) % 10)


def asking(gateway: Gateway, name: str) -> PairingItem:
    """The pairing request of a device."""
    (request,) = (each for each in gateway.requests() if each.name == name)
    return request


def test_two_people_pair_a_device(shared: House, gateway: Gateway) -> None:
    """The line is pasted without echo, both compare one fingerprint, y approves, and the status
    line says online; Ctrl-C ends the node."""
    line = gateway.line()
    root = ["--state-root", str(gateway.root)]
    with device(shared, "lamp") as node:
        node.shows("Pairing line:")
        node.type_hidden(line + "\r")
        node.shows("waiting for an operator to approve")
        assert line not in node.screen and "&t=" not in node.screen
        shown = re.search(r"ok {2}identity {3}lamp {2}(\w{6}) {2}([0-9a-f ]{19})", node.screen)
        assert shown is not None, node.screen

        request = asking(gateway, "lamp")
        with on_terminal(shared, "pairing", "approve", request.request_id[10:16], *root) as desk:
            desk.shows(f"Does the device print {shown[2]}?  Approve lamp? [y/N]")
            assert "never before" in desk.screen and shown[1] in desk.screen
            assert asking(gateway, "lamp").state == "pending_approval"
            desk.type("y\r")
            assert desk.end() == 0
            assert "approved  lamp" in desk.screen
            assert "palyra nodes invoke lamp echo" in desk.screen
        node.shows("online  lamp")
        gateway.online(request.device_id)
        node.type("\x03")
        assert node.end() == 0, node.screen


def test_a_person_types_the_pin(shared: House, gateway: Gateway) -> None:
    """It is typed without echo; a wrong one is asked for again, with a warning from the second on;
    the right one is confirmed by both sides."""
    pin, root = gateway.pin(), str(shared.path / "bench")
    wrong = other_than(pin)
    words = ["node", "run", "--gateway", gateway.enrolment, "--name", "bench"]
    with on_terminal(shared, *words, "--state-root", root) as node:
        node.shows(PROMPT)
        node.type_hidden(wrong + "\r")
        node.shows("!!  That PIN is wrong, expired or used up.\n" + PROMPT)
        assert "Someone may be in between." not in node.screen
        node.type_hidden(wrong + "\r")
        node.shows("used up. Someone may be in between.\n" + PROMPT)
        node.type_hidden(pin + "\r")
        node.shows("waiting for an operator to approve")
        assert re.search(
            r"^ok {2}gateway {4}127\.0\.0\.1:\d+ {2}CA [0-9a-f ]{19}$", node.screen, re.M
        )
        assert "ok  PIN        confirmed by both sides\n" in node.screen
        assert pin not in node.screen and wrong not in node.screen

        request = asking(gateway, "bench")
        facts = ["pairing", "approve", request.request_id, "--state-root", str(gateway.root)]
        with on_terminal(shared, *facts) as desk:
            desk.shows("Approve bench? [y/N]")
            assert re.search(r"PIN by \w+, !! \d+ wrong tries from 127\.0\.0\.1", desk.screen)
            desk.type("y\r")
            assert desk.end() == 0
        node.shows("online  bench")
        node.type("\x03")
        assert node.end() == 0, node.screen


def test_the_third_wrong_pin_is_the_last(shared: House, gateway: Gateway) -> None:
    """Nobody is asked a fourth time: exit 1, and what comes next."""
    pin, root = gateway.pin(), str(shared.path / "guess")
    wrong = other_than(pin)
    words = ["node", "run", "--gateway", gateway.enrolment, "--state-root", root]
    with on_terminal(shared, *words) as node:
        for before in ("", "used up.\n", "in between.\n"):
            node.shows(before + PROMPT)
            node.type_hidden(wrong + "\r")
        assert node.end() == 1
        assert node.screen.count(PROMPT) == 3
        assert "error: That PIN is wrong, expired or used up. Someone may be in" in node.screen


def test_the_default_answer_is_no(shared: House, gateway: Gateway) -> None:
    """Return alone approves nothing: exit 1, and the request still waits."""
    with device(shared, "scanner") as node:
        node.shows("Pairing line:")
        node.type_hidden(gateway.line() + "\r")
        node.shows("waiting for an operator to approve")
        request = asking(gateway, "scanner")
        words = ["pairing", "approve", request.request_id, "--state-root", str(gateway.root)]
        with on_terminal(shared, *words) as desk:
            desk.shows("Approve scanner? [y/N]")
            desk.type("\r")
            assert desk.end() == 1
            assert "the request still waits" in desk.screen
        assert asking(gateway, "scanner").state == "pending_approval"
        node.type("\x03")
        assert node.end() in (0, 130), node.screen


def test_a_changed_key_wants_the_name_typed(shared: House, gateway: Gateway) -> None:
    """Another key under a known id: without a terminal it is refused, y is not enough, and the
    typed name revokes the old key."""
    device_id = "01M80NKQCN7QM2ZT9B3FVHDX4K"
    first = shared.node("atlas")
    first.options = ["--device-id", device_id]
    first.pair(gateway)
    second = shared.node("atlas2")
    second.options = ["--device-id", device_id]
    second.start(gateway.line())
    request = second.asks()
    done = gateway.cli("pairing", "approve", request)
    assert done.code == 1 and "was paired before with another key" in done.err, done
    words = ["pairing", "approve", request, "--state-root", str(gateway.root)]
    for answer, code in (("y", 1), ("atlas", 0)):
        with on_terminal(shared, *words) as desk:
            desk.shows("Type the name atlas to approve its new key:")
            assert "!! paired" in desk.screen
            desk.type(answer + "\r")
            assert desk.end() == code, desk.screen
    second.process.says("online")
    assert first.process.wait() == 1
    assert "revoked" in first.process.output()


def test_a_code_is_drawn_with_its_line_below(shared: House, gateway: Gateway) -> None:
    """On a terminal that is large enough the QR code stands above the whole line."""
    root = ["--state-root", str(gateway.root)]
    with on_terminal(shared, "pairing", "code", "--method", "qr", *root) as desk:
        assert desk.end() == 0
        assert re.search(
            r"^ +palyra://127\.0\.0\.1:\d+/\?ca=[\w-]{43}&t=[\w-]{22}$", desk.screen, re.M
        )
        assert "█" in desk.screen or "▀" in desk.screen
        assert "only this machine can reach" in desk.screen
