"""Devices: names and texts of peers are made safe to keep and to show."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.core import devices
from palyra.core.devices import AnnouncedCapability, ClientKind, Device, LabelChange, Risk
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import Malformed

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")


@given(st.text(max_size=100))
def test_a_clean_name_is_a_name_and_stays_it(wanted: str) -> None:
    """Whatever a peer wishes, its name is a DNS-like label, and cleaning that changes nothing."""
    name = devices.clean_name(wanted)
    assert NAME.match(name)
    assert devices.clean_name(name) == name


def test_names_come_from_host_names() -> None:
    """The first label of a host name, other characters as one hyphen, a default for nothing."""
    assert devices.clean_name("Anna's MacBook.local") == "anna-s-macbook"
    assert devices.clean_name("...") == "device"


@given(st.sets(st.sampled_from([f"a-{n}" for n in range(2, 14)] + ["a", "b"])))
def test_a_free_name_is_free(taken: set[str]) -> None:
    """A free name is the one wanted, or that with the lowest free number."""
    name = devices.free_name("a", taken)
    candidates = ["a", *(f"a-{number}" for number in range(2, 15))]
    assert name == next(candidate for candidate in candidates if candidate not in taken)


def test_a_numbered_name_keeps_the_length_limit() -> None:
    """A long name is cut to make room for its number."""
    wanted = "a" * devices.MAX_NAME
    name = devices.free_name(wanted, {wanted})
    assert len(name) == devices.MAX_NAME
    assert name.endswith("a-2")


@given(st.text(max_size=80), st.integers(0, 60))
def test_clean_text_holds_no_control_characters(text: str, limit: int) -> None:
    """Shown text is bounded, free of control and format characters, and stable."""
    shown = devices.clean_text(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(character)[0] == "C" for character in shown)
    assert devices.clean_text(shown, limit) == shown


def test_clean_text_shows_what_it_escaped() -> None:
    """An escape sequence of a terminal, a bidirectional override and a line that begins elsewhere
    than it seems become visible text."""
    assert devices.clean_text("a\x1b[2J\u202eb", 40) == "a\\u001b[2J\\u202eb"
    assert devices.clean_text("a\u2028b\u2029c", 40) == "a\\u2028b\\u2029c"


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("site", "berlin", True),
        ("example.org/site", "", True),
        ("Site", "berlin", False),
        ("", "x", False),
        ("site\n", "x", False),
        ("-site", "x", False),
        ("site", "x" * 64, False),
        ("site", "a\nb", False),
    ],
)
def test_labels(key: str, value: str, valid: bool) -> None:
    """A label key is DNS-like and its value printable and short."""
    assert devices.valid_label(key, value) is valid


@pytest.mark.parametrize(
    ("arguments", "labels", "unlabel"),
    [
        ([], {}, set()),
        (["site=prague", "rack=2"], {"site": "prague", "rack": "2"}, set()),
        (["edge"], {"edge": ""}, set()),
        (["edge="], {"edge": ""}, set()),
        (["site-"], {}, {"site"}),
        (["a-b", "c=d-", "e=f=g"], {"a-b": "", "c": "d-", "e": "f=g"}, set()),
    ],
)
def test_a_label_change_is_read_from_its_arguments(
    arguments: list[str], labels: dict[str, str], unlabel: set[str]
) -> None:
    """KEY=VALUE sets a label, KEY a group, and KEY- takes either away."""
    assert devices.label_change(arguments) == LabelChange(labels, frozenset(unlabel))


@pytest.mark.parametrize("argument", ["", "-", "=x", "Site=x", "site--", "a-=b", "a b", "a=\x1b"])
def test_what_is_no_label_is_refused_as_it_was_written(argument: str) -> None:
    """The refusal names the field, shows the argument harmlessly, and says what a label is."""
    with pytest.raises(Malformed) as refused:
        devices.label_change([argument], "--label")
    shown = devices.clean_text(argument, 64)
    assert refused.value.sentence.startswith(f"--label: {shown} is not KEY=VALUE, KEY or KEY-;")


@pytest.mark.parametrize("second", ["site=brno", "site", "site-"])
def test_a_label_is_changed_once(second: str) -> None:
    """A key that comes twice would make the order matter, so it is refused."""
    with pytest.raises(Malformed, match="site is given twice"):
        devices.label_change(["site=prague", second])


def test_a_label_change_is_bounded() -> None:
    """No change is larger than what one device may have."""
    most = [f"k{number}" for number in range(devices.MAX_LABELS)]
    assert len(devices.label_change(most).labels) == devices.MAX_LABELS
    with pytest.raises(Malformed, match="must be at most 32"):
        devices.label_change([*most, "one-more"])


@given(st.lists(st.text("ab=-./ \n", max_size=8), max_size=4))
def test_a_label_change_holds_labels_or_is_refused(arguments: list[str]) -> None:
    """Whatever is given, the change holds only what may be stored, and no key on both sides."""
    try:
        change = devices.label_change(arguments)
    except Malformed:
        return
    assert all(devices.valid_label(key, value) for key, value in change.labels.items())
    assert all(devices.valid_label(key, "") for key in change.unlabel)
    assert not change.labels.keys() & change.unlabel
    assert len(change.labels) + len(change.unlabel) == len(arguments)


@pytest.mark.parametrize("limit", Risk)
@pytest.mark.parametrize("risk", Risk)
def test_a_risk_covers_what_is_not_above_it(limit: Risk, risk: Risk) -> None:
    """None, low, medium, high: a limit includes itself and what is before it."""
    order = ["none", "low", "medium", "high"]
    assert limit.covers(risk) is (order.index(risk.value) <= order.index(limit.value))


def test_nothing_covers_every_capability_but_high() -> None:
    """A device whose limit is none is granted nothing by itself."""
    said = [AnnouncedCapability("echo", risk=risk).granted_as for risk in ("low", "medium", "high")]
    assert not any(Risk.NONE.covers(risk) for risk in said)
    assert all(Risk.HIGH.covers(risk) for risk in said)


@pytest.mark.parametrize(
    ("name", "risk", "granted"),
    [
        ("echo", "low", Risk.LOW),
        ("system.health", "low", Risk.LOW),
        ("desktop.open_url", "medium", Risk.MEDIUM),
        ("system.reboot", "high", Risk.HIGH),
        ("acme.read", "low", Risk.MEDIUM),
        ("acme.read", "medium", Risk.MEDIUM),
        ("acme.wipe", "high", Risk.HIGH),
        ("echo2", "low", Risk.MEDIUM),
        ("systematic", "low", Risk.MEDIUM),
        ("x.system.health", "low", Risk.MEDIUM),
    ],
)
def test_only_our_own_may_call_themselves_harmless(name: str, risk: str, granted: Risk) -> None:
    """What others call a low risk is granted as medium; a higher risk is taken at its word."""
    assert AnnouncedCapability(name, risk=risk).granted_as is granted


def test_a_device_finds_its_capability() -> None:
    """A capability is found by its name, and None says that it was not announced."""
    echo = AnnouncedCapability("echo")
    device = Device(
        device_id=DeviceId("01J9ZC5QXG0123456789ABCDEF"),
        client_kind=ClientKind.NODE,
        name="a",
        platform="",
        version="",
        identity_public=b"",
        identity_fingerprint=Fingerprint(""),
        grants=frozenset(),
        capabilities=(echo,),
        labels={},
        approved_by="",
        paired_at_ms=0,
    )
    assert device.capability("echo") is echo
    assert device.capability("other") is None
