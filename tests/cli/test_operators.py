"""Tests of :mod:`palyra.cli.operators` and :mod:`palyra.cli.console`, by what people see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palyra.afar.contexts import Context
from palyra.cli import accepting, console, operators
from palyra.cli.accepting import Accepted
from palyra.cli.client import Answer
from palyra.console.models import (
    InvitationItem,
    InvitedOperator,
    OperatorAnswer,
    OperatorCertificateAnswer,
    OperatorList,
    Page,
    RevokedOperator,
    SignInLink,
)
from tests.cli.conftest import FakeConsole
from tests.cli.farconsole import far_console, operator
from tests.cli.terminal import Terminal
from tests.cli.things import CONTRACT, KEY, NOW, D, M, screen, shown, told

URI = "palyra://atlas:7142/operator?ca=A&t=B"
INVITED = InvitationItem("di", "viewer", "", "ana", NOW, NOW + D)
LIST = """\
NAME  ROLE      STATE    CERT  PAGE  BY
bo    operator  active   29d      2  ana
al    admin     revoked  -        0  ana
di    viewer    invited  1d       -  ana
"""
FINGERPRINT = KEY
LINK = SignInLink(CONTRACT, "https://atlas:7142/login#TOKEN", NOW + 2 * M, FINGERPRINT)


def found() -> OperatorList:
    bo = operator(certificate_expires_unix_ms=NOW + 29 * D, sessions=2)
    al = operator(
        name="al", role="admin", state="revoked", certificate_expires_unix_ms=None, sessions=0
    )
    return OperatorList(CONTRACT, Page(50, 2, False), [bo, al], [INVITED])


def test_the_list() -> None:
    """Operators, then invitations; owners from 120 columns on."""
    made = screen(80)
    answer = found()
    operators.show_list(made, answer.operators, answer.invitations)
    assert shown(made) == LIST
    wide = screen(120)
    operators.show_list(wide, [operator(owner="bo")], [])
    assert shown(wide).splitlines()[0].endswith("OWNER")


def test_an_empty_list() -> None:
    """It says who may do everything all the same."""
    made = screen(80)
    operators.show_list(made, [], [])
    assert "owner of the state root is admin" in told(made)
    assert "palyra operators invite NAME --role admin" in told(made)


def test_listing(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Tabs for scripts, the gateway's own words as JSON."""
    console.on("GET", "operators", found())
    status, out, _ = console.run(capsys, "operators", "list")
    assert status == 0
    assert out.splitlines()[0] == "bo\toperator\tactive\t2026-12-21T03:44:14Z\t2\tana\t-"
    _, out, _ = console.run(capsys, "operators", "list", "--json")
    assert [each["name"] for each in json.loads(out)["operators"]] == ["bo", "al"]


def test_inviting(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, role and owner are sent; the URI is all that scripts need."""
    console.on("POST", "operators/invite", InvitedOperator(CONTRACT, INVITED, URI))
    status, out, _ = console.run(capsys, "operators", "invite", "di", "--owner", "bo")
    assert (status, out) == (0, f"uri\t{URI}\nexpires\t2026-11-23T03:44:14Z\n")
    assert console.bodies("POST") == [{"name": "di", "role": "viewer", "owner": "bo"}]
    assert URI in console.run(capsys, "operators", "invite", "di", "--json")[1]
    assert console.run(capsys, "operators", "invite", "di", "--role", "root")[0] == 2


def test_an_invitation_for_people() -> None:
    """With what comes next."""
    made = screen(80)
    operators.show_invited(made, InvitedOperator(CONTRACT, INVITED, URI))
    assert shown(made) == (
        f"invited  di as viewer\n         {URI}\nvalid    24 h (until 23 Nov 03:44), once\n"
    )
    assert told(made) == "hint     on their machine: palyra operators accept -\n"
    near = screen(80)
    operators.show_invited(
        near, InvitedOperator(CONTRACT, INVITED, URI.replace("atlas", "localhost"))
    )
    assert told(near).endswith("note     only this machine can reach localhost\n")


def test_roles(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """What they are from now on."""
    console.on("POST", "operators/bo/role", OperatorAnswer(CONTRACT, operator(role="admin")))
    assert console.run(capsys, "operators", "role", "bo", "admin")[:2] == (0, "bo is admin\n")
    assert console.bodies("POST") == [{"role": "admin"}]
    assert '"admin"' in console.run(capsys, "operators", "role", "bo", "admin", "--json")[1]


def test_revoking(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts are not asked; programs that ended with their owner are named."""
    robot = operator(name="robot", owner="bo", state="revoked")
    answer = RevokedOperator(CONTRACT, operator(state="revoked"), [robot])
    console.on("POST", "operators/bo/revoke", answer)
    done = console.run(capsys, "operators", "revoke", "bo", "--reason", "left")
    assert done[:2] == (0, "bo revoked\nrobot revoked\n")
    assert console.bodies("POST") == [{"reason": "left"}]
    assert '"revoked"' in console.run(capsys, "operators", "revoke", "bo", "--json")[1]


def test_revoking_asks_people(console: FakeConsole) -> None:
    """Only yes is yes."""
    terminal = Terminal(console.root, "operators", "revoke", "bo")
    terminal.read_until("Revoke operator bo? [y/N] ")
    terminal.type("n\n")
    status, seen = terminal.end()
    assert status == 1 and "not revoked" in seen
    assert not console.asked


def test_an_operator_is_shown_who_they_are() -> None:
    """And how to use the new context where another one is in use."""
    made = screen(80)
    answer = OperatorCertificateAnswer(CONTRACT, operator(), "PEM", "PEM", NOW + 30 * D)
    context = Context("atlas", "https://atlas:7142", "bo", "ID")
    accepting.show(made, Accepted(Answer(answer, b""), context, False))
    assert shown(made) == (
        "operator     bo\nrole         operator\ngateway      https://atlas:7142\n"
        "context      atlas\ncertificate  until 22 Dec 03:44\n"
    )
    assert told(made) == "hint  palyra context use atlas\n"


# -- the page ----------------------------------------------------------------------------------


def test_a_sign_in_link() -> None:
    """The link alone is the result; what the browser will say comes beside it."""
    made = screen(80)
    console.show(made, LINK)
    assert shown(made) == "https://atlas:7142/login#TOKEN\n"
    assert "for one use, until 03:46" in told(made)
    assert (
        "note  the browser will warn once: this gateway signs its own certificate, "
        "SHA-256 7d4c 19e2 03ab f58e" in told(made)
    )
    plain, script = screen(80), screen(80, tty=False)
    over_http = SignInLink(CONTRACT, "http://localhost:7142/login#T", NOW + M, FINGERPRINT)
    console.show(plain, over_http)
    console.show(script, over_http)
    assert "warn" not in told(plain)
    assert shown(script).endswith("\ncertificate\t-\n")


def test_a_link_for_scripts(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And opened where that is asked for, without being an argument of the browser."""
    opened: list[str] = []

    def browse(url: str) -> bool:
        Path(url.removeprefix("file://")).read_bytes()
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr("palyra.cli.browsing.AGAIN_S", 0)
    monkeypatch.setattr("palyra.cli.browsing.PATIENCE_S", 0)
    console.on("POST", "auth/link", LINK)
    status, out, _ = console.run(capsys, "console", "login", "--open")
    assert (status, len(opened)) == (0, 1)
    assert "TOKEN" not in opened[0] and not Path(opened[0].removeprefix("file://")).exists()
    assert out == f"link\t{LINK.link}\nexpires\t2026-11-22T03:46:14Z\ncertificate\t{FINGERPRINT}\n"
    assert "no browser" in console.run(capsys, "console", "login", "--open")[2]
    assert json.loads(console.run(capsys, "console", "login", "--json")[1])["link"] == LINK.link


def test_a_link_from_afar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """It leads where the console is reached, whatever the gateway calls itself."""
    from palyra.cli import main
    from palyra.core.operator_uri import OperatorUri

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with far_console() as far:
        far.certifies("operators/enrol")
        far.on("POST", "auth/link", LINK)
        line = OperatorUri.of("localhost", far.port, bytes.fromhex(far.ca.ca_hash), bytes(16))
        file = tmp_path / "line"
        file.write_text(str(line))
        assert main(["operators", "accept", f"@{file}"]) == 0
        capsys.readouterr()
        assert main(["console", "login"]) == 0
        assert capsys.readouterr().out.startswith(f"link\t{far.url}/login#TOKEN\n")
