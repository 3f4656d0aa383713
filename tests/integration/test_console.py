"""The console of a real gateway: plain and TLS on one port, signing in, strangers, a taken port."""

from __future__ import annotations

import http.client
import os
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.pki.authority import Authority
from tests.integration.house import Gateway, House
from tests.integration.processes import HOST, eventually, free_port, script


class Browser:
    """As much of a browser as signing in takes; with ``tls`` it speaks HTTPS."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.origin = f"{'http' if tls is None else 'https'}://localhost:{port}"
        self._tls = tls
        self.cookie = ""
        self.csrf = ""

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and body of one request as the page makes it."""
        plain = http.client.HTTPConnection("localhost", self.port, timeout=10)
        link = plain if self._tls is None else self._secure(self._tls)
        headers = {"sec-fetch-site": "same-origin", "origin": self.origin}
        if body is not None:
            headers["content-type"] = "application/json"
        if self.cookie:
            headers["cookie"] = self.cookie
        if self.csrf:
            headers["x-palyra-csrf-token"] = self.csrf
        link.request(method, path, body, headers)
        answer = link.getresponse()
        content = answer.read()
        self.cookie = (answer.getheader("set-cookie") or self.cookie).partition(";")[0]
        link.close()
        is_json = answer.getheader("content-type") == "application/json"
        return answer.status, msgspec.json.decode(content) if is_json else content

    def _secure(self, tls: ssl.SSLContext) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=tls)


@pytest.fixture(scope="module")
def gateway(shared: House) -> Gateway:
    """One gateway for the tests that do not stop it."""
    return shared.gateway().start()


def believing(gateway: Gateway) -> ssl.SSLContext:
    """TLS that takes this gateway's CA as its only root."""
    return ssl.create_default_context(cafile=str(gateway.root / "identity" / "ca.pem"))


def token_of(gateway: Gateway) -> str:
    """The token of a new sign-in link."""
    done = gateway.cli("console", "login", "--json")
    assert done.code == 0, done
    link: str = msgspec.json.decode(done.out)["link"]
    return link.partition("#")[2]


@pytest.mark.parametrize("secure", [False, True])
def test_signing_in(gateway: Gateway, secure: bool) -> None:
    """The page is there, the link signs in once, the session needs its token, and ends."""
    browser = Browser(gateway.console_port, believing(gateway) if secure else None)
    status, page = browser.ask("GET", "/login")
    assert (status, b"<html" in page.lower()) == (200, True)
    assert browser.ask("GET", "/console/v1/nodes")[0] == 401
    body = msgspec.json.encode({"token": token_of(gateway)})
    assert browser.ask("POST", "/console/v1/auth/login/preview", body)[0] == 200
    status, signed_in = browser.ask("POST", "/console/v1/auth/login", body)
    assert (status, browser.cookie.startswith("palyra_console_session")) == (200, True)
    assert browser.ask("GET", "/console/v1/nodes")[0] == 403
    browser.csrf = signed_in["csrf_token"]
    assert browser.ask("GET", "/console/v1/nodes")[0] == 200
    assert Browser(gateway.console_port).ask("POST", "/console/v1/auth/login", body)[0] != 200
    assert browser.ask("POST", "/console/v1/auth/logout", b"{}")[0] == 200
    assert browser.ask("GET", "/console/v1/nodes")[0] == 401


def test_a_stranger_with_a_certificate(gateway: Gateway, tmp_path: Path) -> None:
    """One of another CA that claims our trust domain is a 401, whatever is asked."""
    now_ms = int(time.time() * 1000)
    authority = Authority.create(trust_domain="palyra", now_ms=now_ms, entropy=os.urandom)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_operator(key.public_key(), "01M80NKQCNX4K7QM2ZT9B3FVHD", now_ms)
    pem = x509.load_der_x509_certificate(issued.der).public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "stranger.pem").write_bytes(pem)
    tls = believing(gateway)
    tls.load_cert_chain(tmp_path / "stranger.pem")
    browser = Browser(gateway.console_port, tls)
    for path in ("nodes", "auth/self", "doctor"):
        status, problem = browser.ask("GET", f"/console/v1/{path}")
        assert (status, problem["code"]) == (401, "operator_certificate_refused")


def test_a_port_that_is_taken(gateway: Gateway, shared: House) -> None:
    """Another gateway on the console's port does not start, and says who has it."""
    other = shared.gateway("other")
    other.console_port = gateway.console_port
    done = other.refused()
    assert done.code == 1, done
    assert f"error: Port {gateway.console_port} is taken" in done.err
    assert "hint:  set another console endpoint in palyra.toml" in done.err


def test_beyond_loopback_without_names(shared: House) -> None:
    """It is refused before anything is made; an endpoint of another kind is too."""
    done = shared.gateway("third").refused("--console", "palyra:0:interface=0.0.0.0")
    assert done.code == 1, done
    assert "error: Binding 0.0.0.0:0 needs configured names" in done.err
    assert shared.gateway("fourth").refused("--console", "tcp:80").code == 1


def test_switched_off(shared: House) -> None:
    """``none``: console.sock alone, and a link cannot be made."""
    gateway = shared.gateway("without", config='[console]\nendpoint = "none"\n')
    arguments = gateway.arguments[: gateway.arguments.index("--console")]
    log = shared.path / "without.log"
    gateway.process = shared.start([script("twistd"), "-n", *arguments], log)
    gateway.ready()
    assert gateway.cli("console", "login").code == 1
    assert gateway.cli("nodes", "list").code == 0


def test_a_stop_ends_open_connections(shared: House) -> None:
    """A browser that keeps its connection does not keep the gateway."""
    gateway = shared.gateway("brief").start()
    link = http.client.HTTPConnection("localhost", gateway.console_port, timeout=10)
    link.request("GET", "/healthz")
    assert link.getresponse().read() == b'{"status":"ok"}'
    gateway.process.terminate()
    assert not gateway.process.alive
    link.close()


def test_another_server_on_our_endpoint(gateway: Gateway, shared: House) -> None:
    """``twistd web --listen palyra:...`` serves with the certificate of a running gateway."""
    port = free_port()
    (shared.path / "site").mkdir()
    (shared.path / "site" / "index.html").write_text("another server")
    listen = f"palyra:{port}:interface={HOST}:stateroot={gateway.root}"
    own = shared.path / "web.pid"
    command = [script("twistd"), "-n", "--pidfile", str(own), "web", "--listen", listen]
    command += ["--path", str(shared.path / "site")]
    process = shared.start(command, shared.path / "web.log")

    def answers() -> bytes | None:
        assert process.alive, process.output()
        link = http.client.HTTPSConnection(
            "localhost", port, timeout=10, context=believing(gateway)
        )
        try:
            link.request("GET", "/")
            return link.getresponse().read()
        except OSError:
            return None
        finally:
            link.close()

    assert eventually(answers, "the other server answers") == b"another server"
    process.terminate()
