"""Webhooks: signatures as receivers check them, pauses between tries, and addresses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.webhooks import (
    GIVE_UP_MS,
    MAX_PAUSE_MS,
    Message,
    public,
    read_secret,
    signed_headers,
    tried,
)
from palyra.errors import Malformed

# From the specification's own libraries: standard-webhooks, the test vector of every language.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", "t", "e", b'{"test": 2432232314}', 0)
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_signature() -> None:
    """What every library of the specification computes."""
    headers = signed_headers(VECTOR, read_secret(SECRET), 1614265330_000)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


@settings(max_examples=30)
@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64))
def test_every_byte_counts(body: bytes, secret: bytes) -> None:
    """The signature is that of the id, the second and the whole body."""
    message = attrs.evolve(VECTOR, body=body)
    signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.7." + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    given = signed_headers(message, secret, 7_999)["webhook-signature"]
    assert given == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "a" * 200])
def test_a_secret_that_is_none(text: str) -> None:
    """Refused without repeating it."""
    with pytest.raises(Malformed) as caught:
        read_secret(text)
    assert not text or text not in caught.value.sentence


def test_it_is_tried_for_a_day() -> None:
    """Pauses double to an hour, never below half of that; after a day it is given up."""
    jitter, now_ms = random.Random(7), 0
    message: Message | None = attrs.evolve(VECTOR, created_at_ms=0)
    pauses = []
    while message is not None:
        last, message = message, tried(message, now_ms, jitter)
        if message is not None:
            assert message.webhook_id == last.webhook_id and message.tries == last.tries + 1
            pauses.append(message.next_try_at_ms - now_ms)
            now_ms = message.next_try_at_ms
    assert 2_500 <= pauses[0] <= 5_000 and max(pauses) <= MAX_PAUSE_MS
    assert all(each >= MAX_PAUSE_MS // 2 for each in pauses[12:])
    assert now_ms >= GIVE_UP_MS and 25 <= len(pauses) <= 70


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet(address: str) -> None:
    """These may be told."""
    assert public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_addresses_of_nobody_else(address: str) -> None:
    """This machine, its networks and the metadata services of clouds, however they are written."""
    assert not public(address)
