"""Who is believed, and who no longer."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    NotBoundToDevice,
    PalyraError,
)
from palyra.pki.authority import DAY_MS, MINUTE_MS, Authority, IssuedCertificate
from palyra.pki.certificates import GATEWAY_TLS_NAME, Role, read_certificate
from palyra.pki.trust import (
    Admitted,
    CertificateState,
    ChainVerifier,
    RevocationIndex,
    TrustGate,
    check_dates,
)

from .conftest import DEVICE, NOW_MS, Forger, name

OTHER = "01JC0000000000000000000BBB"
KEY_FP = Fingerprint("k" * 64)
SERVER_EKU = {x509.ExtendedKeyUsage: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])}
BOTH_EKU = {
    x509.ExtendedKeyUsage: x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    )
}
ANY_EKU = {
    x509.ExtendedKeyUsage: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
}


@pytest.fixture
def chain(authority: Authority) -> ChainVerifier:
    return ChainVerifier([authority.ca_certificate], "palyra.test")


@pytest.fixture(scope="session")
def device(authority: Authority, key: ec.EllipticCurvePrivateKey) -> IssuedCertificate:
    return authority.issue_device(key.public_key(), DEVICE, NOW_MS)


def reason(chain: ChainVerifier, pem: bytes, role: Role = Role.DEVICE, **more: Any) -> str:
    """Why the certificate is refused for the role."""
    with pytest.raises(CertificateRefused) as refused:
        chain.verify(read_certificate(pem), more.pop("now_ms", NOW_MS), role, **more)
    return refused.value.reason


class TestChain:
    def test_each_role(self, chain: ChainVerifier, authority: Authority, mint: Forger) -> None:
        """What the authority issues for a role is believed in that role and in no other."""
        public = mint.key.public_key()
        issued = {
            Role.DEVICE: authority.issue_device(public, DEVICE, NOW_MS),
            Role.OPERATOR: authority.issue_operator(public, "ada", NOW_MS),
            Role.GATEWAY: authority.issue_gateway(public, "g1", [], NOW_MS),
        }
        for holder, certificate in issued.items():
            chain.verify(read_certificate(certificate.pem), NOW_MS, holder)
            for other in set(Role) - {holder}:
                assert reason(chain, certificate.pem, other) == "wrong_role"

    def test_foreign_ca(self, chain: ChainVerifier, stranger: Forger) -> None:
        """Another authority is foreign, also when it bears our authority's name."""
        assert reason(chain, stranger.sign()) == "foreign_ca"
        assert reason(chain, stranger.sign(issuer=name("another"))) == "foreign_ca"

    def test_right_key_under_another_name(self, chain: ChainVerifier, mint: Forger) -> None:
        """Our key alone does not make a chain: a forged root with it has another name."""
        assert reason(chain, mint.sign(issuer=name("forged root"))) == "foreign_ca"

    def test_intermediate(
        self, chain: ChainVerifier, key: ec.EllipticCurvePrivateKey, mint: Forger
    ) -> None:
        """A device cannot sign certificates: what it mints is foreign."""
        assert reason(chain, Forger(key, name(DEVICE)).sign()) == "foreign_ca"

    def test_no_roots(self, device: IssuedCertificate) -> None:
        """Who trusts no root trusts nobody."""
        assert reason(ChainVerifier([], "palyra.test"), device.pem) == "foreign_ca"

    def test_forged_root_is_no_root(self, device: IssuedCertificate) -> None:
        """A verifier cannot be made to trust a leaf as its root."""
        with pytest.raises(CertificateRefused):
            ChainVerifier([x509.load_der_x509_certificate(device.der)], "palyra.test")

    def test_rotation(self, authority: Authority, device: IssuedCertificate) -> None:
        """During rotation leaves of both roots are believed."""
        new = Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)
        both = ChainVerifier([new.ca_certificate, authority.ca_certificate], "palyra.test")
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        renewed = new.issue_device(public, DEVICE, NOW_MS)
        for issued in (device, renewed):
            both.verify(read_certificate(issued.pem), NOW_MS, Role.DEVICE)

    @pytest.mark.parametrize("extensions", [SERVER_EKU, BOTH_EKU, ANY_EKU])
    def test_eku(self, chain: ChainVerifier, mint: Forger, extensions: Any) -> None:
        """A device has clientAuth and nothing beside it."""
        assert reason(chain, mint.sign(extensions=extensions)) == "wrong_eku"

    def test_gateway_eku(self, chain: ChainVerifier, mint: Forger) -> None:
        """A gateway's name with a client's EKU is no gateway."""
        pem = mint.sign(
            uris=["spiffe://palyra.test/gateway/g1"], names=[x509.DNSName(GATEWAY_TLS_NAME)]
        )
        assert reason(chain, pem, Role.GATEWAY) == "wrong_eku"

    def test_trust_domain(self, chain: ChainVerifier, mint: Forger) -> None:
        """A certificate of another trust domain is refused even if our root signed it."""
        pem = mint.sign(uris=[f"spiffe://other.test/device/{DEVICE}"])
        assert reason(chain, pem) == "wrong_trust_domain"

    def test_dates(self, chain: ChainVerifier, mint: Forger) -> None:
        """Both ends of a certificate's life belong to it; beyond them it is refused."""
        peer = read_certificate(mint.sign())
        for now_ms in (peer.not_before_ms, peer.not_after_ms):
            chain.verify(peer, now_ms, Role.DEVICE)
        pem = mint.sign()
        assert reason(chain, pem, now_ms=peer.not_before_ms - 1) == "not_yet_valid"
        assert reason(chain, pem, now_ms=peer.not_after_ms + 1) == "expired"

    def test_grace(self, chain: ChainVerifier, device: IssuedCertificate) -> None:
        """Grace is only what the caller names, and only after the end."""
        peer, grace_ms = read_certificate(device.pem), 5 * MINUTE_MS
        chain.verify(peer, peer.not_after_ms + grace_ms, Role.DEVICE, grace_ms=grace_ms)
        late = peer.not_after_ms + grace_ms + 1
        early = peer.not_before_ms - 1
        assert reason(chain, device.pem, now_ms=late, grace_ms=grace_ms) == "expired"
        assert reason(chain, device.pem, now_ms=early, grace_ms=grace_ms) == "not_yet_valid"

    def test_root_dates(self, chain: ChainVerifier, mint: Forger) -> None:
        """A leaf does not outlive its root."""
        later = NOW_MS + 4000 * DAY_MS
        assert reason(chain, mint.sign(after_ms=5000 * DAY_MS), now_ms=later) == "expired"

    def test_check_dates(self) -> None:
        """The bare check is inclusive on both ends."""
        check_dates(5, 7, 5)
        check_dates(5, 7, 7)


class Records(dict[Fingerprint, CertificateState]):
    """What the store knows, and how often it was asked."""

    asked = 0

    def __call__(self, fingerprint: Fingerprint) -> CertificateState | None:
        self.asked += 1
        return self.get(fingerprint)


class CountingChain(ChainVerifier):
    """A chain verifier that counts."""

    verified = 0

    def verify(self, *args: Any, **more: Any) -> None:
        self.verified += 1
        super().verify(*args, **more)


class TestGate:
    @pytest.fixture
    def records(self, device: IssuedCertificate) -> Records:
        return Records({device.fingerprint: CertificateState("current", DEVICE)})

    @pytest.fixture
    def counting(self, authority: Authority) -> CountingChain:
        return CountingChain([authority.ca_certificate], "palyra.test")

    @pytest.fixture
    def index(self) -> RevocationIndex:
        return RevocationIndex()

    @pytest.fixture
    def gate(self, counting: CountingChain, index: RevocationIndex, records: Records) -> TrustGate:
        return TrustGate(counting, index, records, cache_size=2)

    def test_admitted(self, gate: TrustGate, device: IssuedCertificate) -> None:
        """A recorded device is admitted as itself, named or not."""
        expected = Admitted(DeviceId(DEVICE), device.fingerprint, device.not_after_ms)
        assert gate.admit(device.pem, NOW_MS, DEVICE) == expected
        assert gate.admit(device.pem, NOW_MS, None) == expected

    def test_pending(self, gate: TrustGate, device: IssuedCertificate, records: Records) -> None:
        """A certificate that has not registered yet is admitted too."""
        records[device.fingerprint] = CertificateState("pending", DEVICE)
        assert gate.admit(device.pem, NOW_MS, DEVICE).device_id == DEVICE

    def test_asked_once(
        self,
        gate: TrustGate,
        device: IssuedCertificate,
        records: Records,
        counting: CountingChain,
        index: RevocationIndex,
    ) -> None:
        """The same peer is verified once, and its record asked once a generation."""
        for _ in range(3):
            gate.admit(bytes(bytearray(device.pem)), NOW_MS, DEVICE)
        assert (counting.verified, records.asked) == (1, 1)
        index.supersede(KEY_FP, NOW_MS)
        gate.admit(device.pem, NOW_MS, DEVICE)
        gate.admit(device.pem, NOW_MS, DEVICE)
        assert (counting.verified, records.asked) == (1, 2)

    def test_another_device(self, gate: TrustGate, device: IssuedCertificate) -> None:
        """A certificate does not speak for another device, asked first or later."""
        for _ in range(2):
            with pytest.raises(NotBoundToDevice) as refused:
                gate.admit(device.pem, NOW_MS, OTHER)
            assert refused.value.claimed == OTHER

    def test_issued_to_another(
        self, gate: TrustGate, device: IssuedCertificate, records: Records
    ) -> None:
        """A certificate recorded for another device than it names is refused."""
        records[device.fingerprint] = CertificateState("current", OTHER)
        with pytest.raises(NotBoundToDevice):
            gate.admit(device.pem, NOW_MS, None)

    def test_unknown(self, gate: TrustGate, device: IssuedCertificate, records: Records) -> None:
        """A certificate of our root that was never recorded is told so, to rejoin."""
        records.clear()
        with pytest.raises(CertificateUnknown):
            gate.admit(device.pem, NOW_MS, DEVICE)

    def test_superseded(self, gate: TrustGate, device: IssuedCertificate, records: Records) -> None:
        """A certificate that the record calls superseded is refused."""
        records[device.fingerprint] = CertificateState("superseded", DEVICE)
        with pytest.raises(CertificateSuperseded):
            gate.admit(device.pem, NOW_MS, DEVICE)

    @pytest.mark.parametrize("admitted_before", [False, True])
    def test_no_longer(
        self,
        gate: TrustGate,
        device: IssuedCertificate,
        index: RevocationIndex,
        admitted_before: bool,
    ) -> None:
        """Revocation and supersession end the very next call, cached or not."""
        if admitted_before:
            gate.admit(device.pem, NOW_MS, DEVICE)
        index.supersede(device.fingerprint, device.not_after_ms)
        with pytest.raises(CertificateSuperseded):
            gate.admit(device.pem, NOW_MS, DEVICE)
        index.revoke(DEVICE, KEY_FP, {}, NOW_MS, "stolen")
        for _ in range(2):
            with pytest.raises(DeviceRevoked):
                gate.admit(device.pem, NOW_MS, DEVICE)

    @pytest.mark.parametrize("admitted_before", [False, True])
    def test_dates(self, gate: TrustGate, device: IssuedCertificate, admitted_before: bool) -> None:
        """Dates are checked on every call, also of a peer that was admitted before."""
        if admitted_before:
            gate.admit(device.pem, NOW_MS, DEVICE)
        with pytest.raises(CertificateRefused, match="expired"):
            gate.admit(device.pem, device.not_after_ms + 1, DEVICE)
        with pytest.raises(CertificateRefused, match="not yet valid"):
            gate.admit(device.pem, device.not_before_ms - 1, DEVICE)
        assert gate.admit(device.pem, device.not_after_ms, DEVICE)

    def test_strangers(self, gate: TrustGate, stranger: Forger, mint: Forger) -> None:
        """Foreign, malformed and other roles' certificates are refused, each time."""
        operator = mint.sign(uris=["spiffe://palyra.test/operator/ada"])
        for pem, why in (
            (stranger.sign(), "foreign_ca"),
            (b"no certificate", "malformed"),
            (operator, "wrong_role"),
        ):
            for _ in range(2):
                with pytest.raises(CertificateRefused) as refused:
                    gate.admit(pem, NOW_MS, None)
                assert refused.value.reason == why

    def test_bounded(
        self,
        gate: TrustGate,
        authority: Authority,
        key: ec.EllipticCurvePrivateKey,
        records: Records,
        counting: CountingChain,
    ) -> None:
        """The cache holds as many peers as it may; who fell out is verified anew."""
        pems = []
        for _ in range(3):
            issued = authority.issue_device(key.public_key(), DEVICE, NOW_MS)
            records[issued.fingerprint] = CertificateState("current", DEVICE)
            pems.append(issued.pem)
        for pem in (*pems, pems[2], pems[1], pems[0]):
            gate.admit(pem, NOW_MS, DEVICE)
        assert counting.verified == 4

    def test_other_roots(
        self, gate: TrustGate, device: IssuedCertificate, authority: Authority
    ) -> None:
        """When a root is dropped its devices are refused at once, also if admitted before."""
        gate.admit(device.pem, NOW_MS, DEVICE)
        new = Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)
        gate.replace_chain(ChainVerifier([new.ca_certificate], "palyra.test"))
        with pytest.raises(CertificateRefused, match="foreign ca"):
            gate.admit(device.pem, NOW_MS, DEVICE)

    def test_der_is_not_pem(self, gate: TrustGate, device: IssuedCertificate) -> None:
        """What is handed in as the wrong encoding is malformed, not a crash."""
        with pytest.raises(PalyraError):
            gate.admit(device.der, NOW_MS, DEVICE)
