"""What operators ask about trust: grants, rotation, removal, the CAs, a restored state."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import fail, succeed

from palyra.console import models
from palyra.core.audit import Acting, acting, acts_for
from palyra.core.devices import INVOKE_OTHERS, AnnouncedCapability, ClientKind, Risk
from palyra.errors import (
    DeviceRevoked,
    DiskFull,
    ExpressionInvalid,
    GrantOutdated,
    Malformed,
    NoTargets,
    NotFound,
    PortTaken,
)
from palyra.gateway.trustcontrol import risk_named
from tests.callers import ANA
from tests.gateway.enrolling import AUTHORITY, Applicant, Gateway
from tests.gateway.house import CAPABILITIES, ECHO, SAFE, House, result_of
from tests.store.samples import NOW_MS

SHELL = AnnouncedCapability("acme.shell", risk="high")
LAMP = AnnouncedCapability("acme.lamp", risk="low")


def granted(gateway: Gateway, name: str = "pi") -> set[str]:
    item = result_of(gateway.control.node(name)).node
    return {each.name for each in item.capabilities if each.granted}


def grant(gateway: Gateway, name: str = "pi", **body: Any) -> models.NodeItem:
    answer = result_of(gateway.control.grant(name, models.GrantNode(**body), ANA))
    return answer.node


def announce(house: House, name: str, *capabilities: AnnouncedCapability) -> None:
    """The node comes back with these capabilities."""
    node = house.nodes[name]
    node.capabilities = capabilities
    result_of(node.connect())
    node.take()


# -- grants ---------------------------------------------------


def test_granting_and_withholding(gateway: Gateway) -> None:
    """Takes effect for the next job, is kept, and is shown as it is from then on."""
    gateway.online()
    item = grant(gateway, withhold=["echo", "slow"])
    assert {each.name for each in item.capabilities if each.granted} == {"safe", "ask", "broken"}
    gateway.restart()
    assert granted(gateway) == {"safe", "ask", "broken"}
    grant(gateway, grant=["echo"], withhold=["safe"])
    assert granted(gateway) == {"echo", "ask", "broken"}


def test_a_job_that_is_not_granted_any_more(gateway: Gateway) -> None:
    """It is refused at the next call."""
    device, _ = gateway.online()
    grant(gateway, withhold=["echo"])
    with pytest.raises(Exception, match="grant"):
        gateway.submit(gateway.inventory.paired(device.device_id))


@pytest.mark.parametrize(
    "body",
    [
        {"grant": ["echo"], "withhold": ["echo"]},
        {"grant": ["root.shell"]},
        {"grant": [INVOKE_OTHERS]},
        {"grant_risk": "extreme"},
        {"grant_risk": ""},
    ],
)
def test_a_grant_that_cannot_be(gateway: Gateway, body: dict[str, Any]) -> None:
    """Both at once, what was never announced, what is not for nodes, a risk that is none."""
    gateway.online()
    before = granted(gateway)
    with pytest.raises(Malformed):
        grant(gateway, **body)
    assert granted(gateway) == before


def test_a_client_is_granted_others_later(gateway: Gateway) -> None:
    """And loses it as easily."""
    device = gateway.device("laptop", kind=ClientKind.CLI)
    grant(gateway, "laptop", grant=[INVOKE_OTHERS])
    assert INVOKE_OTHERS in gateway.inventory.paired(device.device_id).grants
    grant(gateway, "laptop", withhold=[INVOKE_OTHERS])
    assert INVOKE_OTHERS not in gateway.inventory.paired(device.device_id).grants


def test_a_grant_of_what_was_shown(gateway: Gateway) -> None:
    """The list says what a grant would be for; nothing is changed where it is another by now."""
    device, _ = gateway.online()
    first, second = (attrs.evolve(SHELL, contract=each * 64) for each in "ab")
    announce(gateway, "pi", *device.capabilities, first)
    shown = {each.name: each.contract for each in grant(gateway).capabilities}
    assert shown[SHELL.name] == first.contract
    announce(gateway, "pi", *device.capabilities, second)
    with pytest.raises(GrantOutdated):
        grant(gateway, grant=[SHELL.name], contracts={SHELL.name: first.contract})
    assert SHELL.name not in granted(gateway)
    grant(gateway, grant=[SHELL.name], contracts={SHELL.name: second.contract})
    assert SHELL.name in granted(gateway)


def test_nobody_to_grant(gateway: Gateway) -> None:
    """The usual refusals of a target."""
    with pytest.raises(NotFound):
        grant(gateway, "nobody", grant=["echo"])


def test_a_later_capability(gateway: Gateway) -> None:
    """What a device announces after its approval is granted by itself up to the risk that was set:
    ours by what they say, another's as medium at least."""
    gateway.online()
    announce(gateway, "pi", *CAPABILITIES, AnnouncedCapability("system.info"), LAMP, SHELL)
    assert {"system.info"} == granted(gateway) - {each.name for each in CAPABILITIES}
    assert result_of(gateway.control.node("pi")).node.grant_risk == "low"


@pytest.mark.parametrize(
    ("risk", "given"),
    [
        ("none", set()),
        ("low", {"system.info"}),
        ("medium", {"system.info", "acme.lamp"}),
        ("high", {"system.info", "acme.lamp", "acme.shell"}),
    ],
)
def test_the_risk_that_is_set(gateway: Gateway, risk: str, given: set[str]) -> None:
    """Counts for what is seen for the first time afterwards."""
    gateway.online()
    assert grant(gateway, grant_risk=risk).grant_risk == risk
    announce(gateway, "pi", *CAPABILITIES, AnnouncedCapability("system.info"), LAMP, SHELL)
    assert granted(gateway) - {each.name for each in CAPABILITIES} == given


def test_what_was_withheld_stays_so(gateway: Gateway) -> None:
    """However often it is announced, at whatever risk, and also when that is raised: a no is taken
    back only in as many words."""
    gateway.online()
    grant(gateway, withhold=["echo"])
    announce(gateway, "pi", ECHO, SAFE, SHELL)
    grant(gateway, grant_risk="high")
    announce(gateway, "pi", SAFE)
    announce(gateway, "pi", attrs.evolve(ECHO, version="2"), SAFE, SHELL)
    assert granted(gateway) == {"safe"}
    gateway.restart()
    announce(gateway, "pi", ECHO, SAFE, SHELL)
    assert granted(gateway) == {"safe"}
    grant(gateway, grant=["acme.shell"])
    assert granted(gateway) == {"safe", "acme.shell"}


# -- rotation ---------------------------------------------------


def rotate(gateway: Gateway, **body: Any) -> list[str]:
    answer = result_of(gateway.control.rotate(models.Rotate(**body), ANA))
    assert all(each.rotate_asked_by == "ana" for each in answer.nodes)
    return sorted(each.name for each in answer.nodes)


@pytest.fixture
def several(gateway: Gateway) -> Gateway:
    """Two nodes in a lab, one elsewhere, one revoked, and a client."""
    for name, labels in (("a", {"room": "lab"}), ("b", {"room": "lab"}), ("c", {})):
        gateway.device(name, labels=labels)
    gateway.device("gone", labels={"room": "lab"})
    result_of(gateway.control.revoke("gone", models.Revoke(), ANA))
    gateway.device("laptop", kind=ClientKind.CLI, labels={"room": "lab"})
    return gateway


def test_who_is_ordered_to_renew(several: Gateway) -> None:
    """Those that are named, that an expression matches, or all: paired nodes only."""
    assert rotate(several, targets=["a", "c", "a"]) == ["a", "c"]
    assert rotate(several, where="label.room=lab") == ["a", "b"]
    assert rotate(several, everything=True) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, Malformed),
        ({"targets": ["a"], "everything": True}, Malformed),
        ({"targets": ["a"], "where": "label.room=lab"}, Malformed),
        ({"where": "label.room=lab", "everything": True}, Malformed),
        ({"targets": ["a", "nobody"]}, NotFound),
        ({"targets": ["gone"]}, DeviceRevoked),
        ({"targets": ["laptop"]}, Malformed),
        ({"where": "label.room=attic"}, NoTargets),
        ({"where": "label.room=="}, ExpressionInvalid),
    ],
)
def test_an_order_that_means_nobody(
    several: Gateway, body: dict[str, Any], error: type[Exception]
) -> None:
    """Neither everybody by mistake, nor some of those that were named."""
    with pytest.raises(error):
        rotate(several, **body)
    assert all(each.rotate_asked_at_ms is None for each in several.inventory.devices())


def test_nobody_to_rotate(gateway: Gateway) -> None:
    """Where there is no node, all of them are none."""
    with pytest.raises(NoTargets):
        rotate(gateway, everything=True)


# -- removal ---------------------------------------------------


def test_removing(several: Gateway) -> None:
    """It is said what was done: whether it was revoked by it, and what went with it."""
    applicant = Applicant(name="pi")
    applicant.pair(several)
    applicant.pair(several)
    answer = result_of(several.control.remove("pi", models.Remove("sold"), ANA))
    assert (answer.name, answer.device_id, answer.revoked) == ("pi", applicant.device_id, True)
    assert (answer.certificates, answer.pairing_requests) == (2, 2)
    again = result_of(several.control.remove("gone", models.Remove(), ANA))
    assert (again.name, again.revoked, again.certificates) == ("gone", False, 1)
    with pytest.raises(NotFound):
        result_of(several.control.remove("pi", models.Remove(), ANA))


def test_clearing(several: Gateway) -> None:
    """Every revoked device is removed, and nobody else."""
    result_of(several.control.revoke("a", models.Revoke("old"), ANA))
    answer = result_of(several.control.clear(models.Remove("tidy"), ANA))
    assert sorted(each.name for each in answer.removed) == ["a", "gone"]
    assert not any(each.revoked for each in answer.removed)
    assert sorted(several.inventory.names()) == ["b", "c", "laptop"]
    assert result_of(several.control.clear(models.Remove(), ANA)).removed == []


def test_clearing_that_fails_in_the_middle(several: Gateway) -> None:
    """What was removed stays removed, the rest is there for the next try."""
    result_of(several.control.revoke("a", models.Revoke("old"), ANA))
    store: Any = several.store.store
    remove, calls = store.remove, []

    def once(*given: Any) -> Any:
        calls.append(given)
        return remove(*given) if len(calls) == 1 else fail(DiskFull("/var/lib/palyra"))

    store.remove = once
    with pytest.raises(DiskFull):
        result_of(several.control.clear(models.Remove(), ANA))
    del store.remove
    assert len({"a", "gone"} & several.inventory.names()) == 1
    assert len(result_of(several.control.clear(models.Remove(), ANA)).removed) == 1


# -- the CA, and a restored state ---------------------------------------------------


def test_the_ca(gateway: Gateway) -> None:
    """In a steady time there is one, and nothing is due."""
    answer = result_of(gateway.control.ca())
    (only,) = answer.cas
    assert (only.fingerprint, only.issues, only.serves) == (AUTHORITY.ca_hash, True, True)
    ends = AUTHORITY.ca_certificate.not_valid_after_utc
    assert only.not_after_unix_ms == int(ends.timestamp()) * 1000
    assert (answer.phase, answer.started_unix_ms, answer.left) == ("steady", None, [])


def test_a_restored_state_is_confirmed(gateway: Gateway) -> None:
    """Devices are served from the moment an operator has confirmed, and it stays confirmed."""
    gateway.store.store.unconfirmed_since_ms = NOW_MS - 5
    gateway.serving = False
    before = result_of(gateway.control.state())
    assert (before.serving, before.unconfirmed_since_unix_ms) == (False, NOW_MS - 5)
    for _ in range(2):
        after = result_of(gateway.control.confirm_state(ANA))
        assert (after.serving, after.unconfirmed_since_unix_ms) == (True, None)
    assert result_of(gateway.control.state()) == after


def test_listeners_act_for_nobody(gateway: Gateway) -> None:
    """What devices do over a listener later is not done on behalf of who had it opened."""
    who = Acting(ANA.operator_id, ANA.name, ANA.via)
    acted: list[Acting | None] = []
    serving: Any = gateway
    serving.serve = lambda: succeed(acted.append(acting()))
    with acts_for(who):
        result_of(gateway.control.confirm_state(ANA))
        assert acting() is who
    assert acted == [None]


def test_a_confirmation_whose_port_is_taken(gateway: Gateway) -> None:
    """The state is confirmed all the same; said again, serving is tried again."""
    gateway.store.store.unconfirmed_since_ms = NOW_MS - 5
    gateway.serving = False
    real = gateway.serve
    serving: Any = gateway
    serving.serve = lambda: fail(PortTaken("127.0.0.1", 7443))
    with pytest.raises(PortTaken):
        result_of(gateway.control.confirm_state(ANA))
    assert result_of(gateway.control.state()).unconfirmed_since_unix_ms is None
    assert not result_of(gateway.control.state()).serving
    serving.serve = real
    assert result_of(gateway.control.confirm_state(ANA)).serving


def test_risks_have_names() -> None:
    """Four of them."""
    assert [risk_named(each.value) for each in Risk] == list(Risk)
    with pytest.raises(Malformed):
        risk_named("LOW")
