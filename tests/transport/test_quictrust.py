"""Tests of :mod:`palyra.transport.quictrust`."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Alert, AlertDescription, verify_certificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.pki.authority import DAY_MS, Authority
from palyra.transport.chain import TLS_NAME
from palyra.transport.quictrust import (
    NO_GATEWAY,
    NOT_PINNED,
    GatewayTrust,
    NotOurGateway,
    cause_of_alert,
)
from palyra.transport.statuses import OUT_OF_DATE, STRANGE
from tests.adversarial.forging import CLIENT, SERVER, Signer
from tests.gateway.enrolling import wall_ms
from tests.transport.serving import AUTHORITY, DEVICE, KEY

SIGNER = Signer(AUTHORITY.ca_certificate, AUTHORITY.ca_key)
STRANGER = Authority.create(trust_domain="palyra.test", now_ms=wall_ms(), entropy=os.urandom)


def gateway(authority: Authority = AUTHORITY, now_ms: int | None = None) -> x509.Certificate:
    """A gateway's certificate, as it is issued."""
    pem = authority.issue_gateway(KEY.public_key(), "g1", [], now_ms or wall_ms()).pem
    return x509.load_pem_x509_certificate(pem)


def forged(role: str = "gateway", usage: Any = SERVER, **more: Any) -> x509.Certificate:
    """A certificate of our CA that carries the gateway's name."""
    identity = DEVICE if role == "device" else "g1"
    public_key = KEY.public_key()
    return SIGNER.issue(public_key, role, identity, usage=usage, dns=(TLS_NAME,), **more)


def refusal(
    leaf: x509.Certificate, ca_pem: bytes = AUTHORITY.ca_pem, **more: Any
) -> tuple[str, int]:
    """Why a certificate is not taken, and the alert that says so."""
    with pytest.raises(NotOurGateway) as caught:
        GatewayTrust(ca_pem, more.pop("pin", None)).check(leaf, more.pop("now_ms", wall_ms()))
    return caught.value.cause, caught.value.alert


def test_our_gateway() -> None:
    """Also under a bundle of roots."""
    GatewayTrust(AUTHORITY.ca_pem).check(gateway(), wall_ms())
    GatewayTrust(STRANGER.ca_pem + AUTHORITY.ca_pem).check(forged(), wall_ms())


@pytest.mark.parametrize(
    "role, usage",
    [("gateway", CLIENT), ("device", SERVER), ("operator", SERVER), ("device", CLIENT)],
)
def test_what_aioquic_would_take(role: str, usage: Any) -> None:
    """The name and the CA alone make no gateway: the role and the use must be a gateway's too."""
    leaf = forged(role, usage)
    verify_certificate(leaf, [], TLS_NAME, cadata=AUTHORITY.ca_pem)
    assert refusal(leaf) == (NO_GATEWAY, AlertDescription.bad_certificate)


def test_a_ca_is_no_gateway() -> None:
    """Nor is what could sign another one."""
    assert refusal(forged(is_ca=True))[0] == NO_GATEWAY
    assert refusal(AUTHORITY.ca_certificate)[0] == NO_GATEWAY


def test_a_foreign_ca() -> None:
    """Its own name for it, and its own alert."""
    assert refusal(gateway(STRANGER)) == (STRANGE, AlertDescription.unknown_ca)


@pytest.mark.parametrize("days", [40, -40])
def test_dates(days: int) -> None:
    """By this device's clock."""
    told = refusal(gateway(), now_ms=wall_ms() + days * DAY_MS)
    assert told == (OUT_OF_DATE, AlertDescription.certificate_expired)


def test_pins() -> None:
    """The leaf itself, or the root that signed it; not a root that merely is trusted too."""
    leaf = gateway()
    bundle = STRANGER.ca_pem + AUTHORITY.ca_pem
    for der in (leaf.public_bytes(Encoding.DER), AUTHORITY.ca_der):
        GatewayTrust(bundle, hashlib.sha256(der).digest()).check(leaf, wall_ms())
    for wrong in (hashlib.sha256(STRANGER.ca_der).digest(), b""):
        assert refusal(leaf, bundle, pin=wrong)[0] == NOT_PINNED


@pytest.mark.parametrize(
    "leaf, roots, cause",
    [
        (gateway(), STRANGER, STRANGE),
        (gateway(now_ms=wall_ms() - 40 * DAY_MS), AUTHORITY, OUT_OF_DATE),
        (gateway(now_ms=wall_ms() + 40 * DAY_MS), AUTHORITY, OUT_OF_DATE),
        (SIGNER.issue(KEY.public_key(), "gateway", "g1", dns=("other",)), AUTHORITY, NO_GATEWAY),
        (SIGNER.issue(KEY.public_key(), "gateway", "g1"), AUTHORITY, NO_GATEWAY),
    ],
    ids=["foreign", "ended", "not yet", "another name", "no name"],
)
def test_the_alerts_of_aioquic(leaf: x509.Certificate, roots: Authority, cause: str) -> None:
    """What its client refuses by itself is told in the same words."""
    with pytest.raises(Alert) as caught:
        verify_certificate(leaf, [], TLS_NAME, cadata=roots.ca_pem)
    code = QuicErrorCode.CRYPTO_ERROR + caught.value.description
    assert cause_of_alert(code, str(caught.value)) == cause


def test_an_alert_that_has_another_cause() -> None:
    """It is nobody's certificate."""
    assert cause_of_alert(QuicErrorCode.CRYPTO_ERROR + AlertDescription.decode_error, "") is None
    assert cause_of_alert(QuicErrorCode.NO_ERROR, "") is None
