"""A gateway with something of everything on it, and an operator who may do all of it from afar."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from palyra.afar.contexts import CA, Contexts
from palyra.console import models
from palyra.core.pairing_uri import PairingUri
from tests.integration.device import Device
from tests.integration.house import PATIENT, Gateway, House
from tests.integration.processes import run, script

CONFIG = f"""
{PATIENT}
[[policy.rule]]
id = "who-are-you"
effect = "ask"
capability = ["system.identity"]
expires_s = 3600
"""
SPARE = 4
"""How many there are of what a request may use up."""


class Person:
    """An operator on a machine of their own: a configuration directory."""

    def __init__(self, house: House, gateway: Gateway, name: str, role: str) -> None:
        self.name = name
        self._home = house.path / name
        self._home.mkdir(mode=0o700)
        self._contexts = Contexts(self._home / "palyra")
        invited = gateway.cli("operators", "invite", name, "--role", role)
        assert invited.code == 0, invited
        uri = invited.out.splitlines()[0].removeprefix("uri\t")
        env = {"XDG_CONFIG_HOME": str(self._home), "XDG_DATA_HOME": str(self._home / "data")}
        accept = [script("palyra"), "operators", "accept"]
        accepted = run(accept, self._home, uri + "\n", env=env)
        assert accepted.code == 0, accepted

    @property
    def operator_id(self) -> str:
        """The operator's id."""
        return self._contexts.get("localhost").operator_id

    @property
    def pair(self) -> Path:
        """The file with the private key and the certificate."""
        return self._contexts.pair_file("localhost")

    @property
    def ca(self) -> Path:
        """The file with the CA of the gateway."""
        return self._contexts.directory("localhost") / CA


@attrs.frozen
class World:
    """What runs, and by what it is, the ids of what requests may ask for."""

    gateway: Gateway
    ana: Person
    names: Mapping[str, list[str]]

    @property
    def origin(self) -> str:
        """Where the console is."""
        return f"https://localhost:{self.gateway.console_port}"

    def stranger(self) -> http.client.HTTPSConnection:
        """A connection without a certificate."""
        context = ssl.create_default_context(cafile=str(self.ana.ca))
        return http.client.HTTPSConnection("localhost", self.gateway.console_port, context=context)


def build(house: House) -> World:
    """Start everything and bring it about."""
    gateway = house.gateway(config=CONFIG).start()
    ana = Person(house, gateway, "ana", "admin")
    others = [Person(house, gateway, name, "operator") for name in ("bo", "cy")]
    pi = house.node("pi").pair(gateway).device_id
    spare = [Device(gateway, f"spare-{number}").enrol().device_id for number in range(SPARE)]
    names = {
        "device": [pi, *spare],
        "job": list(_jobs(gateway, pi)),
        "fanout": [_fanout(gateway, pi)],
        "operator": [each.operator_id for each in others],
        "request": [_asks(gateway, f"new-{number}") for number in range(SPARE)],
        "code": [_code(gateway) for _ in range(SPARE)],
    }
    names["approval"] = _approvals(gateway)
    return World(gateway, ana, names)


def _jobs(gateway: Gateway, device_id: str) -> Iterator[str]:
    for capability in ("echo", "system.health"):
        job_id = gateway.submit(device_id, capability, b"{}")
        gateway.ended(job_id)
        yield job_id
    for _ in range(SPARE):
        yield gateway.submit(device_id, "system.identity", b"{}")


def _fanout(gateway: Gateway, device_id: str) -> str:
    body = models.SubmitJobs("echo", [device_id])
    answer = gateway.console.post("jobs", body, models.FanoutAnswer)
    return answer.value.fanout.fanout_id


def _asks(gateway: Gateway, name: str) -> str:
    device = Device(gateway, name)
    token = PairingUri.parse(gateway.line()).proof
    return device.complete(device.proof(device.begin(token), token)).request_id


def _code(gateway: Gateway) -> str:
    body = models.MintCode("qr")
    answer = gateway.console.post("pairing/requests/code", body, models.MintedCode)
    return answer.value.code.code_id


def _approvals(gateway: Gateway) -> list[str]:
    answer = gateway.console.get("approvals", models.ApprovalList, state="pending")
    return [each.approval_id for each in answer.value.approvals]
