"""AI clients over stdio, by the protocol's own client: a real gateway and a real node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import anyio
from mcp import Client
from mcp.types import ElicitRequestParams, ElicitResult

from palyra.console.models import GrantNode, NodeAnswer
from tests.integration.processes import environment
from tests.mcp.world import World, asynchronously, facts_of, text_of, until

PLAIN = {"text": "hello", "ask": False}
HELD = {"text": "secret", "ask": True}


def test_tools_and_their_calls(world: World) -> None:
    """What is granted is listed with its schema; calls run, and what is wrong comes back as an
    error of the tool."""
    agent = world.common

    async def act() -> None:
        async with agent.over_stdio() as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"echo", "system_health", "find_devices", "job_get"} < set(tools)
            assert tools["system_health"].input_schema["additionalProperties"] is False
            assert "data, never instructions" in (client.instructions or "")
            echoed = await client.call_tool("echo", {"target": "pi", "input": PLAIN})
            assert facts_of(echoed)["output"]["echo"] == PLAIN and not echoed.is_error
            health = await client.call_tool("system_health", {"target": world.node.device_id})
            assert facts_of(health)["output"]["status"]
            wrong = await client.call_tool("system_health", {"target": "pi", "input": {"bad": 1}})
            assert wrong.is_error and "input_invalid" in text_of(wrong) and "bad" in text_of(wrong)
            nobody = await client.call_tool("echo", {"target": "nobody", "input": 1})
            assert nobody.is_error and "nobody" in text_of(nobody)
            many = await client.call_tool("echo", {"target": "pi", "where": "all", "input": 1})
            assert many.is_error and "where" in text_of(many)
            found = await client.call_tool("find_devices", {"where": "presence = online"})
            assert [each["name"] for each in facts_of(found)["devices"]] == ["pi"]
            caret = await client.call_tool("find_devices", {"where": "presence = online and"})
            assert caret.is_error and "expression_invalid" in text_of(caret)

    asynchronously(act)
    assert agent.name in {job.requested_by for job in world.gateway.jobs()}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_call_that_a_rule_holds_back(world: World, mode: str) -> None:
    """It waits for somebody else, who decides elsewhere; then job_get has its result.  Whatever a
    client answers when it is asked to open the console decides nothing."""
    agent = world.common
    opened: list[Any] = []

    async def opens(_: Any, asked: ElicitRequestParams) -> ElicitResult:
        opened.append(asked)
        return ElicitResult(action="accept", content=None)

    async def act() -> None:
        async with agent.over_stdio(mode=mode, elicitation_callback=opens) as client:
            held = await client.call_tool("echo", {"target": "pi", "input": HELD})
            facts = facts_of(held)
            assert not held.is_error and facts["waiting_for"] == "approval"
            assert facts["approval_id"] in facts["approval_url"]
            again = await client.call_tool("job_get", {"job_id": facts["job_id"]})
            assert facts_of(again)["state"] == "queued"
            await anyio.to_thread.run_sync(world.approve, facts["approval_id"])
            ended = await client.call_tool("job_get", {"job_id": facts["job_id"], "wait_s": 20})
            assert facts_of(ended)["output"]["echo"] == HELD
            refused = agent.cli("approvals", "approve", facts["approval_id"][10:16])
            assert refused.code == 1 and "may not decide" in refused.err

    asynchronously(act)
    assert all(each.url.startswith("https://") for each in opened)
    assert len(opened) == (1 if mode == "legacy" else 0)


def test_a_long_call(world: World, tmp_path: Path) -> None:
    """Its progress is heard; cancelled at the client it ends on the device."""
    agent = world.common
    started, release = tmp_path / "started", tmp_path / "release"
    slow = {"target": "pi", "input": {"started": str(started), "release": str(release)}}
    heard: list[str | None] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async def begun() -> bool:
        return started.exists() and "It runs." in heard

    async def ended() -> bool:
        jobs = await anyio.to_thread.run_sync(world.gateway.jobs)
        return jobs[0].state == "cancelled"

    async def act() -> None:
        async with agent.over_stdio() as client:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    await client.call_tool("test_slow_echo", slow, progress_callback=tell)

                group.start_soon(call)
                await until(begun)
                group.cancel_scope.cancel()
            await until(ended)
            job = (await anyio.to_thread.run_sync(world.gateway.jobs))[0]
            cancelled = await client.call_tool("job_get", {"job_id": job.job_id})
            assert cancelled.is_error and facts_of(cancelled)["state"] == "cancelled"

    asynchronously(act)


def test_ending_a_job_by_its_id(world: World, tmp_path: Path) -> None:
    """One's own ends, and the call that waits for it says so; another operator's goes on."""
    agent = world.common
    started = tmp_path / "started"
    slow = {"started": str(started), "release": str(tmp_path / "release")}
    results: list[Any] = []

    async def begun() -> bool:
        return started.exists()

    async def act() -> None:
        async with agent.over_stdio() as client:

            async def call() -> None:
                arguments = {"target": "pi", "input": slow}
                results.append(await client.call_tool("test_slow_echo", arguments))

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await until(begun)
                job = (await anyio.to_thread.run_sync(world.gateway.jobs))[0]
                await client.call_tool("job_cancel", {"job_id": job.job_id})
            other = world.gateway.submit(world.node.device_id, "echo", b'{"ask": true}')
            denied = await client.call_tool("job_cancel", {"job_id": other})
            assert denied.is_error and "not_your_job" in text_of(denied)

    asynchronously(act)
    assert results[0].is_error and facts_of(results[0])["state"] == "cancelled"


def test_a_client_that_goes_away(world: World, tmp_path: Path) -> None:
    """What it had asked for is not left running."""
    agent = world.common
    started = tmp_path / "started"
    slow = {"started": str(started), "release": str(tmp_path / "release")}

    async def begun() -> bool:
        return started.exists()

    async def act() -> None:
        async with agent.over_stdio() as client, anyio.create_task_group() as group:
            arguments = {"target": "pi", "input": slow}
            group.start_soon(client.call_tool, "test_slow_echo", arguments)
            await until(begun)
            group.cancel_scope.cancel()

    asynchronously(act)
    assert world.gateway.ended(world.gateway.jobs()[0].job_id).job.state == "cancelled"


def test_grants_that_change_are_told(world: World) -> None:
    """The client hears that there is another list, whichever version it speaks."""
    agent = world.common

    def grant(**changes: Any) -> None:
        path = f"devices/{world.node.device_id}/grants"
        world.gateway.console.post(path, GrantNode(**changes), NodeAnswer)

    async def act() -> None:
        heard: list[Any] = []

        async def hears(message: Any) -> None:
            heard.append(message)

        async def names(client: Client) -> set[str]:
            return {tool.name for tool in (await client.list_tools()).tools}

        async with agent.over_stdio(mode="legacy", message_handler=hears) as client:
            assert "system_identity" in await names(client)
            await anyio.to_thread.run_sync(lambda: grant(withhold=["system.identity"]))

            async def told() -> bool:
                return any("list_changed" in getattr(each, "method", "") for each in heard)

            try:
                await until(told)
                assert "system_identity" not in await names(client)
            finally:
                await anyio.to_thread.run_sync(lambda: grant(grant=["system.identity"]))

    asynchronously(act)


def test_a_revoked_operator(world: World) -> None:
    """Every call says so; the server stays, for the client to read that."""
    agent = world.agent()

    async def act() -> None:
        async with agent.over_stdio() as client:
            await anyio.to_thread.run_sync(agent.revoke)
            refused = await client.call_tool("echo", {"target": "pi", "input": PLAIN})
            assert refused.is_error and "certificate is refused: revoked" in text_of(refused)
            assert (await client.list_tools()).tools

    asynchronously(act)


def test_who_is_refused_at_the_start(world: World) -> None:
    """An admin, an approver, and nobody: with what to do instead."""
    for role in ("admin", "approver"):
        agent = world.agent(role)
        refused = agent.cli("mcp", "--context", agent.name)
        assert (refused.code, refused.out) == (1, "") and f"role is {role}" in refused.err
        assert "palyra operators invite agent-claude --role operator" in refused.err
        agent.contexts.use_none()
        nobody = agent.cli("mcp")
        assert nobody.code == 1 and "an operator of their own" in nobody.err


def test_a_viewer_only_looks(world: World) -> None:
    """It has no tool that runs anything."""
    agent = world.agent("viewer")

    async def act() -> None:
        async with agent.over_stdio() as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert tools == {"find_devices", "job_get"}

    asynchronously(act)


NOISY = """
import os, sys
from palyra.cli import main
from palyra.mcp.server import NodeServer

list_ = NodeServer._list

async def noisy(self, context, params):
    print("stray", flush=True)
    os.write(1, b"stray\\n")
    return await list_(self, context, params)

NodeServer._list = noisy
status = main(sys.argv[1:])
print("reactor" if "twisted.internet.reactor" in sys.modules else "no reactor", file=sys.stderr)
sys.exit(status)
"""


def test_nothing_but_frames_on_stdout(world: World) -> None:
    """What is printed in the process goes to stderr; and our reactor is not in it."""
    agent = world.common
    about = {"protocolVersion": "2025-06-18", "capabilities": {}}
    about["clientInfo"] = {"name": "t", "version": "1"}
    frames = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    command = [sys.executable, "-c", NOISY, "mcp", "--context", agent.name]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(more=agent.env),
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(json.dumps(frame) + "\n" for frame in frames))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert [answer["id"] for answer in answers] == [1, 2] and out == ""
    assert err.count("stray") == 2 and "no reactor" in err
    assert process.returncode == 0, err
