"""schemathesis against a gateway: what it is told, and what it does not try."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from palyra.console.routes import ROUTES
from tests.api.world import World
from tests.integration.processes import Ran, run, script

HOOKS = Path(__file__).with_name("hooks.py")
SEED = 7
EXAMPLES = 25
LONG_EXAMPLES = 400
LIMIT_S = 300.0
LONG_LIMIT_S = 3_600.0

LAST = ("clear_devices", "rotate_ca", "confirm_state")
"""After these there would be nothing left to ask."""
STREAMS = tuple(route.name for route in ROUTES if route.follow is not None)
"""They end when their reader does, and schemathesis reads to the end."""
ALSO_IDS = ("rotate_devices", "purge_jobs", "mint_pairing_code")
"""The last part of their paths could also be a device, a job or a request, which GET asks for: so
says their Allow header, and the document knows of one only."""
WITHOUT = {
    "ignored_auth": "takes headers away, and the credential is the connection's certificate; "
    "test_nobody_is_let_in_without_a_credential asks without one",
    "positive_data_acceptance": "no schema says which cursors, expressions, names and ids there "
    "are, nor what excludes what",
}
REFUSALS = [400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 429]
"""How what breaks a schema may be answered; of the path and the state more is looked at first."""
WORDS = (
    *("echo", "system.health", "system.identity", "files.*", "pi", "spare-1", "site", "prague"),
    *("once", "session", "timeboxed", "approve", "reject", "pin", "qr", "none", "low", "medium"),
    *("viewer", "operator", "approver", "admin", "25%", "name = pi", "label.site = prague"),
)
"""What a request may well say."""


@attrs.frozen
class Found:
    """What came of a run: its own words, and the statuses of every operation."""

    ran: Ran
    answered: dict[str, set[int]]


def fuzz(world: World, directory: Path) -> Found:
    """Run schemathesis; ``API=long`` in the environment: for as long as an hour."""
    long = os.environ.get("API") == "long"
    answered = directory / "answered"
    answered.touch()
    config = directory / "schemathesis.toml"
    config.write_text("\n".join(_config(world, LONG_EXAMPLES if long else EXAMPLES)))
    ran = run(
        [
            script("schemathesis"),
            "--config-file",
            str(config),
            "run",
            f"{world.origin}/openapi.json",
        ],
        directory,
        limit_s=LONG_LIMIT_S if long else LIMIT_S,
        env={
            "SCHEMATHESIS_HOOKS": str(HOOKS),
            "SPARED": json.dumps(_spared(world)),
            "ANSWERED": str(answered),
            "NO_COLOR": "1",
        },
    )
    return Found(ran, _read(answered))


def _spared(world: World) -> dict[str, list[str]]:
    pi, ana = [world.names["device"][0], "pi"], [world.ana.operator_id, world.ana.name]
    return {
        "revoke_device": pi,
        "remove_device": pi,
        "change_role": ana,
        "revoke_operator": ana,
    }


def _config(world: World, examples: int) -> Iterator[str]:
    yield f"seed = {SEED}"
    yield "continue-on-failure = true"
    yield f"request-cert = {json.dumps(str(world.ana.pair))}"
    yield f"tls-verify = {json.dumps(str(world.ana.ca))}"
    yield "[generation]"
    yield f"max-examples = {examples}"
    # With a cookie beside the certificate every request would be refused for that.
    yield "with-security-parameters = false"
    yield 'dictionaries.string = { dictionary = "words", probability = 0.4 }'
    yield "[parameters]"
    for what in world.names:
        yield f'"path.{what}_id" = {{ dictionary = "{what}", probability = 0.7 }}'
    for name, values in {**world.names, "words": WORDS}.items():
        yield f"[dictionaries.{name}]"
        yield f"values = {json.dumps(values)}"
    yield "[checks]"
    yield f"negative_data_rejection.expected-statuses = {json.dumps(REFUSALS)}"
    for check in WITHOUT:
        yield f"{check}.enabled = false"
    for names, what in (
        ((*LAST, *STREAMS), "enabled"),
        (ALSO_IDS, "checks.allow_header_conformance.enabled"),
    ):
        yield "[[operations]]"
        yield f"include-operation-id = {json.dumps(names)}"
        yield f"{what} = false"


def _read(answered: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for line in answered.read_text().splitlines():
        operation, status = line.split()
        found.setdefault(operation, set()).add(int(status))
    return found
