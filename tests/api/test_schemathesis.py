"""Every route, asked for everything that the document allows and for what it does not."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra.console.routes import ROUTES
from tests.api.fuzzing import LAST, STREAMS, fuzz
from tests.api.world import World

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis: tox -e api"
)
NEVER_DONE = {
    # A token that nobody can guess, or a signature over it.
    *("preview_sign_in", "sign_in", "enrol_operator"),
    # A request for a certificate.
    "renew_operator",
}
"""What random bodies do not bring about; other tests do."""
FEW = 6
"""How many operations more may happen not to be done in a run: what they need was used up first."""


def test_nothing_breaks_and_every_answer_is_documented(world: World, tmp_path: Path) -> None:
    """No 500, no status, header or body that the document does not have, nothing accepted that it
    forbids; and most of it is really done, not refused."""
    found = fuzz(world, tmp_path)
    assert found.ran.code == 0, found.ran
    expected = {route.name for route in ROUTES} - {*LAST, *STREAMS}
    assert set(found.answered) == expected
    done = {name for name, statuses in found.answered.items() if min(statuses) < 300}
    assert len(expected - NEVER_DONE - done) <= FEW, sorted(expected - NEVER_DONE - done)
    assert "a console request failed" not in world.gateway.process.said()
    assert world.gateway.process.alive


def operations(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and value of every operation in the document."""
    connection = world.stranger()
    connection.request("GET", "/openapi.json")
    paths = json.load(connection.getresponse())["paths"]
    connection.close()
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.mark.parametrize("cookie", ["", "palyra_console_session=" + "A" * 43])
def test_nobody_is_let_in_without_a_credential(world: World, cookie: str) -> None:
    """Whatever the document says is for somebody is not for nobody, nor for a made-up session."""
    port = world.gateway.console_port
    headers = {"content-type": "application/json", "origin": world.origin}
    if cookie:
        name, _, value = cookie.partition("=")
        headers["cookie"] = f"{name}_https_{port}={value}"
    asked = 0
    for method, path, operation in operations(world):
        if not operation["security"]:
            continue
        asked += 1
        connection = world.stranger()
        body = "{}" if method == "POST" else None
        connection.request(method, path.replace("{", "").replace("}", ""), body, headers)
        answer = connection.getresponse()
        said = json.load(answer)
        connection.close()
        assert (answer.status, said["code"]) == (401, "sign_in_required"), (path, said)
    assert asked > len(ROUTES) - 5
