"""Tests of :mod:`palyra.cli.completion`, by what a shell is offered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from palyra.afar.contexts import Context, Contexts
from palyra.cli.main import palyra
from palyra.console.models import ApprovalList, OperatorList, Page
from tests.cli.conftest import FakeConsole
from tests.cli.farconsole import operator
from tests.cli.test_approvals import an_approval
from tests.cli.things import (
    CONTRACT,
    FIVE,
    NAS,
    capability,
    job,
    job_list,
    nas,
    node,
    node_answer,
    node_list,
    page,
    request,
    request_answer,
    request_list,
)

Offer = Callable[..., list[tuple[str, str | None]]]


@pytest.fixture
def offered(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """What a shell is offered after the given words."""
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(console.root))
    console.on("GET", "nodes", node_list(node(), nas()))
    console.on("GET", "nodes/pi", node_answer())
    console.on("GET", "pairing/requests", request_list(request()))
    console.on("GET", "jobs", job_list(job()))

    def offer(*args: str) -> list[tuple[str, str | None]]:
        *words, incomplete = args
        shell = ShellComplete(palyra, {}, "palyra", "_PALYRA_COMPLETE")
        return [(item.value, item.help) for item in shell.get_completions(words, incomplete)]

    return offer


def test_devices(offered: Offer) -> None:
    """Names, then short ids with the name beside them."""
    assert offered("nodes", "show", "") == [
        ("pi", None),
        ("nas", None),
        ("X4K7QM", "pi"),
        ("9TQ0HC", "nas"),
    ]
    assert offered("nodes", "show", "x4") == [("X4K7QM", "pi")]


def test_capabilities_of_the_device_that_was_typed(offered: Offer) -> None:
    """With their risk beside them."""
    assert offered("nodes", "invoke", "pi", "desk") == [
        ("desktop.open_url", "medium"),
        ("desktop.open_path", "high"),
    ]
    assert offered("nodes", "invoke", "elsewhere", "") == []


def test_capabilities_of_every_device(offered: Offer) -> None:
    """After --where no device is named: the first argument is the capability, and the only one."""
    assert offered("nodes", "invoke", "--where", "all", "desktop.open_u") == [
        ("desktop.open_url", "medium")
    ]
    assert offered("nodes", "invoke", "--where", "all", "echo", "") == []


def test_requests_and_jobs(offered: Offer, console: FakeConsole) -> None:
    """Short ids with what they stand for; only requests that wait."""
    assert offered("pairing", "approve", "") == [("T6MW3K", "pi")]
    assert console.asked[-1][2] == {"state": "pending_approval", "limit": "100"}
    assert offered("jobs", "show", "") == [("B8Q2ZN", "echo on pi")]
    assert console.asked[-1][2] == {"limit": "100"}


def test_jobs_that_have_not_ended(offered: Offer, console: FakeConsole) -> None:
    """Only those can be waited for, followed or cancelled."""
    for verb in ("wait", "follow", "cancel"):
        assert offered("jobs", verb, "") == [("B8Q2ZN", "echo on pi")]
        states = "awaiting_local_mediation,dispatched,queued"
        assert console.asked[-1][2] == {"state": states, "limit": "100"}
    assert offered("jobs", "cancel", "--queued", "--device", "p") == [("pi", None)]
    assert offered("jobs", "list", "--device", "p") == [("pi", None)]


def test_the_state_root_that_was_typed(offered: Offer, tmp_path: Path) -> None:
    """Another gateway's devices are not offered; one that is away is silence."""
    assert offered("nodes", "show", "--state-root", str(tmp_path), "") == []
    assert offered("pairing", "reject", "--state-root", str(tmp_path), "") == []
    assert offered("jobs", "wait", "--state-root", str(tmp_path), "") == []


def test_what_may_be_granted(offered: Offer, console: FakeConsole) -> None:
    """What the device announces: of a request all of it, of a device what is not granted yet, or
    what is when it is to be taken away."""
    console.on("GET", "pairing/requests/T6MW3K", request_answer())
    assert offered("pairing", "approve", "T6MW3K", "--grant", "desktop.open_u") == [
        ("desktop.open_url", "medium")
    ]
    assert offered("pairing", "approve", "--grant", "") == []
    withheld = capability("printer.print", "medium", granted=False)
    console.on("GET", "nodes/pi", node_answer(node(capabilities=[FIVE[0], withheld])))
    assert offered("nodes", "grant", "pi", "") == [("printer.print", "medium")]
    assert offered("nodes", "grant", "pi", "--withhold", "") == [("echo", "low")]
    assert offered("nodes", "grant", "elsewhere", "") == []


def test_risks(offered: Offer) -> None:
    """The four that an operator may name."""
    for words in (["pairing", "approve", "--grant-up-to"], ["nodes", "grant", "--up-to"]):
        assert [value for value, _ in offered(*words, "")] == ["none", "low", "medium", "high"]


@pytest.mark.parametrize("verb", ["rotate", "remove", "revoke", "grant"])
def test_devices_to_act_on(offered: Offer, verb: str) -> None:
    """Devices, also after one that is typed already where several are taken."""
    assert ("pi", None) in offered("nodes", verb, "")
    if verb == "rotate":
        assert offered("nodes", verb, "pi", "na") == [("nas", None)]


def test_verbs(offered: Offer) -> None:
    """The groups and their verbs."""
    assert [value for value, _ in offered("pairing", "")] == ["code", "list", "approve", "reject"]
    assert [value for value, _ in offered("ca", "")] == ["show", "rotate"]


def test_operators(offered: Offer, console: FakeConsole) -> None:
    """Those who were not revoked, with their roles."""
    page = Page(50, 2, False)
    known = [operator(), operator(name="al", state="revoked")]
    console.on("GET", "operators", OperatorList(CONTRACT, page, known, []))
    assert offered("operators", "role", "") == [("bo", "operator")]
    assert offered("operators", "revoke", "x") == []


def test_approvals(offered: Offer, console: FakeConsole) -> None:
    """Those that wait for approve and reject, all of them for show, with what is asked."""
    pairing = an_approval(kind="pairing", pairing=request(), approval_id=NAS)
    listed = ApprovalList(CONTRACT, page(2), [an_approval(), pairing], 2)
    console.on("GET", "approvals", listed)
    both = [
        ("V3C8DE", "agent-claude asks desktop.open_url"),
        ("9TQ0HC", "pi asks to be paired"),
    ]
    assert offered("approvals", "approve", "") == both
    assert console.asked[-1][2]["state"] == "pending"
    assert offered("approvals", "show", "9t") == both[1:]
    assert "state" not in console.asked[-1][2]


def test_contexts(offered: Offer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Gateways that this account knows, for the verbs and for the option of every verb."""
    monkeypatch.setattr(Contexts, "of_user", classmethod(lambda cls: cls(tmp_path / "palyra")))
    Contexts.of_user().add(Context("atlas", "https://atlas:7142"), b"ca", b"pair")
    told = [("atlas", "https://atlas:7142")]
    assert offered("context", "use", "") == offered("context", "remove", "at") == told
    assert offered("nodes", "list", "--context", "") == told
