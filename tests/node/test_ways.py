"""Tests of :mod:`palyra.node.ways`: what a pairing, a configuration and an environment make of the
ways to the gateways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from palyra.config.node import NodeSection
from palyra.core.transports import GrpcFallback, Preference
from palyra.errors import ProxyUnusable
from palyra.node.files import KeptRoute, NodeFiles
from palyra.node.proxies import proxies_of
from palyra.node.routes import Memory
from palyra.node.ways import Ways
from palyra.node.whereabouts import learnt_of
from tests.node.test_whereabouts import HOST, A, B

TWO = msgspec.structs.replace(HOST, gateway_urls=("a:7444", "b:7444"))
PROXY = "http://ana:hunter2@proxy:3128"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Ways]:
    """The ways of a device with two gateways, of which the first is known to have QUIC."""
    files = NodeFiles(tmp_path)
    files.make()
    files.keep_host(TWO)

    def new(environ: dict[str, str], **config: Any) -> Ways:
        clock = Clock()
        return Ways(
            reactor=clock,
            elapsed_s=clock.seconds,
            files=files,
            host=TWO,
            config=NodeSection(**config),
            proxies=proxies_of(TWO, environ),
        )

    return new


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What was logged of them."""
    kept: list[str] = []

    @provider(ILogObserver)
    def keep(event: LogEvent) -> None:
        if event["log_namespace"].startswith("palyra.node.ways"):
            kept.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    yield kept
    globalLogPublisher.removeObserver(keep)


def routes_of(ways: Ways) -> list[str]:
    """Every way, the best one first."""
    return [str(route) for each in ways.gateways().each for route in each.order()]


def test_without_a_proxy(make: Callable[..., Ways], log: list[str]) -> None:
    """Each gateway has the routes that are known of it."""
    assert routes_of(make({})) == ["quic a:9444", "grpc a:7444", "grpc b:7444"]
    assert log == []


def test_a_proxy_means_grpc(make: Callable[..., Ways], log: list[str]) -> None:
    """Where one leads there, which is said once, without its password."""
    assert routes_of(make({"https_proxy": PROXY})) == ["grpc a:7444", "grpc b:7444"]
    assert log == [
        f"{each} is reached by the proxy proxy:3128, so by grpc and not by quic" for each in (A, B)
    ]
    beside = make({"https_proxy": PROXY, "no_proxy": "a"})
    assert routes_of(beside) == ["quic a:9444", "grpc a:7444", "grpc b:7444"]


@pytest.mark.parametrize(
    "config", [{"transport": Preference.QUIC}, {"grpc_fallback": GrpcFallback.NEVER}]
)
def test_quic_and_nothing_else(make: Callable[..., Ways], config: dict[str, Any]) -> None:
    """Whoever asked for that is not given gRPC because of a variable."""
    assert routes_of(make({"https_proxy": PROXY}, **config))[0] == "quic a:9444"


def test_a_proxy_that_cannot_be_used(make: Callable[..., Ways]) -> None:
    """Does not keep a node host from starting: it is told at each try, and heals with the
    environment."""
    ways = make({"https_proxy": "socks5://ana:hunter2@proxy"})
    assert routes_of(ways) == ["grpc a:7444", "grpc b:7444"]
    routes = ways.gateways().now
    for opened in (
        lambda: routes.open(routes.grpc, "", (b"", b"")),
        lambda: ways.enrolment(A, b""),
    ):
        with pytest.raises(ProxyUnusable):
            opened()
    failed: list[Any] = []
    ways.look(A).addErrback(lambda failure: failed.append(failure.type))
    assert failed == [ProxyUnusable]


def test_what_is_learnt_is_kept(make: Callable[..., Ways]) -> None:
    """Of each gateway beside the others, in the file that is there then."""
    ways = make({})
    ways._keep(B, Memory("b:9555", "grpc"))
    renamed = msgspec.structs.replace(ways.files.host(), name="other")
    ways.files.keep_host(renamed)
    ways._keep(A, Memory("", "grpc"))
    kept = ways.files.host()
    assert kept is not None and kept.name == "other"
    assert learnt_of(kept, A) == KeptRoute("", "grpc")
    assert learnt_of(kept, B) == KeptRoute("b:9555", "grpc")
    ways.files.host_file.unlink()
    ways._keep(A, Memory("x", "grpc"))
    assert ways.files.host() is None
