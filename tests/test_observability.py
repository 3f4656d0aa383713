"""Tests of what is shipped for watching: the page, the dashboard and the alert rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from palyra.config.root import parse
from palyra.core.webhooks import Message, WebhookEvent, read_secret, signed_headers
from palyra.gateway.meters import Meters
from tests.gateway.conftest import house
from tests.gateway.house import House
from tests.test_docs import blocks_of, quoted, rows

assert house  # a fixture

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "observability.md"
DASHBOARD = ROOT / "contrib" / "grafana" / "palyra.json"
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yml"
METRIC = re.compile(r"\b(?:palyra|process)_[a-z_]+\b")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ALERT = re.compile(
    r"      - alert: (Palyra[A-Za-z]+)\n"
    r"        expr: (.+)\n"
    r"(?:        for: \d+m\n)?"
    r"        labels:\n          severity: (?:warning|critical)\n"
    r"        annotations:\n"
    r'          summary: "[^"]+"\n'
    r'          hint: "[^"]+"\n'
)


@pytest.fixture
def told(house: House) -> dict[str, tuple[str, set[str], set[str]]]:
    """Every metric of a gateway: type, labels, and the names of its samples."""
    meters = Meters(
        now_ms=house.now_ms,
        elapsed_s=house.clock.seconds,
        inventory=house.inventory,
        board=house.board,
        sessions=house.sessions,
        dispatcher=house.dispatcher,
    )
    meters.turned_away("grpc", "x")
    meters.count_refusals("quic", {"x": 1})
    house.online()
    families = {}
    for family in text_string_to_metric_families(meters.metrics.exposition()[1].decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        families[name] = family.type, labels, {sample.name for sample in family.samples}
    return families


def samples(told: dict[str, tuple[str, set[str], set[str]]]) -> set[str]:
    return set().union(*(names for _, _, names in told.values()))


def test_every_metric_is_on_the_page(told: dict[str, tuple[str, set[str], set[str]]]) -> None:
    """The table's metrics, types and labels are those that a gateway has; nothing is left out."""
    table = {quoted(row[0])[0]: row[1:3] for row in rows(PAGE) if METRIC.search(row[0])}
    derived = {"palyra_certificate_remaining_seconds_gcount"}
    derived |= {"palyra_certificate_remaining_seconds_gsum"}
    assert set(table) == set(told) - derived
    for name, (kind, labels) in table.items():
        assert set(re.findall(r"\w+", labels)) == told[name][1], name
        assert kind.replace("gauge histogram", "histogram") == told[name][0], name


def expressions(value: Any) -> Iterator[str]:
    """Every query of a dashboard."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("expr", "definition"):
                yield each
            yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)


def test_the_dashboard(told: dict[str, tuple[str, set[str], set[str]]]) -> None:
    """It is JSON, each panel has a place and an id of its own, and every metric in it exists."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {each["name"] for each in board["templating"]["list"]} == {"datasource", "instance"}
    named = {name for query in expressions(board) for name in METRIC.findall(query)}
    assert len(named) > 12 and named <= samples(told)


def test_the_alert_rules(told: dict[str, tuple[str, set[str], set[str]]]) -> None:
    """The file is nothing but rules of one form; each has a name of its own, and every metric in
    it exists."""
    text = ALERTS.read_text(encoding="utf-8")
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    head, *_ = rest.partition("      - alert:")
    assert head == "groups:\n  - name: palyra\n    rules:\n"
    rules = ALERT.findall(text)
    assert ALERT.sub("", rest + "\n").replace(head, "").strip() == ""
    assert len({name for name, _ in rules}) == len(rules) > 5
    for name, query in rules:
        assert query.count("(") == query.count(")") and ": " not in query, name
        assert set(METRIC.findall(query)) <= samples(told), name


def test_the_toml_on_the_page_is_valid() -> None:
    """Each block is a palyra.toml that the gateway takes."""
    for block in blocks_of(PAGE, "toml"):
        parse(block, PAGE.name)


def test_every_webhook_is_on_the_page() -> None:
    """The table of events is the events."""
    first = [quoted(row[0]) for row in rows(PAGE)]
    events = {event.value for event in WebhookEvent}
    assert {names[0] for names in first if names and "." in names[0]} == events


def test_the_signature_is_verified_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's Python takes what the gateway signs, and nothing that was changed or is old."""
    (block,) = blocks_of(PAGE, "python")
    (body,) = blocks_of(PAGE, "json")
    given: dict[str, Any] = {}
    exec(block, given)
    verified, now_s = given["verified"], 1_795_350_000
    monkeypatch.setattr(given["time"], "time", lambda: now_s + 60.5)
    message = Message("msg_1", "on-call", "device.offline", body.encode(), now_s * 1000)
    headers = dict(signed_headers(message, read_secret(SECRET), now_s * 1000))
    assert verified(headers, message.body, SECRET)
    assert not verified(headers, message.body + b" ", SECRET)
    assert not verified(headers | {"webhook-id": "msg_2"}, message.body, SECRET)
    assert not verified(headers, message.body, "whsec_" + "A" * 32)
    monkeypatch.setattr(given["time"], "time", lambda: now_s + 301)
    assert not verified(headers, message.body, SECRET)
