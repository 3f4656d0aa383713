"""What ``palyra doctor`` finds out of the console's listener."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.cli import console_checks
from palyra.config import Config
from palyra.config.console import ConsoleSection
from palyra.config.gateway import GatewaySection
from palyra.console.models import Check

DAY = datetime.timedelta(days=1)
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def configured(*names: str, **console: Any) -> Config:
    return Config(gateway=GatewaySection(names=names), console=ConsoleSection(**console))


def write_pair(folder: Path, *names: str, begin: datetime.datetime = NOON - DAY) -> dict[str, str]:
    """A certificate for ``names`` that is valid for two days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "console")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + 2 * DAY)
    )
    if names:
        sans = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(sans, critical=False)
    made = builder.sign(key, hashes.SHA256())
    (folder / "chain.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (folder / "key.pem").chmod(0o600)
    return {"certificate": str(folder / "chain.pem"), "private_key": str(folder / "key.pem")}


def only(root: Path, config: Config) -> Check:
    (check,) = console_checks.checks(root, config, NOON)
    return check


def test_its_port() -> None:
    """Free, taken by somebody who is named, switched off, or no endpoint at all."""
    assert console_checks.port(configured(endpoint="none"))[0].verdict == "ok"
    free = configured(endpoint="palyra:0")
    assert console_checks.port(free)[0].finding == "127.0.0.1:0 is free"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        check = console_checks.port(configured(endpoint=f"palyra:{number}"))[0]
    assert check.verdict == "FAIL"
    assert check.finding.startswith(f"port {number} is taken")
    assert check.hint.startswith("set another console endpoint in palyra.toml")
    wrong = console_checks.port(configured(endpoint="palyra:x"))[0]
    assert (wrong.verdict, wrong.hint) == ("FAIL", "correct it in palyra.toml")


def test_an_address_of_another_machine() -> None:
    """It is not called taken: the cause is the system's own."""
    (found,) = console_checks.port(configured(endpoint="palyra:7142:interface=192.0.2.1"))
    assert found.verdict == "FAIL"
    assert found.finding.startswith("cannot listen on 192.0.2.1:7142 for console: ")


def test_nothing_to_say(tmp_path: Path) -> None:
    """Switched off, or no certificate made yet: others say what there is to say."""
    assert console_checks.checks(tmp_path, configured(endpoint="none"), NOON) == []
    assert console_checks.checks(tmp_path, configured(endpoint="palyra:x"), NOON) == []
    assert console_checks.checks(tmp_path, configured(), NOON) == []


def test_names_are_required_beyond_loopback(tmp_path: Path) -> None:
    """The same refusal as at the start."""
    check = only(tmp_path, configured(endpoint="palyra:7142:interface=0.0.0.0"))
    assert check.verdict == "FAIL"
    assert "needs configured names" in check.finding


def test_plain_beyond_loopback(tmp_path: Path) -> None:
    """Who may speak plain HTTP from elsewhere is told, and only then."""
    beyond = "palyra:7142:interface=0.0.0.0"
    check = only(tmp_path, configured("a", endpoint=beyond, behind_proxy=("10.0.0.1",)))
    assert (check.verdict, check.name) == ("warn", "console plain")
    assert check.finding == "10.0.0.1/32 may speak plain HTTP to 0.0.0.0:7142"
    assert console_checks.checks(tmp_path, configured(behind_proxy=("10.0.0.1",)), NOON) == []


def test_the_gateways_own_certificate(tmp_path: Path) -> None:
    """A name that was configured after it was made is missing until a restart."""
    (tmp_path / "identity").mkdir()
    write_pair(tmp_path, "palyrad-node-rpc", "localhost", "atlas")
    (tmp_path / "chain.pem").rename(tmp_path / "identity" / "gateway.pem")
    fine = only(tmp_path, configured("Atlas"))
    assert (fine.verdict, fine.finding) == ("ok", "for atlas, localhost")
    check = only(tmp_path, configured("home.example.org"))
    assert check.verdict == "FAIL"
    assert check.finding == (
        "The console's certificate is for atlas, localhost; not for home.example.org. "
        "Devices are not affected"
    )
    assert check.hint == "twistd -n palyra (a restart adds it)"


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    """Its names, its dates and who may read its key."""
    own = write_pair(tmp_path, "home.example.org")
    config = configured("home.example.org", **own)
    assert only(tmp_path, config).verdict == "ok"
    assert only(tmp_path, configured("b", **own)).hint == "get one that names b"
    (tmp_path / "key.pem").chmod(0o644)
    check = only(tmp_path, config)
    assert (check.verdict, check.hint) == ("FAIL", f"chmod 600 {own['private_key']}")
    write_pair(tmp_path, "home.example.org", begin=NOON - 3 * DAY)
    check = only(tmp_path, config)
    assert (check.verdict, check.finding) == ("FAIL", "ended at 2026-11-21 12:00 UTC")
    write_pair(tmp_path, "home.example.org", begin=NOON + DAY)
    assert only(tmp_path, config).hint == "timedatectl set-ntp true"


@pytest.mark.parametrize("damage", [b"nothing", None])
def test_one_that_cannot_be_read(tmp_path: Path, damage: bytes | None) -> None:
    """The file is named."""
    own = write_pair(tmp_path)
    file = Path(own["certificate"])
    file.unlink()
    if damage is not None:
        file.write_bytes(damage)
    check = only(tmp_path, configured(**own))
    assert check.verdict == "FAIL"
    assert check.finding.startswith(f"{file}: ")


def test_one_without_names(tmp_path: Path) -> None:
    """It is for nobody."""
    check = only(tmp_path, configured("a", **write_pair(tmp_path)))
    assert check.finding.startswith("The console's certificate is for no name; not for a.")
