"""A gateway at work: devices that come and go, jobs, and people who wait for an answer."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from palyra.core.devices import AnnouncedCapability, CertificateRecord, ClientKind, Device
from palyra.core.identifiers import DeviceId, new_ulid, sha256_hex
from palyra.store import directory, opening
from tests.integration.house import PATIENT, Gateway, NodeHost, opened
from tests.integration.processes import Ran, eventually, run, script
from tests.page import capabilities
from tests.page.browser import NAME, link_from
from tests.page.capabilities import FETCH

_CONFIG = f'{PATIENT}\n[gateway]\nnames = ["{NAME}"]\n'
_RULES = f'[[policy.rule]]\neffect = "allow"\ncapability = ["echo", "system.*", "{FETCH}"]\n'
_HOUR_MS = 3_600_000
_OWN = ("echo", "system.health", "system.identity")


def device(
    number: int, name: str, platform: str, heard_ms: int, labels: Mapping[str, str]
) -> Device:
    """A device that was paired two months ago and is not there now."""
    device_id = DeviceId(new_ulid(heard_ms, os.urandom))
    announced = [AnnouncedCapability(each, version="0.1.0", idempotent=True) for each in _OWN]
    fault = "No module named 'cups'" if number % 3 == 1 else ""
    announced.append(AnnouncedCapability("printer.print", available=not fault, fault=fault))
    return Device(
        device_id=device_id,
        client_kind=ClientKind.NODE,
        name=name,
        platform=platform,
        version="0.1.0",
        identity_public=device_id.encode(),
        identity_fingerprint=sha256_hex(device_id.encode()),
        grants=frozenset(_OWN),
        capabilities=tuple(announced),
        labels=labels,
        approved_by="ana",
        paired_at_ms=heard_ms - 60 * 24 * _HOUR_MS,
        last_heard_ms=heard_ms,
        session_epoch=1,
    )


def keep(root: Path, devices: list[Device], now_ms: int) -> None:
    """Write devices into the store of a gateway that has not started yet."""
    database = root / "palyra.sqlite3"
    gateway_id = opening.prepare(database, entropy=os.urandom, now_ms=now_ms).gateway_id
    connection = opening.connect(database, "BEGIN IMMEDIATE")
    with contextlib.closing(connection), connection.begin():
        for each in devices:
            directory.keep_device(connection, attrs.evolve(each, gateway_id=gateway_id))
        directory.keep_imported(connection, (), list[CertificateRecord](), ())


class Person:
    """An operator on a machine of their own."""

    def __init__(self, gateway: Gateway, home: Path, role: str) -> None:
        self._home = home
        home.mkdir(mode=0o700)
        invited = gateway.cli("operators", "invite", home.name, "--role", role)
        line = invited.out.splitlines()[0].removeprefix("uri\t")
        accepted = self.cli("operators", "accept", stdin=line.replace(NAME, "localhost") + "\n")
        assert accepted.code == 0, accepted

    def cli(self, *arguments: str, stdin: str = "") -> Ran:
        """``palyra ...`` there."""
        env = {"XDG_CONFIG_HOME": str(self._home), "XDG_DATA_HOME": str(self._home / "data")}
        return run([script("palyra"), *arguments], self._home, stdin, env=env)

    def link(self) -> str:
        """Their way to the page."""
        return link_from(self.cli("console", "login", "--json"))


@attrs.frozen
class Furnished:
    """What there is to look at."""

    gateway: Gateway
    pi: NodeHost
    ana: Person
    bo: Person
    ended: str
    running: str
    fanout: str
    approval: str


@contextlib.contextmanager
def furnished(now_ms: int) -> Iterator[Furnished]:
    """Make it; ``now_ms`` is the Unix time."""
    with opened() as house:
        gateway = house.gateway(config=_CONFIG, rules=_RULES)
        keep(gateway.root, _absent(now_ms), now_ms)
        gateway.start()
        plugins = capabilities.install(house.path / "plugins")
        ana = Person(gateway, house.path / "ana", "admin")
        bo = Person(gateway, house.path / "bo", "operator")
        pi = _asking(house.node("pi", plugins), gateway, ana)
        assert ana.cli("pairing", "approve", pi.asks()).code == 0
        gateway.online(pi.device_id)
        assert ana.cli("nodes", "label", "pi", "site=prague", "rack=2").code == 0
        _asking(house.node("garden"), gateway, ana).asks()
        url = '{"url": "https://example.org/docs/palyra?page=2"}'
        asked = json.loads(_async(bo, "desktop.open_url", url).out)
        ended = json.loads(_async(bo, "system.health", "{}").out)["job_id"]
        gateway.ended(ended)
        yield Furnished(
            gateway, pi, ana, bo, ended,
            running=json.loads(_async(ana, FETCH, '{"path": "/srv/report.pdf"}').out)["job_id"],
            fanout=_fanout(ana),
            approval=asked["approval_id"],
        )  # fmt: skip


def _asking(node: NodeHost, gateway: Gateway, by: Person) -> NodeHost:
    """A node that was given a PIN, and where the gateway is: its name leads nowhere here."""
    node.options = ["--grpc-url", gateway.node_rpc, "--transport", "grpc"]
    pin = by.cli("pairing", "code").out.splitlines()[0].removeprefix("pin\t")
    return node.start_with_pin(gateway, pin)


def _absent(now_ms: int) -> list[Device]:
    there = [
        ("nas", "linux amd64", 3, {"site": "brno"}),
        ("hall-display", "linux arm64", 26, {"site": "prague", "room": "hall"}),
        ("old-laptop", "macos arm64", 31 * 24, {}),
        ("build-agent-07", "linux amd64", 5, {"site": "brno", "pool": "ci"}),
    ]
    return [
        device(number, name, platform, now_ms - hours * _HOUR_MS, labels)
        for number, (name, platform, hours, labels) in enumerate(there)
    ]


def _async(who: Person, capability: str, text: str) -> Ran:
    made = who.cli("nodes", "invoke", "pi", capability, "--input", text, "--no-wait", "--json")
    assert made.code == 0, made
    return made


def _fanout(who: Person) -> str:
    made = who.cli("nodes", "invoke", "--where", "has(echo)", "echo", "--json")
    return eventually(lambda: str(json.loads(made.out)["fanout"]["fanout_id"]), "a fan-out")
