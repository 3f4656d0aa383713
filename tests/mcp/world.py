"""A gateway with rules, a node, and operators whose AI clients are served by real processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from palyra.afar.contexts import Contexts
from tests.integration import plugin
from tests.integration.house import PATIENT, Gateway, House, NodeHost
from tests.integration.processes import Process, Ran, environment, run, script

RULES = """
[[policy.rule]]
id = "ask-for-secrets"
effect = "ask"
capability = ["echo"]
input = [{ path = "/ask", equals = true }]

[[policy.rule]]
effect = "allow"
"""
LIMIT_S = 60.0
T = TypeVar("T")


class Agent:
    """An operator of their own on a machine of their own: a configuration directory."""

    def __init__(self, home: Path, gateway: Gateway, name: str, role: str) -> None:
        self.home, self.name, self._gateway = home, name, gateway
        home.mkdir(mode=0o700)
        self.contexts = Contexts(home / "palyra")
        invited = gateway.cli("operators", "invite", name, "--role", role)
        line = invited.out.splitlines()[0].removeprefix("uri\t")
        accepted = self.cli("operators", "accept", "--name", name, stdin=line + "\n")
        assert accepted.code == 0, accepted

    @property
    def env(self) -> dict[str, str]:
        """Where its commands find what they keep."""
        return {"XDG_CONFIG_HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data")}

    def cli(self, *arguments: str, stdin: str = "") -> Ran:
        """``palyra ...`` there."""
        return run([script("palyra"), *arguments], self.home, stdin, env=self.env)

    def revoke(self) -> None:
        """The gateway does not know them any more."""
        done = self._gateway.cli("operators", "revoke", self.name)
        assert done.code == 0, done

    @contextlib.asynccontextmanager
    async def over_stdio(self, *options: str, **more: Any) -> AsyncIterator[Client]:
        """A client that starts ``palyra mcp`` itself."""
        command = ["mcp", "--context", self.name, *options]
        started = StdioServerParameters(
            command=script("palyra"), args=command, env=environment(more=self.env), cwd=self.home
        )
        with (self.home / "stdio.log").open("a") as log:
            async with Client(stdio_client(started, errlog=log), **more) as client:
                yield client

    @contextlib.contextmanager
    def serving(self, house: House, *options: str) -> Iterator[HttpServer]:
        """``palyra mcp --http`` on a port that is free."""
        command = [script("palyra"), "mcp", "--context", self.name, "--http", "0", *options]
        process = house.start(command, self.home / "http.log", env=self.env)
        try:
            url = process.says("url\t").split("\t")[1]
            token_file = Path(process.says("token\t").split("\t")[1])
            yield HttpServer(process, url, token_file)
        finally:
            process.close()


class HttpServer:
    """``palyra mcp --http`` as its clients see it."""

    def __init__(self, process: Process, url: str, token_file: Path) -> None:
        self.process, self.url, self.token_file = process, url, token_file

    @property
    def headers(self) -> dict[str, str]:
        """What lets a client in."""
        return {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}

    @contextlib.asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[Client]:
        """A client over streamable HTTP."""
        timeout = httpx2.Timeout(LIMIT_S)
        http = httpx2.AsyncClient(headers=self.headers, trust_env=False, timeout=timeout)
        async with http, Client(streamable_http_client(self.url, http_client=http), **more) as made:
            yield made


class World:
    """One gateway, one node that has slow capabilities too, and any number of agents."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.gateway = house.gateway(config=PATIENT, rules=RULES).start()
        self.node: NodeHost = house.node("pi", plugin.install(house.path / "plugins"))
        self.node.pair(self.gateway)
        self._agents = 0

    @cached_property
    def common(self) -> Agent:
        """The operator of every test that leaves them as they are."""
        return self.agent()

    def agent(self, role: str = "operator") -> Agent:
        """A new operator."""
        self._agents += 1
        name = f"agent-{self._agents}"
        return Agent(self.house.path / name, self.gateway, name, role)

    def approve(self, approval_id: str) -> None:
        """Another operator says yes, by command."""
        done = self.gateway.cli("approvals", "approve", approval_id[10:16])
        assert done.code == 0, done


def asynchronously(act: Callable[[], Awaitable[T]], limit_s: float = LIMIT_S) -> T:
    """Run it in an event loop of its own, in a thread: pytest's belongs to Twisted."""
    found: list[T] = []
    failed: list[BaseException] = []

    async def limited() -> T:
        with anyio.fail_after(limit_s):
            return await act()

    def body() -> None:
        try:
            found.append(anyio.run(limited))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What ``look`` gives once that is something; the test's limit ends it."""
    while True:
        found = await look()
        if found:
            return found
        await anyio.sleep(0.05)


def text_of(result: CallToolResult) -> str:
    """What a model would read."""
    return "\n".join(each.text for each in result.content if isinstance(each, TextContent))


def facts_of(result: CallToolResult) -> dict[str, Any]:
    """The structured result."""
    assert isinstance(result.structured_content, dict)
    return result.structured_content
