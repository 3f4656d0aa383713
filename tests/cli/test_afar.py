"""Tests of asking a gateway from afar: contexts, TLS, accepting an invitation, renewing."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.afar import remote
from palyra.afar.contexts import CA, PAIR, PENDING, Context, Contexts, checked_url
from palyra.afar.remote import fetch_chain
from palyra.afar.renewal import Pending
from palyra.cli import main
from palyra.config.addresses import HostPort
from palyra.core.operator_uri import OperatorUri
from palyra.errors import (
    ContextUnknown,
    ContextUnusable,
    GatewayUnreachable,
    KeyFilePermission,
    Malformed,
)
from tests.cli.conftest import FakeConsole
from tests.cli.farconsole import OPERATOR, FarConsole, far_console
from tests.cli.things import node, node_list, problem

TOKEN = bytes(range(16))
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No gateway runs on this machine, and none is named."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def far() -> Iterator[FarConsole]:
    with far_console() as server:
        server.certifies("operators/enrol")
        server.certifies("operators/self/renew")
        server.on("GET", "nodes", node_list(node(name="far-pi")))
        yield server


def invitation(far: FarConsole, host: str = "localhost") -> str:
    return str(OperatorUri.of(host, far.port, bytes.fromhex(far.ca.ca_hash), TOKEN))


def in_file(line: str) -> str:
    """An invitation in a file, as it is given."""
    file = Path(os.environ["XDG_DATA_HOME"]) / "invitation"
    file.parent.mkdir(exist_ok=True)
    file.write_text(line)
    return f"@{file}"


def run(capsys: Capsys, *args: str) -> tuple[int, str, str]:
    status = main([*args])
    return status, *capsys.readouterr()


def accepted(far: FarConsole, capsys: Capsys) -> None:
    status, _, err = run(capsys, "operators", "accept", in_file(invitation(far)))
    assert status == 0, err


# -- accepting ---------------------------------------------------------------------------------


def test_accepting_an_invitation(far: FarConsole, capsys: Capsys) -> None:
    """The key is made here and stays here; from then on every command asks that gateway."""
    status, out, err = run(capsys, "operators", "accept", in_file(invitation(far)))
    assert (status, err) == (0, "")
    assert out.startswith(f"operator\tbo\nrole\toperator\ngateway\t{far.url}\ncontext\tlocalhost\n")
    (sent,) = [body for _, path, _, body in far.asked if path.endswith("enrol")]
    assert sorted(sent) == ["csr", "signature", "token"]
    assert "PRIVATE" not in str(sent)
    assert far.shown[-1] is None
    contexts = Contexts.of_user()
    assert contexts.current() == Context("localhost", far.url, "bo", OPERATOR)
    pair = contexts.pair_file("localhost")
    assert pair.stat().st_mode & 0o777 == 0o600
    assert not (contexts.directory("localhost") / PENDING).exists()
    status, out, _ = run(capsys, "nodes", "list")
    assert status == 0 and "far-pi" in out
    assert far.shown[-1] is not None and far.shown[-1] in pair.read_text()


def test_another_gateway_is_told_nothing(far: FarConsole, capsys: Capsys) -> None:
    """The CA is compared before anything is sent, and no key is left."""
    line = str(OperatorUri.of("localhost", far.port, bytes(32), TOKEN))
    status, _, err = run(capsys, "operators", "accept", in_file(line))
    assert status == 1
    assert "not the one in the invitation; nothing was sent" in err
    assert not far.asked
    assert Contexts.of_user().all() == []


def test_a_lost_answer_is_asked_for_again(far: FarConsole, capsys: Capsys) -> None:
    """With the same CSR."""
    far.on("POST", "operators/enrol", problem(), status=503)
    assert run(capsys, "operators", "accept", in_file(invitation(far)))[0] == 1
    far.certifies("operators/enrol")
    accepted(far, capsys)
    first, second = (body for _, _, _, body in far.asked)
    assert first["csr"] == second["csr"]


def test_where_the_line_comes_from(
    far: FarConsole, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file, or stdin; what is no invitation is not repeated."""
    file = tmp_path / "line"
    file.write_text(invitation(far) + "\n")
    assert run(capsys, "operators", "accept", f"@{file}", "--name", "one")[0] == 0
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run(capsys, "operators", "accept", "--name", "two")[0] == 0
    assert [each.name for each in Contexts.of_user().all()] == ["one", "two"]
    current = Contexts.of_user().current()
    assert current is not None and current.name == "one"
    status, _, err = run(capsys, "operators", "accept", in_file("palyra://secret"))
    assert status == 1 and "secret" not in err
    assert run(capsys, "operators", "accept", "@/nowhere")[0] == 2


def test_an_invitation_is_no_argument(far: FarConsole, capsys: Capsys) -> None:
    """The other accounts of the machine would see it; it is not repeated, and nothing is sent."""
    line = invitation(far)
    status, _, err = run(capsys, "operators", "accept", line)
    assert status == 2 and line not in err
    assert err == (
        "error: An invitation as an argument stays in the shell history.\n"
        "hint:  palyra operators accept - (it asks), or @FILE\n"
    )
    assert not far.asked


def test_a_console_with_a_certificate_of_its_own(
    far: FarConsole, capsys: Capsys, tmp_path: Path
) -> None:
    """Its roots are named by hand, and what the gateway says of its CAs does not replace them."""
    roots = tmp_path / "roots.pem"
    roots.write_bytes(far.ca.ca_pem)
    line = str(OperatorUri.of("localhost", far.port, bytes(32), TOKEN))
    assert run(capsys, "operators", "accept", in_file(line), "--ca-file", str(roots))[0] == 0
    far.headers.append(("x-palyra-renew", "due"))
    kept = Contexts.of_user().directory("localhost") / CA
    kept.write_bytes(far.ca.ca_pem + b"\n")
    assert run(capsys, "nodes", "list")[0] == 0
    assert far.asked[-1][1].endswith("self/renew")
    assert kept.read_bytes() == far.ca.ca_pem + b"\n"


def test_what_a_gateway_is_called_here(far: FarConsole, capsys: Capsys) -> None:
    """By its host; a second one there by its port too, and nothing that could not be kept."""
    accepted(far, capsys)
    with far_console() as other:
        other.certifies("operators/enrol")
        accepted(other, capsys)
        assert [each.name for each in Contexts.of_user().all()] == [
            "localhost",
            f"localhost-{other.port}",
        ]
    asked = len(far.asked)
    assert run(capsys, "operators", "accept", in_file(invitation(far)), "--name", "../x")[0] == 1
    assert len(far.asked) == asked


def test_roots_that_are_none(far: FarConsole, capsys: Capsys, tmp_path: Path) -> None:
    """It is said of the file, before anything is sent."""
    file = tmp_path / "roots.pem"
    for content in (b"", b"\xff", b"-----BEGIN CERTIFICATE-----\n"):
        file.write_bytes(content)
        done = run(capsys, "operators", "accept", in_file(invitation(far)), "--ca-file", str(file))
        assert done[0] == 1 and "ca-file" in done[2]
    assert not far.asked


# -- renewing ----------------------------------------------------------------------------------


def test_a_certificate_renews_itself(far: FarConsole, capsys: Capsys) -> None:
    """When the gateway says so; the next command has the new one."""
    accepted(far, capsys)
    pair = Contexts.of_user().pair_file("localhost")
    old = pair.read_bytes()
    far.headers.append(("x-palyra-renew", "due"))
    assert run(capsys, "nodes", "list")[0] == 0
    far.headers.clear()
    assert pair.read_bytes() != old
    assert run(capsys, "nodes", "list")[0] == 0
    assert far.shown[-1] is not None and far.shown[-1] in pair.read_text()


def test_a_renewal_that_fails_is_tried_again(far: FarConsole, capsys: Capsys) -> None:
    """The command itself has its answer, and the next try has the same CSR."""
    accepted(far, capsys)
    far.headers.append(("x-palyra-renew", "due"))
    far.on("POST", "operators/self/renew", problem(), status=503)
    for _ in range(2):
        status, out, err = run(capsys, "nodes", "list")
        assert (status, err) == (0, "") and "far-pi" in out
    tries = [body["csr"] for _, path, _, body in far.asked if path.endswith("self/renew")]
    assert len(tries) == 2 and len(set(tries)) == 1


def test_a_damaged_pending_key_is_made_anew(tmp_path: Path) -> None:
    """A crash before the disk had it must not be in the way."""
    file = tmp_path / "pending.pem"
    file.write_bytes(b"half")
    file.chmod(0o600)
    made = Pending(file)
    assert Pending(file).csr_der == made.csr_der


# -- what can go wrong -------------------------------------------------------------------------


def test_a_name_that_is_not_in_the_certificate(capsys: Capsys) -> None:
    """Both are named; with the name configured it works."""
    with far_console(["atlas.example.org"]) as far:
        far.certifies("operators/enrol")
        status, _, err = run(capsys, "operators", "accept", in_file(invitation(far, "127.0.0.1")))
        assert status == 1
        assert (
            "The console's certificate is for localhost, atlas.example.org; not for 127.0.0.1. "
            "Devices are not affected." in err
        )
        assert not far.asked
    with far_console(["127.0.0.1"]) as far:
        far.certifies("operators/enrol")
        assert run(capsys, "operators", "accept", in_file(invitation(far, "127.0.0.1")))[0] == 0


def test_a_clock_that_is_wrong(capsys: Capsys) -> None:
    """The certificate begins tomorrow, by this clock."""
    with far_console(begins_in_ms=86_400_000) as far:
        status, _, err = run(capsys, "operators", "accept", in_file(invitation(far)))
    assert status == 1
    assert "This clock (" in err and "timedatectl set-ntp true" in err


def test_another_ca_than_the_known_one(far: FarConsole, capsys: Capsys) -> None:
    """It is not asked."""
    accepted(far, capsys)
    with far_console() as other:
        (Contexts.of_user().directory("localhost") / CA).write_bytes(other.ca.ca_pem)
    asked = len(far.asked)
    status, _, err = run(capsys, "nodes", "list")
    assert status == 3 and "not of the CA that is known for it" in err
    assert len(far.asked) == asked


def test_nobody_there(far: FarConsole, capsys: Capsys) -> None:
    """Exit 3, with the cause."""
    accepted(far, capsys)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://localhost:{free.getsockname()[1]}"
    contexts = Contexts.of_user()
    pair = contexts.pair_file("localhost").read_bytes()
    contexts.add(Context("gone", url), far.ca.ca_pem, pair)
    status, _, err = run(capsys, "nodes", "list", "--context", "gone")
    assert status == 3 and "connection refused" in err


def test_what_speaks_no_tls(tmp_path: Path) -> None:
    """It is told from silence."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(GatewayUnreachable, match="no answer"):
            fetch_chain(HostPort("127.0.0.1", mute.getsockname()[1]), timeout_s=0.1)
    assert remote.cause_of(ssl.SSLError(1, "WRONG_VERSION_NUMBER")) == "no TLS there"
    assert "did not take" in remote.cause_of(ssl.SSLError(1, "TLSV13_ALERT_CERTIFICATE_REQUIRED"))


# -- contexts ----------------------------------------------------------------------------------


def test_which_gateway_is_meant(
    far: FarConsole, console: FakeConsole, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is named counts before what is here, and that before the context in use."""
    accepted(far, capsys)
    console.on("GET", "nodes", node_list(node(name="near-pi")))
    here = "--state-root", str(console.root)

    def asked(*args: str) -> str:
        return run(capsys, "nodes", "list", *args)[1]

    assert "far-pi" in asked()
    assert "near-pi" in asked(*here)
    assert "far-pi" in asked(*here, "--context", "localhost")
    assert "far-pi" in asked(*here, "--gateway-url", far.url)
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(console.root))
    assert "near-pi" in asked()
    monkeypatch.setenv("PALYRA_GATEWAY_URL", far.url + "/")
    assert "far-pi" in asked()
    assert "near-pi" in asked(*here)
    monkeypatch.setenv("PALYRA_GATEWAY_URL", "https://elsewhere")
    assert run(capsys, "nodes", "list")[0] == 1


def test_a_gateway_that_runs_here_comes_first(
    far: FarConsole, console: FakeConsole, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word about which."""
    accepted(far, capsys)
    console.on("GET", "nodes", node_list(node(name="near-pi")))
    monkeypatch.setattr("palyra.config.roots.default_state_root", lambda: console.root)
    assert "near-pi" in run(capsys, "nodes", "list")[1]


def test_contexts_by_hand(far: FarConsole, capsys: Capsys, tmp_path: Path) -> None:
    """Added with a certificate that one has, under a pinned CA; listed, used, removed."""
    accepted(far, capsys)
    identity = str(Contexts.of_user().pair_file("localhost"))
    given = ("context", "add", "atlas", "--url", far.url, "--identity", identity)
    grouped = " ".join(far.ca.ca_hash[i : i + 4].upper() for i in range(0, 64, 4))
    assert run(capsys, *given, "--pin", grouped)[0] == 0
    assert run(capsys, *given, "--pin", "00" * 32)[0] == 1
    assert run(capsys, *given)[0] == 2
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(far.ca.ca_pem)
    assert run(capsys, *given, "--ca-file", str(ca_file))[0] == 0
    assert run(capsys, "context", "use", "atlas")[1] == f"context\tatlas\ngateway\t{far.url}\n"
    assert run(capsys, "context", "list")[1] == f"atlas\t{far.url}\t-\tyes\n" + (
        f"localhost\t{far.url}\tbo\t-\n"
    )
    assert "far-pi" in run(capsys, "nodes", "list")[1]
    assert '"in_use":true' in run(capsys, "context", "list", "--json")[1]
    assert run(capsys, "context", "remove", "atlas")[0] == 0
    assert Contexts.of_user().current() is None
    assert not Contexts.of_user().directory("atlas").exists()
    assert run(capsys, "context", "use", "atlas")[0] == 1
    assert run(capsys, "context", "use")[0] == 2
    assert run(capsys, "context", "use", "--none")[0] == 0


def test_what_is_no_identity(far: FarConsole, capsys: Capsys, tmp_path: Path) -> None:
    """A key and its certificate, and nothing less."""
    file = tmp_path / "id.pem"
    file.write_bytes(far.ca.ca_pem)
    given = ("context", "add", "a", "--url", far.url, "--pin", far.ca.ca_hash)
    assert run(capsys, *given, "--identity", str(file))[0] == 1


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Atlas", "https://atlas:7142"),
        ("https://atlas:7142/", "https://atlas:7142"),
        (" https://[2001:db8::1]:8443 ", "https://[2001:db8::1]:8443"),
    ],
)
def test_addresses_have_one_spelling(text: str, url: str) -> None:
    """The usual port may be left out."""
    assert checked_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "atlas", "http://atlas", "https://a:x", "https://a/b", "https://u@a", "https://"]
)
def test_what_is_no_address(text: str) -> None:
    """Only HTTPS, and nothing behind the port."""
    with pytest.raises(Malformed):
        checked_url(text)


def test_a_context_that_is_damaged(tmp_path: Path) -> None:
    """It is named, and never half used."""
    contexts = Contexts(tmp_path / "palyra")
    contexts.add(Context("a", "https://a:7142"), b"ca", b"pair")
    pair = contexts.pair_file("a")
    if os.name == "posix":
        pair.chmod(0o644)
        with pytest.raises(KeyFilePermission):
            contexts.pair_file("a")
    pair.unlink()
    with pytest.raises(ContextUnusable, match=PAIR):
        contexts.pair_file("a")
    (contexts.directory("a") / "context.json").write_text("{")
    with pytest.raises(ContextUnusable):
        contexts.get("a")
    assert contexts.all() == []
    for name in ("b", "../a", ""):
        with pytest.raises(ContextUnknown):
            contexts.get(name)
    with pytest.raises(Malformed):
        contexts.add(Context("../a", "https://a:7142"), b"", b"")
