"""Operators from afar, on a gateway that runs: invitations, roles, signing in, revocation."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra.afar.contexts import CA, Contexts
from tests.integration.house import Gateway, House
from tests.integration.processes import Ran, run, script

WITHIN_S = 5.0
"""A second is the promise; a busy machine gets some more."""


class Bo:
    """An operator on a machine of their own: a configuration directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        self.contexts = Contexts(home / "palyra")

    def cli(self, *arguments: str, stdin: str = "") -> Ran:
        """``palyra ...`` there: no gateway runs there, and no state root is named."""
        env = {"XDG_CONFIG_HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data")}
        return run([script("palyra"), *arguments], self.home, stdin, env=env)

    @contextlib.contextmanager
    def follows(self, gateway: Gateway) -> Iterator[http.client.HTTPResponse]:
        """A stream of events that is open."""
        name = "localhost"
        context = ssl.create_default_context(cafile=str(self.contexts.directory(name) / CA))
        context.load_cert_chain(self.contexts.pair_file(name))
        connection = http.client.HTTPSConnection(name, gateway.console_port, context=context)
        connection.request("GET", "/console/v1/events")
        with contextlib.closing(connection), connection.getresponse() as response:
            assert response.status == 200
            assert response.read1()
            yield response


@pytest.fixture(scope="module")
def gateway(quiet_gateway: Gateway) -> Gateway:
    """A gateway that runs."""
    return quiet_gateway


@pytest.fixture
def bo(house: House, gateway: Gateway) -> Iterator[Bo]:
    """An operator who has accepted an invitation."""
    person = Bo(house.path / "bo")
    invited = gateway.cli("operators", "invite", "bo", "--role", "viewer")
    line = invited.out.splitlines()[0].removeprefix("uri\t")
    accepted = person.cli("operators", "accept", stdin=line + "\n")
    assert accepted.code == 0, accepted
    yield person
    gateway.cli("operators", "revoke", "bo")


def test_every_verb_from_afar(gateway: Gateway, bo: Bo) -> None:
    """The role decides, at once; the audit log names who asked."""
    listed = bo.cli("nodes", "list", "--json")
    here = json.loads(gateway.cli("nodes", "list", "--json").out)["nodes"]
    there = json.loads(listed.out)["nodes"]
    assert [each["device_id"] for each in there] == [each["device_id"] for each in here]
    refused = bo.cli("operators", "invite", "cy")
    assert refused.code == 1 and "The role viewer may not administer" in refused.err
    assert gateway.cli("operators", "role", "bo", "admin").out == "bo is admin\n"
    assert bo.cli("operators", "invite", "cy").code == 0
    assert "bo\tadmin\tactive" in bo.cli("operators", "list").out
    invited = [row for row in gateway.recorded()["audit"] if "operator.invited" in row]
    assert any("bo" in row and "127.0.0.1" in row for row in invited)


def test_a_revocation_is_felt_at_once(gateway: Gateway, bo: Bo) -> None:
    """A stream that is open ends, and nothing is answered any more."""
    ended: list[float] = []
    with bo.follows(gateway) as stream:

        def read() -> None:
            while stream.read1():
                pass
            ended.append(time.monotonic())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert gateway.cli("operators", "revoke", "bo", "--reason", "left").code == 0
        revoked = time.monotonic()
        reader.join(WITHIN_S)
        assert ended and ended[0] <= revoked + WITHIN_S
    refused = bo.cli("nodes", "list")
    assert refused.code == 1
    assert refused.err.startswith("error: This operator certificate is refused: revoked.")


def test_the_same_invitation_does_not_work_twice(gateway: Gateway, house: House, bo: Bo) -> None:
    """For another machine, with another key."""
    other = Bo(house.path / "other")
    line = gateway.cli("operators", "invite", "di").out.splitlines()[0].removeprefix("uri\t")
    assert other.cli("operators", "accept", stdin=line + "\n").code == 0
    again = bo.cli("operators", "accept", "-", "--name", "again", stdin=line + "\n")
    assert again.code == 1
    assert "That invitation is wrong, expired or used up." in again.err
    assert gateway.cli("operators", "revoke", "di").code == 0


class Browser:
    """What a page of the console does, over plain HTTP on loopback."""

    def __init__(self, gateway: Gateway) -> None:
        self._host = f"localhost:{gateway.console_port}"
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, **more: str) -> tuple[int, Any, str]:
        """Status, body and the cookie that was set."""
        connection = http.client.HTTPConnection(self._host)
        headers = {"sec-fetch-site": "same-origin", **self.headers, **more}
        if body is not None:
            headers |= {"content-type": "application/json", "origin": f"http://{self._host}"}
        content = None if body is None else json.dumps(body)
        connection.request(method, f"/console/v1/{path}", content, headers)
        answer = connection.getresponse()
        found = json.loads(answer.read() or b"null")
        connection.close()
        return answer.status, found, answer.getheader("set-cookie") or ""


def test_signing_in_to_the_page(gateway: Gateway) -> None:
    """A link works once; the cookie counts with its token only, and ends with signing out."""
    made = gateway.cli("console", "login", "--json")
    link = json.loads(made.out)["link"]
    origin, _, token = link.partition("/login#")
    assert origin == f"http://localhost:{gateway.console_port}"
    page = Browser(gateway)
    status, preview, _ = page.ask("POST", "auth/login/preview", {"token": token})
    assert (status, preview["role"]) == (200, "admin")
    status, answer, cookie = page.ask("POST", "auth/login", {"token": token})
    assert status == 200 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    status, problem, _ = page.ask("POST", "auth/login", {"token": token})
    assert (status, problem["code"]) == (401, "login_link_expired")
    page.headers["cookie"] = cookie.partition(";")[0]
    assert page.ask("GET", "nodes")[1]["code"] == "csrf_refused"
    page.headers["x-palyra-csrf-token"] = answer["csrf_token"]
    assert page.ask("GET", "nodes")[0] == 200
    assert page.ask("GET", "auth/self")[1]["caller"]["name"] == preview["name"]
    for site in ("cross-site", "same-site"):
        assert page.ask("GET", "nodes", **{"sec-fetch-site": site})[0] == 403
    assert page.ask("POST", "auth/link", {})[1]["code"] == "browser_refused"
    assert page.ask("POST", "auth/logout", {})[0] == 200
    assert page.ask("GET", "nodes")[1]["code"] == "sign_in_required"


def test_strangers_are_told_nothing(gateway: Gateway) -> None:
    """Whatever they ask for."""
    page = Browser(gateway)
    for path in ("nodes", "operators", "audit", "jobs", "auth/self"):
        status, problem, _ = page.ask("GET", path)
        assert (status, problem["code"]) == (401, "sign_in_required")
