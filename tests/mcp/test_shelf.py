"""Tests of :mod:`palyra.mcp.shelf`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("mcp")

import anyio

from palyra.console.models import FeedEvent, Problem
from palyra.errors import McpOperatorRefused
from palyra.mcp import shelf as shelves
from palyra.mcp.shelf import Shelf, check_caller
from tests.cli.conftest import Stream
from tests.cli.farconsole import FarConsole
from tests.cli.things import node_list
from tests.mcp.asking import asking
from tests.mcp.things import answering, caller, catalogue, described, device, item
from tests.mcp.world import asynchronously

OTHER = "e" * 64


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed is looked at at once."""
    monkeypatch.setattr(shelves, "SETTLE_S", 0.0)
    monkeypatch.setattr(shelves, "AGAIN_S", (0.0,))


@pytest.mark.parametrize("role", ["admin", "approver"])
def test_who_decides_is_not_served(role: str) -> None:
    """A client could approve what it asks for; the hint says what to do."""
    with pytest.raises(McpOperatorRefused) as refused:
        check_caller(caller(role).caller)
    assert role in refused.value.sentence
    assert "palyra operators invite agent-claude --role operator" in refused.value.hint
    assert "palyra operators accept" in refused.value.hint


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_is_served(role: str) -> None:
    """But never as an account of the gateway's own machine."""
    check_caller(caller(role).caller)
    with pytest.raises(McpOperatorRefused):
        check_caller(caller(role, "local:1000").caller)


def test_what_is_granted_becomes_a_tool(far: FarConsole, tmp_path: Path) -> None:
    """Its descriptor is asked for once, by its digest; one that nobody knows is no tool."""
    unknown = item("test.unknown", digest=OTHER)
    far.on("GET", "nodes", node_list(device(item(), unknown)))
    answers = [catalogue(described()), catalogue()]
    far.on("GET", "capabilities", answers)

    async def act() -> None:
        async with asking(far, tmp_path) as gateway:
            shelf = Shelf(gateway, where="label.site = prague")
            await shelf.load()
            assert shelf.box.capabilities == {"test_tool": "test.tool"}
            await shelf.load()

    asynchronously(act)
    asked = [query for _, path, query, _ in far.asked if path.endswith("capabilities")]
    assert [query["digest"][:1] for query in asked] == ["d", "e", "e"]
    listed = [query for _, path, query, _ in far.asked if path.endswith("nodes")]
    assert listed[0]["where"] == "label.site = prague" and listed[0]["trust"] == "trusted"


def test_a_descriptor_of_another_capability_is_not_taken(far: FarConsole, tmp_path: Path) -> None:
    """What a device announces under a digest has the descriptor's own name."""
    far.on("GET", "capabilities", catalogue(described("test.other")))

    async def act() -> None:
        async with asking(far, tmp_path) as gateway:
            shelf = Shelf(gateway)
            await shelf.load()
            assert not shelf.box.capabilities

    asynchronously(act)


def test_what_changes_is_read_again(far: FarConsole, tmp_path: Path) -> None:
    """When the events are heard again; of a device that is granted something else the event says
    enough, and one that only comes and goes changes nothing."""
    changes: list[int] = []
    one = device(item())
    both = device(item(), item("test.more", digest=OTHER))
    events = [
        FeedEvent("counts"),
        FeedEvent("node", device_id=one.device_id, node=one),
        FeedEvent("node", device_id=both.device_id, node=both),
    ]
    written = [b"data: %s\n\n" % msgspec.json.encode(event) for event in events]
    far.on("GET", "events", Stream(written))
    far.on("GET", "nodes", node_list(one))
    more = described("test.more", digest=OTHER)
    far.on("GET", "capabilities", [catalogue(described()), catalogue(more)])

    async def act() -> None:
        async with asking(far, tmp_path) as gateway, anyio.create_task_group() as group:
            shelf = Shelf(gateway)
            await shelf.load()

            async def changed() -> None:
                changes.append(len(shelf.box.capabilities))
                group.cancel_scope.cancel()

            shelf.changed = changed
            await shelf.watch()

    asynchronously(act)
    assert changes == [2]
    assert len([path for _, path, _, _ in far.asked if path.endswith("/nodes")]) == 2


def test_a_role_that_grows_ends_the_service(far: FarConsole, tmp_path: Path) -> None:
    """Calls are refused until it has shrunk again."""

    async def act() -> None:
        async with asking(far, tmp_path) as gateway:
            shelf = Shelf(gateway)
            await shelf.load()
            await shelf.check()
            answering(far, "admin")
            with pytest.raises(McpOperatorRefused):
                await shelf.load()
            with pytest.raises(McpOperatorRefused):
                await shelf.check()
            assert not shelf.box.tools
            answering(far)
            await shelf.load()
            await shelf.check()
            assert shelf.box.capabilities

    asynchronously(act)


def test_a_gateway_that_is_lost_keeps_the_tools(far: FarConsole, tmp_path: Path) -> None:
    """Their calls say what is wrong; the shelf goes on trying."""
    refusal = Problem("Revoked.", "operator_certificate_refused", "", "unauthenticated", False)
    far.on("GET", "events", refusal, status=401)

    async def act() -> None:
        async with asking(far, tmp_path) as gateway:
            shelf = Shelf(gateway)
            await shelf.load()
            with anyio.move_on_after(0.2):
                await shelf.watch()
            assert shelf.box.capabilities

    asynchronously(act)
    assert len([path for _, path, _, _ in far.asked if path.endswith("/events")]) > 1
