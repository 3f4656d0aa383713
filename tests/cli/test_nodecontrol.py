"""Tests of :mod:`palyra.cli.nodecontrol` and :mod:`palyra.cli.nodehost`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.cli import main, nodehost
from palyra.node.controlwords import (
    DecidedAnswer,
    ForgottenAnswer,
    RefusedAnswer,
    ReloadedAnswer,
    RememberedAnswer,
    RememberedItem,
    RequestItem,
    RequestsAnswer,
    StoppingAnswer,
)
from tests.cli.nodecontrolled import FakeNodeHost
from tests.cli.terminal import on_terminal

JOB = "01M80NKQCNB8Q2ZNZT9B3FVHD0"
OTHER = "01M80NKQCNT6MW3KZT9B3FVHD0"
CHOICE = "01M80NKQCNK1D9WAZT9B3FVHD0"
URL = RequestItem(
    request_id=JOB,
    capability="desktop.open_url",
    risk="medium",
    requested_by="ana",
    argument='{"url":"https://example.org/a"}',
    argument_length=31,
    opens="https://example.org/a",
    scope="https://example.org",
    left_ms=114_000,
    job_id=CHOICE,
)
FILE = RequestItem(
    request_id=OTHER,
    capability="files.fetch",
    risk="high",
    requested_by="agent-\u202eclaude (operator)",
    argument='{"path":"/srv/\u202ereport.pdf","verify":true,"deep":{"a":["b","c"]}}',
    argument_length=59,
    opens="",
    scope="exactly this",
    left_ms=5_000,
)
KEPT = RememberedItem(
    choice_id=CHOICE,
    choice="always",
    capability="desktop.open_url",
    scope="https://example.org",
    argument="https://example.org/a",
    decided_by="ana at the terminal",
    decided_at_unix_ms=1_700_000_000_000,
)
EXACT = RememberedItem(
    OTHER, "session", "files.fetch", "exactly this", '{"path":"/srv"}', "bo in a dialog", 0
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeNodeHost]:
    """A node host that is there."""
    made = FakeNodeHost(tmp_path)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


# -- requests -------------------------------------------------------------------------------------


def test_requests_on_a_terminal(host: FakeNodeHost) -> None:
    """A table; high risk is one of its facts, and the first one to answer is the hint."""
    host.answers["requests"] = RequestsAnswer([URL, FILE])
    status, shown = on_terminal(host.root, "node", "requests")
    assert (status, shown) == (
        0,
        "REQUEST  CAPABILITY        RISK    WHO                 ARGUMENT             LEFT\n"
        "B8Q2ZN   desktop.open_url  medium  ana                 https://example.or~  1:54\n"
        'T6MW3K   files.fetch       high    agent-\\u202ecl~or)  {"path":"/srv/\\u20~  0:05\n'
        "hint  palyra node allow B8Q2ZN\n",
    )


def test_nobody_is_asked(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal is told, a script gets nothing."""
    host.answers["requests"] = RequestsAnswer([])
    assert on_terminal(host.root, "node", "requests") == (0, "Nobody is being asked.\n")
    assert host.run(capsys, "requests") == (0, "", "")


def test_requests_for_scripts(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole values in the order of the columns."""
    host.answers["requests"] = RequestsAnswer([URL])
    status, out, err = host.run(capsys, "requests")
    line = f"{JOB}\tdesktop.open_url\tmedium\tana\thttps://example.org/a\t114000\n"
    assert (status, out, err) == (0, line, "")
    status, out, _ = host.run(capsys, "requests", "--json")
    assert json.loads(out)["requests"][0]["request_id"] == JOB
    assert host.asked[-1] == {"verb": "requests", "id": ""}


def test_one_request_whole(host: FakeNodeHost) -> None:
    """Nothing is cut, and nothing in it can steer the terminal."""
    host.answers["requests"] = RequestsAnswer([FILE])
    status, shown = on_terminal(host.root, "node", "requests", "t6mw")
    assert host.asked == [{"verb": "requests", "id": "t6mw"}]
    assert (status, shown) == (
        0,
        "request     T6MW3K\n"
        "job         -\n"
        "who         agent-\\u202eclaude (operator)\n"
        "capability  files.fetch, high\n"
        "argument    {\n"
        '              "path": "/srv/\\u202ereport.pdf",\n'
        '              "verify": true,\n'
        '              "deep": {\n'
        '                "a": [\n'
        '                  "b",\n'
        '                  "c"\n'
        "                ]\n"
        "              }\n"
        "            }\n"
        "opens       -\n"
        "longer yes  for exactly this\n"
        "left        0:05\n"
        "hint  palyra node allow T6MW3K\n",
    )


def test_one_request_for_scripts(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Key and value."""
    host.answers["requests"] = RequestsAnswer([URL])
    status, out, _ = host.run(capsys, "requests", JOB)
    assert status == 0
    assert dict(line.split("\t") for line in out.splitlines()) == {
        "request": JOB,
        "job": CHOICE,
        "who": "ana",
        "capability": "desktop.open_url",
        "risk": "medium",
        "argument": URL.argument,
        "opens": URL.opens,
        "longer yes": URL.scope,
        "left": "114000",
    }


# -- allow, deny ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "choice", "hint"),
    [
        ((), "once", ""),
        (("--once",), "once", ""),
        (("--session",), "session", "hint  palyra node requests --remembered\n"),
        (("--always",), "always", "hint  palyra node requests --remembered\n"),
    ],
)
def test_allow(host: FakeNodeHost, option: tuple[str, ...], choice: str, hint: str) -> None:
    """For as long as is said, and for what."""
    scope = "https://example.org" if hint else ""
    host.answers["allow"] = DecidedAnswer(JOB, "desktop.open_url", choice, "ana by ...", scope)
    status, shown = on_terminal(host.root, "node", "allow", "B8Q2ZN", *option)
    assert host.asked == [{"verb": "allow", "id": "B8Q2ZN", "choice": choice}]
    what = f"desktop.open_url, {choice}" + (f" for {scope}" if scope else "")
    assert (status, shown) == (0, f"allowed  B8Q2ZN  {what}\n{hint}")


def test_deny(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """So that it is rejected."""
    host.answers["deny"] = DecidedAnswer(JOB, "desktop.open_url", "no", "ana by ...")
    shown = on_terminal(host.root, "node", "deny", "B8Q2ZN")
    assert shown == (0, "denied  B8Q2ZN  desktop.open_url\n")
    assert host.run(capsys, "deny", "B8Q2ZN") == (0, "decision\tdenied\n", "")
    _, out, _ = host.run(capsys, "deny", "B8Q2ZN", "--json")
    assert json.loads(out)["choice"] == "no"


def test_what_the_host_refuses(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Is said in its words, on stderr, with exit 1."""
    refused = RefusedAnswer(
        "No open question is called ZZZZ.", "not_found", "not_found", False, "palyra node requests"
    )
    host.answers["allow"] = refused
    status, out, err = host.run(capsys, "allow", "ZZZZ")
    assert (status, out) == (1, "")
    assert err == "error: No open question is called ZZZZ.\nhint:  palyra node requests\n"
    _, _, err = host.run(capsys, "allow", "ZZZZ", "--json")
    assert json.loads(err)["code"] == "not_found"


# -- remembered choices ---------------------------------------------------------------------------


def test_remembered(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest first: for what, how long, and who said it."""
    host.answers["remembered"] = RememberedAnswer([EXACT, KEPT])
    status, shown = on_terminal(host.root, "node", "requests", "--remembered")
    lines = shown.splitlines()
    assert status == 0
    assert lines[0].split() == ["CHOICE", "CAPABILITY", "FOR", "HOLDS", "BY", "WHEN"]
    assert lines[1].startswith("K1D9WA  desktop.ope~url  https://example~  always ")
    assert '{"path":"/srv"}' in lines[2] and lines[3] == "hint  palyra node forget K1D9WA"
    _, out, _ = host.run(capsys, "requests", "--remembered")
    assert out.splitlines()[0].split("\t") == [
        CHOICE,
        "desktop.open_url",
        "https://example.org",
        "always",
        "ana at the terminal",
        "2023-11-14T22:13:20Z",
        "https://example.org/a",
    ]
    _, out, _ = host.run(capsys, "requests", "--remembered", "--json")
    assert len(json.loads(out)["choices"]) == 2
    host.answers["remembered"] = RememberedAnswer([])
    shown = on_terminal(host.root, "node", "requests", "--remembered")[1]
    assert shown == "No choice is remembered.\n"
    assert host.run(capsys, "requests", "X", "--remembered")[0] == 2


def test_forget(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named again."""
    host.answers["forget"] = ForgottenAnswer(KEPT)
    shown = on_terminal(host.root, "node", "forget", "K1D9WA")
    assert shown == (0, "forgotten  K1D9WA  desktop.open_url, https://example.org\n")
    assert host.run(capsys, "forget", "K1D9WA") == (0, f"forgotten\t{CHOICE}\n", "")
    _, out, _ = host.run(capsys, "forget", "K1D9WA", "--json")
    assert json.loads(out)["choice"]["choice_id"] == CHOICE


# -- reload ---------------------------------------------------------------------------------------


def test_reload(host: FakeNodeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in force; what was refused makes it fail."""
    host.answers["reload"] = ReloadedAnswer(1, 3, ["printer.print: no\u202e cups"], [])
    shown = on_terminal(host.root, "node", "reload")
    assert shown == (
        0,
        "reloaded  1 capability, 3 rules\n!!  printer.print: no\\u202e cups\n",
    )
    host.answers["reload"] = ReloadedAnswer(5, 1, [], ["The rules stay as they were: x."])
    status, out, err = host.run(capsys, "reload")
    assert (status, out) == (1, "capabilities\t5\nrules\t1\n")
    assert err == "!!  The rules stay as they were: x.\n"
    status, out, _ = host.run(capsys, "reload", "--json")
    assert (status, json.loads(out)["kept"]) == (1, ["The rules stay as they were: x."])


# -- nobody there ---------------------------------------------------------------------------------


def test_no_node_host_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3, and which state root was meant."""
    assert main(["node", "requests", "--state-root", str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        f"error: No node host runs on state root {tmp_path}.\n"
        "hint:  palyra node run, or set PALYRA_STATE_ROOT\n"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "hung up"),
        (b'{"answer":"requests"', "hung up"),
        (b"{}\n", "not one this version reads"),
        (b"\xff\n", "not one this version reads"),
        (StoppingAnswer(1), "not one this version reads (StoppingAnswer)"),
    ],
    ids=range(5),
)
def test_an_answer_that_is_none(
    host: FakeNodeHost, capsys: pytest.CaptureFixture[str], answer: bytes, said: str
) -> None:
    """Exit 3, with the reason."""
    host.answers["requests"] = answer
    status, out, err = host.run(capsys, "requests")
    assert (status, out) == (3, "")
    assert said in err


def test_an_answer_without_an_end(
    host: FakeNodeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not kept."""
    monkeypatch.setattr(nodehost, "MAX_ANSWER", 1_000)
    host.answers["requests"] = b"x" * 300_000
    assert host.run(capsys, "requests")[0] == 3


def test_a_host_of_another_user(
    host: FakeNodeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says whose it is."""

    def refused(*_: object) -> bytes:
        raise PermissionError(13, "no")

    monkeypatch.setattr(nodehost.NodeHost, "_exchange", refused)
    status, _, err = host.run(capsys, "requests")
    assert status == 1
    assert "control.sock belongs to user " in err and " palyra node status\n" in err


def test_a_host_that_does_not_answer(
    host: FakeNodeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever."""

    def slow(*_: object) -> bytes:
        raise TimeoutError("timed out")

    monkeypatch.setattr(nodehost.NodeHost, "_exchange", slow)
    status, _, err = host.run(capsys, "requests")
    assert (status, "nothing in 10s" in err) == (3, True)
