"""Our endpoint strings, and the section of the console."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument

from palyra.config.addresses import HostPort
from palyra.config.console import ConsoleSection
from palyra.config.endpoints import Place, own_files, read_place
from palyra.config.root import parse
from palyra.errors import ConfigInvalid, Malformed


def test_what_an_endpoint_says() -> None:
    """Port, interface, state root, certificate and backlog, quoted as Twisted quotes."""
    assert read_place("palyra:7142", "f") == Place(HostPort("127.0.0.1", 7142))
    assert read_place("palyra:0:interface=", "f").address == HostPort("0.0.0.0", 0)
    assert read_place(r"palyra:1:interface=\:\:1", "f").address == HostPort("::1", 1)
    whole = read_place(r"palyra:1:stateroot=/a\:b:certificate=c:privateKey=k\=1:backlog=5", "f")
    assert whole == Place(HostPort("127.0.0.1", 1), "/a:b", "c", "k=1", 5)
    assert whole.own == (Path("c"), Path("k=1"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "palyra",
        "palyra:",
        "palyra:x",
        "palyra:70000",
        "tcp:80",
        "palyra:1:foo=2",
        "palyra:1:2:3:4:5:6:7",
        "palyra:1:certificate=a",
        "palyra:1:backlog=many",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    """It is refused with what it must be."""
    with pytest.raises(Malformed):
        read_place(text, "console.endpoint")


@settings(max_examples=60)
@given(st.text(max_size=20))
def test_quoting(root: str) -> None:
    """Whatever Twisted's own quoting writes is read as it was."""
    quoted = quoteStringArgument(root)
    assert read_place(f"palyra:1:stateroot={quoted}", "f").state_root == root


def test_whose_certificate() -> None:
    """That of the endpoint goes before that of the section; without both it is the gateway's."""
    section = ConsoleSection(certificate="c", private_key="k")
    where = Place(HostPort("127.0.0.1", 1))
    assert own_files(where, ConsoleSection()) is None
    assert own_files(where, section) == (Path("c"), Path("k"))
    mine = Place(HostPort("127.0.0.1", 1), certificate="a", private_key="b")
    assert own_files(mine, section) == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('certificate = "a"', "console"),
        ('behind_proxy = ["10.0.0.300"]', "console"),
        ('behind_proxy = ["10.0.0.1/8"]', "console"),
        ('endpoint = "tcp:80"', "console.endpoint"),
        ("session_idle_s = 1", "console.session_idle_s"),
    ],
)
def test_wrong_sections(line: str, path: str) -> None:
    """What makes no sense is named by its path."""
    with pytest.raises(ConfigInvalid) as caught:
        parse(f"[console]\n{line}\n", "palyra.toml")
    assert caught.value.path == path


def test_proxies() -> None:
    """Addresses and networks."""
    section = ConsoleSection(behind_proxy=("127.0.0.1", "fd00::/8"))
    assert [str(each) for each in section.proxies()] == ["127.0.0.1/32", "fd00::/8"]
