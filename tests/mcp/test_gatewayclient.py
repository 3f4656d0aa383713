"""Tests of :mod:`palyra.mcp.gatewayclient`, over TLS on loopback."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

pytest.importorskip("mcp")

import httpx2

from palyra.afar.contexts import CA, PAIR, PENDING
from palyra.afar.refusals import AnswerUnreadable, GatewayRefused
from palyra.console.models import CallerAnswer, CancelJob, JobAnswer, JobEvent, NodeList
from palyra.errors import ContextUnusable, GatewayUnreachable, KeyFilePermission
from palyra.mcp import gatewayclient
from palyra.mcp.gatewayclient import cause_of
from tests.cli.conftest import Stream
from tests.cli.farconsole import FarConsole, far_console
from tests.cli.things import event_of_job, job, job_answer, node, node_list, problem
from tests.mcp.asking import asking
from tests.mcp.world import asynchronously


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is sent again at once."""
    monkeypatch.setattr(gatewayclient, "PAUSES_S", (0.0, 0.0))


def test_it_shows_its_certificate(far: FarConsole, tmp_path: Path) -> None:
    """And checks that of the gateway against its own CA alone."""

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            answer = await client.get("auth/self", CallerAnswer)
            assert answer.caller.role == "operator"

    asynchronously(act)
    assert far.shown[-1] in (tmp_path / "palyra/contexts/far" / PAIR).read_text()


def test_a_proxy_of_the_environment_is_not_asked(
    far: FarConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody stands between."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            await client.get("auth/self", CallerAnswer)

    asynchronously(act)


def test_another_ca_is_told_nothing(far: FarConsole, tmp_path: Path) -> None:
    """The certificate is checked before anything is sent."""

    async def act() -> None:
        with far_console() as other:
            async with asking(far, tmp_path) as client:
                ca = tmp_path / "palyra/contexts/far" / CA
                ca.write_bytes(other.ca.ca_pem)
                with pytest.raises(GatewayUnreachable, match="not of the CA"):
                    await client.get("auth/self", CallerAnswer)

    asynchronously(act)
    assert not far.asked


def test_a_refusal_is_the_gateways_own(far: FarConsole, tmp_path: Path) -> None:
    """What has no reason in it is told as that."""
    far.on("GET", "nodes", problem(), status=412)
    far.on("GET", "jobs", b"<html>", status=502)
    far.on("GET", "approvals", b"{}")

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            with pytest.raises(GatewayRefused) as refused:
                await client.get("nodes", NodeList)
            assert refused.value.problem == problem()
            with pytest.raises(GatewayUnreachable, match="502 without a reason"):
                await client.get("jobs", NodeList)
            with pytest.raises(AnswerUnreadable):
                await client.get("approvals", NodeList)

    asynchronously(act)


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    """In the words that the command line has for it."""

    async def act() -> None:
        with far_console() as far:
            context = asking(far, tmp_path)
            client = await context.__aenter__()
        with pytest.raises(GatewayUnreachable, match="connection refused"):
            await client.post_again("jobs/x/cancel", CancelJob(), JobAnswer)
        await context.__aexit__(None, None, None)

    asynchronously(act)


def test_a_connection_that_was_ended_meanwhile(
    far: FarConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only read is asked for again, once."""
    ended = httpx2.RemoteProtocolError("Server disconnected without sending a response.")
    failures = [ended, ended, ended]

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            whole = client._client

            def broken() -> httpx2.AsyncClient:
                if failures:
                    raise failures.pop()
                return whole()

            monkeypatch.setattr(client, "_client", broken)
            with pytest.raises(GatewayUnreachable, match="Server disconnected"):
                await client.get("auth/self", CallerAnswer)
            assert (await client.get("auth/self", CallerAnswer)).caller.role == "operator"

    asynchronously(act)
    assert not failures


def test_a_keyed_request_is_sent_again(far: FarConsole, tmp_path: Path) -> None:
    """The same bytes; a refusal that stays is not."""
    far.on("POST", "jobs/x/cancel", problem("gateway_busy"), status=503)
    far.on("POST", "jobs/y/cancel", problem("nope"), status=409)

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            for path in ("jobs/x/cancel", "jobs/y/cancel"):
                with pytest.raises(GatewayRefused):
                    await client.post_again(path, CancelJob("r"), JobAnswer)

    asynchronously(act)
    asked = [path for _, path, _, body in far.asked if body == {"reason": "r"}]
    retries = 3 if problem().retryable else 1
    assert len([path for path in asked if "jobs/x" in path]) == retries


def test_a_gateway_that_was_asked_too_much_is_asked_again(far: FarConsole, tmp_path: Path) -> None:
    """Off loopback it takes 30 requests a second, and there may be a tool for each of a hundred."""
    far.on("GET", "nodes", problem("requests_limited"), status=429)
    far.on("GET", "capabilities", problem("nope"), status=409)

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            for path in ("nodes", "capabilities"):
                with pytest.raises(GatewayRefused):
                    await client.get(path, NodeList)

    asynchronously(act)
    assert [path.rpartition("/")[2] for _, path, _, _ in far.asked] == ["nodes"] * 3 + [
        "capabilities"
    ]


def test_pages(far: FarConsole, tmp_path: Path) -> None:
    """Until the last one."""
    far.on("GET", "nodes", [node_list(node(name="a"), cursor="c"), node_list(node(name="b"))])

    async def act() -> list[str]:
        async with asking(far, tmp_path) as client:
            pages = client.pages("nodes", NodeList, lambda answer: answer.page)
            return [each.name async for page in pages for each in page.nodes]

    assert asynchronously(act) == ["a", "b"]
    assert [query.get("cursor") for _, _, query, _ in far.asked] == [None, "c"]


def test_a_stream_until_it_is_enough(far: FarConsole, tmp_path: Path) -> None:
    """One that ends before that was lost."""
    events = [event_of_job(job(state="dispatched"), each / 4) for each in range(4)]
    far.on("GET", "jobs/x/events", Stream.of(*events))
    heard: list[float | None] = []

    async def tell(event: JobEvent) -> bool:
        heard.append(event.progress)
        return event.progress == 0.5

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            await client.follow("jobs/x/events", JobEvent, tell)
            assert heard == [0, 0.25, 0.5]
            far.on("GET", "jobs/x/events", Stream.of(events[0]))
            with pytest.raises(GatewayUnreachable, match="ended early"):
                await client.follow("jobs/x/events", JobEvent, tell)

    asynchronously(act)


def test_the_certificate_renews_itself(far: FarConsole, tmp_path: Path) -> None:
    """When an answer says so; the next request shows the new one."""
    far.headers.append(("x-palyra-renew", "1"))
    pair = tmp_path / "palyra/contexts/far" / PAIR

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            first = pair.read_text()
            await client.get("auth/self", CallerAnswer)
            assert pair.read_text() != first and not pair.with_name(PENDING).exists()
            far.headers.clear()
            await client.get("auth/self", CallerAnswer)

    asynchronously(act)
    assert far.shown[-1] in pair.read_text() and far.shown[0] not in pair.read_text()


def test_a_renewal_that_fails_is_no_failure(far: FarConsole, tmp_path: Path) -> None:
    """It is tried again with the next answer, with the same key."""
    far.headers.append(("x-palyra-renew", "1"))
    far.on("POST", "operators/self/renew", problem(), status=503)

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            for _ in range(2):
                await client.get("auth/self", CallerAnswer)

    asynchronously(act)
    first, second = (body for method, _, _, body in far.asked if method == "POST")
    assert first == second


def test_what_is_kept_must_be_whole_and_private(far: FarConsole, tmp_path: Path) -> None:
    """It is looked at again whenever it changes."""
    pair = tmp_path / "palyra/contexts/far" / PAIR

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            whole = pair.read_bytes()
            pair.chmod(0o644)
            with pytest.raises(KeyFilePermission):
                await client.get("auth/self", CallerAnswer)
            pair.write_bytes(b"damaged")
            pair.chmod(0o600)
            with pytest.raises(ContextUnusable):
                await client.get("auth/self", CallerAnswer)
            pair.unlink()
            with pytest.raises(ContextUnusable):
                await client.get("auth/self", CallerAnswer)
            pair.touch(0o600)
            pair.write_bytes(whole)
            await client.get("auth/self", CallerAnswer)

    asynchronously(act)


def test_the_first_cause_is_told() -> None:
    """Below groups and what the libraries made of it; TLS before the system."""
    below = ConnectionRefusedError(111, os.strerror(111))
    group = ExceptionGroup("all", [OSError("x"), below])
    made = RuntimeError("made of it")
    made.__cause__ = group
    assert isinstance(cause_of(made), OSError)
    tls = ssl.SSLCertVerificationError("bad")
    made.__cause__ = tls
    tls.__context__ = below
    assert cause_of(made) is tls
    assert cause_of(made.__class__("alone")).args == ("alone",)


def test_an_answer_is_not_the_whole_memory(
    far: FarConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read up to a bound."""
    monkeypatch.setattr(gatewayclient, "MAX_ANSWER", 100)
    far.on("GET", "jobs/x", job_answer())

    async def act() -> None:
        async with asking(far, tmp_path) as client:
            with pytest.raises(GatewayUnreachable, match="does not end"):
                await client.get("jobs/x", JobAnswer)

    asynchronously(act)
