"""Revocation lists that other verifiers believe."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.errors import Malformed
from palyra.pki.authority import DAY_MS, HOUR_MS, Authority
from palyra.pki.crl import RevokedEntry, make_crl

from .conftest import DEVICE, NOW_MS, moment

OPENSSL = shutil.which("openssl")
STOLEN = RevokedEntry("7f01", NOW_MS - 2 * HOUR_MS + 999, superseded=False)
RENEWED = RevokedEntry("7F02", NOW_MS - HOUR_MS, superseded=True)


def crl(
    authority: Authority, *entries: RevokedEntry, number: int = 7
) -> x509.CertificateRevocationList:
    pem = make_crl(authority, entries, NOW_MS, number=number, life_ms=DAY_MS)
    return x509.load_pem_x509_crl(pem)


def test_signed_by_its_authority(authority: Authority) -> None:
    """A list bears its CA's name, key id and signature, and no other CA's key verifies it."""
    made = crl(authority, STOLEN)
    root = authority.ca_certificate
    assert made.issuer == root.subject
    assert made.is_signature_valid(authority.ca_key.public_key())
    assert isinstance(made.signature_hash_algorithm, hashes.SHA256)
    key_id = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject_key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert key_id.key_identifier == subject_key.digest
    other = Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)
    assert not made.is_signature_valid(other.ca_key.public_key())


def test_dates_and_number(authority: Authority) -> None:
    """A list says when it was made, when the next one comes, and which one it is."""
    made = crl(authority, number=1 << 100)
    assert made.last_update_utc == moment(NOW_MS)
    assert made.next_update_utc == moment(NOW_MS + DAY_MS)
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1 << 100
    assert not any(each.critical for each in made.extensions)


def test_entries(authority: Authority) -> None:
    """Each serial has its date; superseded is a reason, and revoked claims none."""
    made = crl(authority, STOLEN, RENEWED)
    stolen = made.get_revoked_certificate_by_serial_number(0x7F01)
    renewed = made.get_revoked_certificate_by_serial_number(0x7F02)
    assert stolen is not None and renewed is not None and len(made) == 2
    assert stolen.revocation_date_utc == moment(STOLEN.at_ms)
    assert not list(stolen.extensions)
    reason = renewed.extensions.get_extension_for_class(x509.CRLReason).value
    assert reason.reason is x509.ReasonFlags.superseded
    assert made.get_revoked_certificate_by_serial_number(0x7F03) is None


def test_empty(authority: Authority) -> None:
    """Where nothing is revoked the list is empty and signed all the same."""
    assert len(crl(authority)) == 0


@pytest.mark.parametrize("revoked_first", [True, False])
def test_listed_once(authority: Authority, revoked_first: bool) -> None:
    """A certificate that was superseded and revoked is listed once, as revoked."""
    superseded = RevokedEntry(STOLEN.serial, NOW_MS, superseded=True)
    entries = [STOLEN, superseded] if revoked_first else [superseded, STOLEN]
    (entry,) = crl(authority, *entries)
    assert not list(entry.extensions)


@pytest.mark.parametrize("serial", ["", "xyz", "0", "-1", "8" + "0" * 39])
def test_serials_refused(authority: Authority, serial: str) -> None:
    """What is no serial number is a typed error and not a list that misses an entry."""
    with pytest.raises(Malformed, match="serial"):
        crl(authority, RevokedEntry(serial, NOW_MS, superseded=False))


@pytest.mark.parametrize("number", [-1, 1 << 159])
def test_numbers_refused(authority: Authority, number: int) -> None:
    """A CRL number is not negative and has 20 octets at most."""
    with pytest.raises(Malformed, match="number"):
        crl(authority, number=number)


@pytest.mark.skipif(OPENSSL is None, reason="the openssl command is not there")
def test_openssl_agrees(
    authority: Authority, key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    """OpenSSL believes the list, refuses the listed certificate and accepts the other one."""
    good, bad = (authority.issue_device(key.public_key(), DEVICE, NOW_MS) for _ in range(2))
    entry = RevokedEntry(bad.serial, NOW_MS, superseded=False)
    root, listed = tmp_path / "ca.pem", tmp_path / "crl.pem"
    root.write_bytes(authority.ca_pem)
    listed.write_bytes(make_crl(authority, [entry], NOW_MS, number=1, life_ms=DAY_MS))
    for issued, code in ((good, 0), (bad, 2)):
        leaf = tmp_path / "leaf.pem"
        leaf.write_bytes(issued.pem)
        at = ["-attime", str(NOW_MS // 1000 + 60)]
        asked = ["-crl_check", "-CAfile", str(root), "-CRLfile", str(listed), str(leaf)]
        done = subprocess.run(
            [str(OPENSSL), "verify", *at, *asked], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done
        assert ("certificate revoked" in done.stderr) == bool(code)
