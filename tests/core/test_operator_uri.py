"""Tests of :mod:`palyra.core.operator_uri`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.core.operator_uri import OperatorUri, enrolment_payload, read_token
from palyra.core.pairing_uri import PairingUri, spell_token
from palyra.errors import Malformed

CA, TOKEN = bytes(range(32)), bytes(range(16))
URI = OperatorUri.of("atlas.example.org", 7142, CA, TOKEN)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_what_is_written_is_read(ca: bytes, token: bytes) -> None:
    """Every CA and token; spaces around the line do not matter."""
    made = OperatorUri.of("2001:db8::1", 7142, ca, token)
    assert OperatorUri.parse(f"  {made}\n") == made
    assert (made.ca, made.token, made.origin) == (ca, token, "https://[2001:db8::1]:7142")


def test_its_form() -> None:
    """As it is documented, and the token is in no repr."""
    assert str(URI).startswith("palyra://atlas.example.org:7142/operator?ca=AAECAwQ")
    assert URI.origin == "https://atlas.example.org:7142"
    assert spell_token(TOKEN) not in repr(URI)


def test_it_is_no_pairing_line() -> None:
    """Neither is taken for the other: a device does not become an operator by it."""
    with pytest.raises(Malformed):
        PairingUri.parse(str(URI))
    with pytest.raises(Malformed, match="invitation"):
        OperatorUri.parse(str(URI.line))


@given(st.text(max_size=120))
def test_anything_else_is_refused(text: str) -> None:
    """With the one error, which does not repeat it."""
    for line in (text, f"palyra://h:1/operator?{text}"):
        with pytest.raises(Malformed) as raised:
            OperatorUri.parse(line)
        assert raised.value.field == "invitation"


@given(st.one_of(st.text(max_size=30), st.binary(max_size=20).map(spell_token)))
def test_tokens_have_one_spelling(text: str) -> None:
    """What is read is written the same; everything else is none."""
    token = read_token(text)
    assert token is None or (len(token) == 16 and spell_token(token) == text)


def test_a_token_is_read() -> None:
    """Its 128 bits."""
    assert read_token(spell_token(TOKEN)) == TOKEN


def test_what_is_signed_names_everything() -> None:
    """Another CA, token or CSR is another payload."""
    made = {
        enrolment_payload(ca, token, csr)
        for ca in (CA, bytes(32))
        for token in (TOKEN, bytes(16))
        for csr in (b"csr", b"")
    }
    assert len(made) == 8
