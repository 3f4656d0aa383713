"""AI clients over streamable HTTP, by the protocol's own client."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp")

import anyio
import httpx2

from tests.integration.house import House
from tests.mcp.world import World, asynchronously, facts_of, text_of

PLAIN = {"text": "hello", "ask": False}
BODY = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def test_two_clients_at_once(world: World, house: House) -> None:
    """Of either version; each hears the progress of its own call only."""
    agent = world.common

    async def act() -> None:
        with agent.serving(house) as server:
            async with server.client() as new, server.client(mode="legacy") as old:
                for client in (new, old):
                    names = {tool.name for tool in (await client.list_tools()).tools}
                    assert {"echo", "find_devices"} < names
                results = {}

                async def call(client_name: str, text: str) -> None:
                    client = new if client_name == "new" else old
                    arguments = {"target": "pi", "input": {**PLAIN, "text": text}}
                    results[client_name] = await client.call_tool("echo", arguments)

                async with anyio.create_task_group() as group:
                    group.start_soon(call, "new", "from new")
                    group.start_soon(call, "old", "from old")
                for name, result in results.items():
                    assert facts_of(result)["output"]["echo"]["text"] == f"from {name}"

    asynchronously(act)


def test_who_is_not_let_in(world: World, house: House) -> None:
    """Another name, another page, another token; the file with the token is the owner's alone,
    and what is said of a request is nothing."""
    agent = world.common

    async def act() -> None:
        with agent.serving(house) as server:
            good = server.headers | {"Accept": "application/json, text/event-stream"}
            async with httpx2.AsyncClient(trust_env=False) as http:
                for changes, status in (
                    ({"Host": "evil.example"}, 421),
                    ({"Origin": "https://evil.example"}, 403),
                    ({"Authorization": "Bearer nonsense"}, 401),
                ):
                    headers = good | changes
                    refused = await http.post(server.url, json=BODY, headers=headers)
                    assert refused.status_code == status, refused.text
                assert (await http.post(server.url, json=BODY)).status_code == 401
                other = await http.get(server.url.replace("/mcp", "/"), headers=good)
                assert other.status_code == 404
                large = await http.post(server.url, content=b"x" * 6_000_000, headers=good)
                assert large.status_code == 413
            assert server.token_file.stat().st_mode & 0o777 == 0o600
            said = server.process.said()
            assert server.token_file.read_text().strip() not in said and "evil" not in said
            assert server.process.terminate() in (0, -15, 143)

    asynchronously(act)


def test_a_gateway_that_goes_away_and_comes_back(house: House) -> None:
    """Calls meanwhile say so; afterwards they run."""
    own = World(house)
    agent = own.agent()

    async def act() -> None:
        with agent.serving(house) as server:
            async with server.client() as client:
                await anyio.to_thread.run_sync(own.gateway.process.kill)
                lost = await client.call_tool("find_devices", {})
                assert lost.is_error and "gateway_unreachable" in text_of(lost)
                await anyio.to_thread.run_sync(own.gateway.start)
                await anyio.to_thread.run_sync(own.gateway.online, own.node.device_id)
                found = await client.call_tool("echo", {"target": "pi", "input": PLAIN})
                assert facts_of(found)["state"] == "succeeded"

    asynchronously(act)


def test_only_loopback(world: World, house: House) -> None:
    """Another address is refused at the start."""
    agent = world.common
    refused = agent.cli("mcp", "--context", agent.name, "--http", "0.0.0.0:0")
    assert refused.code == 2 and "loopback" in refused.err
    stray = agent.cli("mcp", "--context", agent.name, "--allow-host", "x:1")
    assert stray.code == 2 and "--http" in stray.err
