"""Targets: devices by name or by expression, and how many at a time."""

from __future__ import annotations

import pytest

from palyra.core.devices import DeviceChange
from palyra.errors import ExpressionInvalid, Malformed, NotFound
from palyra.gateway.targets import Targets, batch_of
from tests.gateway.house import House, result_of


@pytest.fixture
def targets(house: House) -> Targets:
    return Targets(house.inventory, house.board)


def test_by_expression(house: House, targets: Targets) -> None:
    """Labels, groups, presence: the paired devices that match, by name."""
    for name, labels in (("pi", {"site": "prague"}), ("nas", {"site": "brno", "lab": ""})):
        device = house.device(name)
        changed = house.store.change(DeviceChange(device.device_id, labels=labels))
        house.inventory.put(result_of(changed))
    house.online("z-on")
    gone = house.device("gone")
    result_of(house.store.revoke(gone.device_id, "ana", "", house.now_ms()))
    kept = result_of(house.store.device(gone.device_id))
    assert kept is not None
    house.inventory.put(kept)
    for where, names in (
        ("label.site in (prague, brno)", ["nas", "pi"]),
        ("group(lab)", ["nas"]),
        ("presence = online", ["z-on"]),
        ("has(echo) and not label.site = prague", ["nas", "z-on"]),
        ("all", ["nas", "pi", "z-on"]),
        ("name = gone", []),
    ):
        chosen, expression = targets.chosen((), where)
        assert [device.name for device in chosen] == names
        assert targets.chosen((), expression) == (chosen, expression)


def test_by_name(house: House, targets: Targets) -> None:
    """By name, id or prefix; one that is named twice is one."""
    device = house.device("pi")
    other = house.device("nas")
    chosen, expression = targets.chosen(("pi", device.device_id, "nas"), "")
    assert chosen == (device, other) and expression == ""
    with pytest.raises(NotFound):
        targets.chosen(("pi", "nobody"), "")


def test_neither_or_both(targets: Targets) -> None:
    """A call to all devices must be said, and in one way."""
    for named, where in (((), ""), (("pi",), "all")):
        with pytest.raises(Malformed):
            targets.chosen(named, where)
    with pytest.raises(ExpressionInvalid) as caught:
        targets.chosen((), "platform =")
    assert (caught.value.field, caught.value.column) == ("where", 11)


@pytest.mark.parametrize(
    ("text", "batch"), [("", None), ("3", 3), ("25%", 3), ("1%", 1), ("100%", 10), ("500", 500)]
)
def test_a_batch(text: str, batch: int | None) -> None:
    """A number, or a percentage of ten devices: at least one of them."""
    assert batch_of(text, 10) == batch


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1", "x", "1.5", "%", "١", "9" * 10])
def test_no_batch(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(Malformed):
        batch_of(text, 10)
