"""Tests of :mod:`palyra.node.whereabouts`: one gateway or several, and where they enrol."""

from __future__ import annotations

import msgspec
import pytest

from palyra.config.addresses import HostPort
from palyra.errors import Malformed
from palyra.node.files import HostFile, KeptRoute
from palyra.node.whereabouts import enrolments_of, gateways_of, learnt_of, moved, with_learnt
from tests.node.fakes import DEVICE_ID, NOW_MS

HOST = HostFile(
    1, "a:7444", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi",
    enrolment_address="a:7443", quic_address="a:9444", last_transport="quic",
)  # fmt: skip
A, B, C = (HostPort(name, 7444) for name in "abc")


def host(*urls: str, **changed: str) -> HostFile:
    """The same, with several gateways."""
    return msgspec.structs.replace(HOST, gateway_urls=urls, **changed)


def test_where_they_are() -> None:
    """The published address alone, or the list, which goes before it."""
    assert gateways_of(HOST) == (A,)
    assert gateways_of(host("b:7444", "a:7444")) == (B, A)


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (["a:1", "A:1"], "gateway_urls: names 'A:1' twice"),
        (["nowhere"], "gateway_urls: must be HOST:PORT"),
        (["a:0"], "must have a port"),
        ([f"h{number}:1" for number in range(9)], "names 9 addresses, and 8 are the most"),
    ],
)
def test_what_is_no_list(urls: list[str], words: str) -> None:
    """A hand that edits the file is told what it wrote."""
    with pytest.raises(Malformed) as refused:
        gateways_of(host(*urls))
    assert words in refused.value.sentence


@pytest.mark.parametrize(
    ("urls", "enrolment", "found"),
    [
        ((), "a:7443", ["a:7443"]),
        ((), "", []),
        ((), "tunnel:1", ["tunnel:1"]),
        (("a:7444", "b:7444"), "a:7443", ["a:7443", "b:7443"]),
        (("b:7444", "a:7444"), "a:7443", ["b:7443", "a:7443"]),
        (("a:7444", "b:7444"), "tunnel:1", ["tunnel:1", "b:1"]),
        (("a:7444", "a:7445"), "a:7443", ["a:7443"]),
    ],
)
def test_where_they_enrol(urls: tuple[str, ...], enrolment: str, found: list[str]) -> None:
    """On the same hosts in the same order, at the port of the one that paired this device."""
    assert [str(each) for each in enrolments_of(host(*urls, enrolment_address=enrolment))] == found


def test_what_is_learnt() -> None:
    """Of the published address where it always was, of the others beside it; of no stranger."""
    learnt = KeptRoute("b:9444", "grpc")
    known = with_learnt(host("a:7444", "b:7444"), B, learnt)
    assert (learnt_of(known, A), learnt_of(known, B)) == (KeptRoute("a:9444", "quic"), learnt)
    assert learnt_of(known, C) == KeptRoute()
    known = with_learnt(known, A, KeptRoute("", "grpc"))
    assert (known.quic_address, known.last_transport) == ("", "grpc")
    elsewhere = msgspec.structs.replace(known, gateway_urls=("a:7444", "c:7444"))
    assert set(with_learnt(elsewhere, C, learnt).other_routes) == {"c:7444"}
    assert msgspec.json.decode(msgspec.json.encode(known), type=HostFile) == known


def test_gateways_that_moved() -> None:
    """The list is replaced; what stays keeps what is known of it, and the way back follows."""
    both = moved(HOST, ["b:7444", "a:7444"])
    assert (both.grpc_url, both.gateway_urls) == ("b:7444", ("b:7444", "a:7444"))
    assert both.enrolment_address == "b:7443"
    assert learnt_of(both, A) == KeptRoute("a:9444", "quic")
    assert (both.quic_address, both.last_transport) == ("", "")
    back = moved(both, ["a:7444"])
    assert back == HOST
    tunnel = msgspec.structs.replace(HOST, enrolment_address="tunnel:1")
    assert moved(tunnel, ["c:7444"]).enrolment_address == "tunnel:1"


def test_nothing_to_do() -> None:
    """Where nobody names an address, or names those that there are."""
    assert moved(HOST, []) is HOST
    assert moved(HOST, ["a:7444"]) is HOST
    with pytest.raises(Malformed, match="--grpc-url"):
        moved(HOST, ["a:7444", "a:7444"])
