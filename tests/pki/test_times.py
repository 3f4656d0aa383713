"""Hours, months and years of a gateway's identity, by a clock that is handed in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.errors import CertificateRefused
from palyra.pki.authority import DAY_MS, HOUR_MS, Authority
from palyra.pki.certificates import Role, read_certificate, unix_ms
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.trust import ChainVerifier

from .conftest import DEVICE, NOW_MS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def opened(path: Path, now_ms: int = NOW_MS) -> GatewayIdentity:
    return GatewayIdentity.open(
        path,
        trust_domain="palyra.test",
        names=[],
        gateway_id="g1",
        now_ms=now_ms,
        entropy=os.urandom,
        environ={},
    )


def is_good(identity: GatewayIdentity, now_ms: int) -> bool:
    """Whether a device that trusts the roots takes the listeners' certificate now."""
    verifier = ChainVerifier(identity.roots, "palyra.test")
    try:
        verifier.verify(identity.gateway_certificate, now_ms, Role.GATEWAY)
    except CertificateRefused:
        return False
    return True


def refused(authority: Authority, pem: bytes, now_ms: int) -> str:
    verifier = ChainVerifier([authority.ca_certificate], "palyra.test")
    with pytest.raises(CertificateRefused) as caught:
        verifier.verify(read_certificate(pem), now_ms, Role.DEVICE)
    return caught.value.reason


def test_25_hours(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """After 25 hours a device's certificate is over, the gateway's is not, and a new one is."""
    identity = opened(path)
    later_ms = NOW_MS + 25 * HOUR_MS
    pem = identity.issuing.issue_device(key.public_key(), DEVICE, NOW_MS).pem
    assert refused(identity.issuing, pem, later_ms) == "expired"
    assert not identity.refresh(later_ms)
    assert is_good(identity, later_ms)
    again = identity.issuing.issue_device(key.public_key(), DEVICE, later_ms).pem
    verifier = ChainVerifier(identity.roots, "palyra.test")
    verifier.verify(read_certificate(again), later_ms, Role.DEVICE)


def test_off_for_40_days(path: Path) -> None:
    """A gateway that was off for 40 days has a good certificate of the same CA at its start."""
    first = opened(path)
    later_ms = NOW_MS + 40 * DAY_MS
    assert not is_good(first, later_ms)
    second = opened(path, later_ms)
    assert is_good(second, later_ms)
    assert second.serving_ca_hash == first.serving_ca_hash


def test_on_for_400_days(path: Path) -> None:
    """Asked once a day for 400 days, the certificate is never over and rarely renewed."""
    identity = opened(path)
    renewals = 0
    for day in range(401):
        now_ms = NOW_MS + day * DAY_MS
        renewals += identity.refresh(now_ms)
        assert is_good(identity, now_ms)
        left_ms = identity.gateway_certificate.not_after_ms - now_ms
        assert left_ms >= 10 * DAY_MS
    assert 15 <= renewals <= 20


def test_rotation_over_months(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """In 90 days of overlap the listeners' certificate renews under the old CA, then moves."""
    identity = opened(path)
    rotation = identity.begin_rotation(NOW_MS)
    for day in range(0, 91, 5):
        identity.refresh(NOW_MS + day * DAY_MS)
        assert identity.serving_ca_hash == rotation.old
        assert is_good(identity, NOW_MS + day * DAY_MS)
    end_ms = NOW_MS + 90 * DAY_MS
    last = identity.authorities[1].issue_device(key.public_key(), DEVICE, end_ms)
    identity.switch(end_ms)
    assert identity.serving_ca_hash == rotation.new and is_good(identity, end_ms)
    identity.finish(last.not_after_ms + 1000)
    assert is_good(identity, last.not_after_ms + 1000)


class TestEndOfTheCa:
    """Ten years on."""

    def test_nothing_outlives_it(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        """Near its end every certificate ends with the CA, and is not issued again for that."""
        end_ms = opened(path).issuing.ca_not_after_ms
        identity = opened(path, end_ms - 15 * DAY_MS)
        assert identity.gateway_certificate.not_after_ms == end_ms
        chain = identity.gateway_chain_pem
        for left_ms in (10 * DAY_MS, DAY_MS, HOUR_MS, 1000, 0):
            now_ms = end_ms - left_ms
            assert not identity.refresh(now_ms)
            assert is_good(identity, now_ms)
            if left_ms:
                issued = identity.issuing.issue_device(key.public_key(), DEVICE, now_ms)
                assert issued.not_after_ms <= end_ms
        assert identity.gateway_chain_pem == chain

    def test_after_it(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        """A CA whose life is over signs nothing; the gateway starts all the same, so that its
        CA can be rotated."""
        end_ms = opened(path).issuing.ca_not_after_ms
        opened(path, end_ms - DAY_MS)
        later_ms = end_ms + DAY_MS
        identity = opened(path, later_ms)
        assert not identity.refresh(later_ms) and not is_good(identity, later_ms)
        with pytest.raises(CertificateRefused, match="expired"):
            identity.issuing.issue_device(key.public_key(), DEVICE, later_ms)
        identity.begin_rotation(later_ms)
        assert is_good(identity, later_ms)
        identity.issuing.issue_device(key.public_key(), DEVICE, later_ms)

    def test_rotated_in_time(self, path: Path) -> None:
        """A rotation begun before the end outlives it, the overlap too."""
        end_ms = opened(path).issuing.ca_not_after_ms
        identity = opened(path, end_ms - 5 * DAY_MS)
        rotation = identity.begin_rotation(end_ms - 5 * DAY_MS)
        assert identity.serving_ca_hash == rotation.old
        identity.refresh(end_ms + DAY_MS)
        assert identity.serving_ca_hash == rotation.new
        assert is_good(identity, end_ms + DAY_MS)
        identity.switch(end_ms + DAY_MS)
        identity.finish(end_ms + 3 * DAY_MS)
        assert identity.rotation is None and is_good(identity, end_ms + 3 * DAY_MS)


class TestClockSetBack:
    """Before a certificate began."""

    def test_a_little(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        """Within an hour the gateway's certificate holds, and a device's within five minutes."""
        identity = opened(path)
        assert not identity.refresh(NOW_MS - HOUR_MS)
        pem = identity.issuing.issue_device(key.public_key(), DEVICE, NOW_MS).pem
        verifier = ChainVerifier(identity.roots, "palyra.test")
        verifier.verify(read_certificate(pem), NOW_MS - 5 * 60_000, Role.DEVICE)
        assert refused(identity.issuing, pem, NOW_MS - 6 * 60_000) == "not_yet_valid"

    def test_behind_the_root(self, path: Path) -> None:
        """Behind the root's own begin the gateway still starts, and is whole when the clock is."""
        first = opened(path)
        behind_ms = unix_ms(first.roots[0].not_valid_before_utc) - DAY_MS
        behind = opened(path, behind_ms)
        assert behind.gateway_certificate.not_before_ms <= behind_ms
        assert not behind.refresh(behind_ms)
        assert is_good(opened(path), NOW_MS)

    def test_from_the_future(self, path: Path) -> None:
        """A certificate made by a clock a year ahead is replaced when the clock is right again."""
        ahead = opened(path, NOW_MS + 365 * DAY_MS)
        assert ahead.gateway_certificate.not_before_ms > NOW_MS
        # The root was made by that clock too: what it signs is good from that time on only.
        right = opened(path, NOW_MS)
        assert right.gateway_certificate.not_before_ms <= NOW_MS
        assert right.serving_ca_hash == ahead.serving_ca_hash
