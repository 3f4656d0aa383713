"""Tests of :mod:`palyra.mcp.server`, with the protocol's client in the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import anyio
from mcp import Client, MCPError
from mcp.client.subscriptions import ToolsListChanged

from palyra.mcp import server as servers
from palyra.mcp.calls import Calls
from palyra.mcp.server import NodeServer, _Told
from palyra.mcp.shelf import Shelf
from tests.cli.farconsole import FarConsole
from tests.cli.things import JOB, invoke_answer, job_answer, node_list
from tests.mcp.asking import asking
from tests.mcp.things import device, item
from tests.mcp.world import asynchronously, facts_of, text_of

CALL = {"target": "pi"}


class Heard:
    """A session that keeps what it is told."""

    def __init__(self) -> None:
        self.numbers: list[float] = []

    async def report_progress(self, progress: float, total: float, message: str) -> None:
        self.numbers.append(progress)


def test_progress_only_grows() -> None:
    """As the protocol wants it, whatever a device reports; what was said is not said again."""
    heard = Heard()
    told = _Told(heard, True)  # type: ignore[arg-type]

    async def act() -> None:
        for fraction, text in ((None, "a"), (0.5, "b"), (0.5, "b"), (0.1, "c"), (7.0, "d")):
            await told.tell(fraction, text)

    asynchronously(act)
    assert len(heard.numbers) == 4 and heard.numbers == sorted(set(heard.numbers))
    assert heard.numbers[-1] == 1.0


async def serve(far: FarConsole, root: Path, act: Any) -> None:
    """Run ``act(client, server)`` with a client of a server whose gateway is this one."""
    far.on("POST", "nodes/pi/invoke", invoke_answer())
    far.on("GET", f"jobs/{JOB}", job_answer())
    async with asking(far, root) as gateway:
        shelf = Shelf(gateway)
        await shelf.load()
        made = NodeServer(gateway, shelf, Calls(gateway))
        async with Client(made.protocol) as client:
            await act(client, shelf)


def test_an_input_that_may_be_left_out(far: FarConsole, tmp_path: Path) -> None:
    """An object without required members: the device gets an empty one."""

    async def act(client: Client, _: Shelf) -> None:
        assert not (await client.call_tool("test_tool", CALL)).is_error
        await client.call_tool("test_tool", {**CALL, "input": None})

    asynchronously(lambda: serve(far, tmp_path, act))
    sent = [body["input_json"] for method, _, _, body in far.asked if method == "POST"]
    assert sent == [{}, None]


def test_a_tool_that_is_not_there(far: FarConsole, tmp_path: Path) -> None:
    """Nothing is asked of the gateway by the name of a capability that is not listed."""

    async def act(client: Client, _: Shelf) -> None:
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("test.tool", CALL)

    asynchronously(lambda: serve(far, tmp_path, act))
    assert not [path for method, path, _, _ in far.asked if method == "POST"]


def test_calls_at_once_are_bounded(
    far: FarConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client that asks without end does not take everything."""
    monkeypatch.setattr(servers, "MAX_AT_ONCE", 0)

    async def act(client: Client, _: Shelf) -> None:
        refused = await client.call_tool("test_tool", CALL)
        assert refused.is_error and "calls of AI clients at once" in text_of(refused)
        assert facts_of(await client.call_tool("job_get", {"job_id": JOB}))["job_id"] == JOB
        waiting = await client.call_tool("job_get", {"job_id": JOB, "wait_s": 60})
        assert waiting.is_error and "calls of AI clients at once" in text_of(waiting)

    asynchronously(lambda: serve(far, tmp_path, act))


def test_who_listens_hears_of_another_list(far: FarConsole, tmp_path: Path) -> None:
    """The new version of the protocol asks for that by itself."""

    async def act(client: Client, shelf: Shelf) -> None:
        async with client.listen(tools_list_changed=True) as events:
            far.on("GET", "nodes", node_list(device(item("test.none", granted=False))))
            await shelf.load()
            with anyio.fail_after(10):
                assert isinstance(await anext(aiter(events)), ToolsListChanged)
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "test_tool" not in names

    asynchronously(lambda: serve(far, tmp_path, act))


def test_every_client_is_told_that_tools_change(far: FarConsole, tmp_path: Path) -> None:
    """Whichever way it came: a client that does not know would not listen."""

    async def act() -> None:
        async with asking(far, tmp_path) as gateway:
            made = NodeServer(gateway, Shelf(gateway), Calls(gateway))
            told = made.protocol.create_initialization_options().capabilities
            assert told.tools is not None and told.tools.list_changed

    asynchronously(act)
