"""Tests of :mod:`palyra.node.proxies`: the proxy of a service, which has no environment for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from palyra.config.addresses import HostPort
from palyra.node.files import NodeFiles
from palyra.node.proxies import proxies_of, remember_proxy
from tests.node.test_whereabouts import HOST

GATEWAY = HostPort("gw.corp.example", 7444)
KEPT = msgspec.structs.replace(
    HOST, http_proxy="http://ana:hunter2@kept:1", no_proxy=".corp.example"
)


@pytest.mark.parametrize(
    ("environ", "host", "led"),
    [
        ({}, GATEWAY.host, None),
        ({}, "gw.example.net", "kept:1"),
        ({"no_proxy": ".example.net"}, "gw.example.net", None),
        ({"no_proxy": ".example.net"}, GATEWAY.host, "kept:1"),
        ({"https_proxy": "http://now:2"}, GATEWAY.host, "now:2"),
        ({"https_proxy": ""}, "gw.example.net", None),
    ],
)
def test_what_leads_there(environ: Mapping[str, str], host: str, led: str | None) -> None:
    """What was kept, unless the environment says anything about it."""
    found = proxies_of(KEPT, environ)(HostPort(host, 7444))
    assert (None if found is None else str(found)) == led
    if led == "kept:1":
        assert found is not None and found.authorization


def test_a_device_that_is_not_paired() -> None:
    """Has its environment alone."""
    assert proxies_of(None, {})(GATEWAY) is None
    assert proxies_of(HOST, {})(GATEWAY) is None
    assert str(proxies_of(None, {"http_proxy": "http://now:2"})(GATEWAY)) == "now:2"


def test_what_is_kept(tmp_path: Path) -> None:
    """What the environment names, with its list; a variable that is set and empty ends it."""
    files = NodeFiles(tmp_path)
    files.make()
    remember_proxy(files, {"https_proxy": "http://now:2"})
    assert files.host() is None
    files.keep_host(HOST)
    remember_proxy(files, {"no_proxy": "x"})
    assert files.host() == HOST
    remember_proxy(files, {"https_proxy": "http://now:2", "no_proxy": "x"})
    kept = msgspec.structs.replace(HOST, http_proxy="http://now:2", no_proxy="x")
    assert files.host() == kept
    assert files.host_file.stat().st_mode & 0o777 == 0o600
    remember_proxy(files, {"https_proxy": ""})
    assert files.host() == HOST
