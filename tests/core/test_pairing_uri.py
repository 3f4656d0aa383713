"""The pairing line: one spelling in, the same out, and never the token in a message."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.pairing_uri import PairingUri, spell_token
from palyra.errors import Malformed

CA = bytes(range(32))
TOKEN = bytes(range(16))
CA_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
TOKEN_TEXT = "AAECAwQFBgcICQoLDA0ODw"
LINE = f"palyra://gw.example:7443/?ca={CA_TEXT}&t={TOKEN_TEXT}"

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@settings(max_examples=100)
@given(
    hosts,
    st.integers(1, 65535),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
)
def test_a_line_is_read_as_written(host: str, port: int, ca: bytes, token: bytes) -> None:
    """Whatever line the gateway prints, the device reads the same values from it."""
    uri = PairingUri(host, port, ca, token)
    assert PairingUri.parse(str(uri)) == uri


@settings(max_examples=100)
@given(st.text(max_size=120) | st.text(max_size=30).map(lambda tail: LINE + tail))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    """No text raises anything but Malformed, and what parses is written back canonically."""
    try:
        uri = PairingUri.parse(text)
    except Malformed:
        return
    assert PairingUri.parse(str(uri)) == uri


def test_a_known_line() -> None:
    """The line is exactly the documented one; spaces around a pasted one do not matter."""
    uri = PairingUri("gw.example", 7443, CA, TOKEN)
    assert str(uri) == LINE
    assert uri.proof == spell_token(TOKEN) == TOKEN_TEXT
    assert PairingUri.parse(f"  {LINE}\n") == uri
    swapped = f"palyra://GW.example:7443/?t={TOKEN_TEXT}&ca={CA_TEXT}"
    assert PairingUri.parse(swapped) == uri


def test_ipv6_is_bracketed() -> None:
    """An IPv6 address stands in brackets in the line and bare in the value."""
    uri = PairingUri.parse(LINE.replace("gw.example", "[2001:DB8:0::1]"))
    assert uri.host == "2001:db8::1"
    assert ipaddress.ip_address(uri.host)
    assert str(uri).startswith("palyra://[2001:db8::1]:7443/")


def test_the_token_is_not_shown() -> None:
    """The repr shows where to pair, not the secret."""
    shown = repr(PairingUri.parse(LINE))
    assert "gw.example" in shown
    assert TOKEN_TEXT not in shown
    assert repr(TOKEN) not in shown


@pytest.mark.parametrize(
    "line",
    [
        "",
        LINE.replace("palyra:", "https:"),
        LINE.replace("palyra:", "PALYRA:"),
        LINE.replace(":7443", ""),
        LINE.replace(":7443", ":0"),
        LINE.replace(":7443", ":07443"),
        LINE.replace(":7443", ":65536"),
        LINE.replace("/?", "?"),
        LINE.replace("/?", "/x?"),
        LINE + "#x",
        LINE + "&x=1",
        LINE + f"&t={TOKEN_TEXT}",
        LINE + "&",
        LINE.replace(f"&t={TOKEN_TEXT}", ""),
        LINE.replace(f"ca={CA_TEXT}&", ""),
        LINE + "=",
        LINE + "A",
        LINE[:-1],
        LINE[:-1] + "x",
        LINE[:-2] + "==",
        LINE.replace(CA_TEXT, CA_TEXT[:-1] + "9"),
        LINE.replace("AAEC", "AA+C"),
        LINE.replace("AAEC", "%41AEC"),
        LINE.replace("gw.example", "user@gw.example"),
        LINE.replace("gw.example", "gw..example"),
        LINE.replace("gw.example", "-gw.example"),
        LINE.replace("gw.example", "gw.example."),
        LINE.replace("gw.example", "256.1.1.1"),
        LINE.replace("gw.example", "1.2.3"),
        LINE.replace("gw.example", "2001:db8::1"),
        LINE.replace("gw.example", "[gw.example]"),
        LINE.replace("gw.example", "[127.0.0.1]"),
        LINE.replace("gw.example", "[fe80::1%eth0]"),
        LINE.replace("gw.example", ".".join(["a" * 60] * 5)),
        LINE.replace("gw.example", "a" * 600),
    ],
)
def test_every_other_spelling_is_refused(line: str) -> None:
    """Anything but the one spelling is Malformed, and the refusal does not repeat the token."""
    with pytest.raises(Malformed) as caught:
        PairingUri.parse(line)
    assert TOKEN_TEXT[:8] not in caught.value.sentence


@pytest.mark.parametrize(
    ("host", "port", "ca", "token"),
    [
        ("GW.example", 7443, CA, TOKEN),
        ("fe80::1%eth0", 7443, CA, TOKEN),
        ("gw.example", 0, CA, TOKEN),
        ("gw.example", 7443, CA[:-1], TOKEN),
        ("gw.example", 7443, CA, TOKEN[:-1]),
    ],
)
def test_a_value_that_could_not_be_read_is_not_made(
    host: str, port: int, ca: bytes, token: bytes
) -> None:
    """The gateway cannot print a line that no device would accept."""
    with pytest.raises(Malformed):
        PairingUri(host, port, ca, token)
