"""Tests of :mod:`palyra.cli.local_checks`."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.cli import local_checks
from palyra.config import Config
from palyra.config.listen import ListenSection
from palyra.errors import RESTORE

DAY = datetime.timedelta(days=1)
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def test_state_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists, is closed to others and has room."""
    tmp_path.chmod(0o700)
    fine = local_checks.state_root(tmp_path)
    assert fine.verdict == "ok"
    assert fine.finding.startswith(f"{tmp_path}, 0700, ")
    usage = shutil.disk_usage(tmp_path)
    for free, verdict in ((1024, "FAIL"), (100 * 1024 * 1024, "warn")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: usage._replace(free=f))
        assert local_checks.state_root(tmp_path).verdict == verdict
    tmp_path.chmod(0o755)
    opened = local_checks.state_root(tmp_path)
    assert (opened.verdict, opened.hint) == ("FAIL", f"chmod 700 {tmp_path}")
    assert local_checks.state_root(tmp_path / "none").verdict == "FAIL"


def test_a_root_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner is named."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    tmp_path.chmod(0o700)
    assert local_checks.state_root(tmp_path).hint == f"sudo -u {tmp_path.owner()} palyra doctor"


def test_configuration(tmp_path: Path) -> None:
    """A missing file is all defaults; a wrong one is named by the path of its value."""
    assert local_checks.configuration(tmp_path)[0].finding == "no palyra.toml, all defaults"
    (tmp_path / "palyra.toml").write_text("[listen]\nenrolment = 7\n")
    check, config = local_checks.configuration(tmp_path)
    assert check.verdict == "FAIL"
    assert check.finding.startswith("listen.enrolment: ")
    assert config == Config()
    (tmp_path / "palyra.toml").write_text('[listen]\nenrolment = "127.0.0.1:1"\n')
    assert local_checks.configuration(tmp_path)[1].listen.enrolment == "127.0.0.1:1"


def test_database(tmp_path: Path) -> None:
    """None yet, lost, damaged, fine."""
    file = tmp_path / "palyra.sqlite3"
    assert local_checks.database(tmp_path).verdict == "ok"
    (tmp_path / "store_epoch").touch()
    lost = local_checks.database(tmp_path)
    assert "is missing but" in lost.finding
    assert lost.hint == RESTORE  # also what a restore that was cut off leaves behind
    (tmp_path / "node-runtime.v1.json").touch()
    assert "or remove store_epoch to start from" in local_checks.database(tmp_path).hint
    file.write_bytes(b"something else altogether")
    damaged = local_checks.database(tmp_path)
    assert "is damaged" in damaged.finding and damaged.hint == RESTORE
    file.write_bytes(b"SQLite format 3\x00" + bytes(4080))
    assert local_checks.database(tmp_path).finding == "palyra.sqlite3, 4 KiB"
    file.unlink()
    file.mkdir()
    assert local_checks.database(tmp_path).verdict == "FAIL"


def test_a_database_on_a_server_is_named(tmp_path: Path) -> None:
    """Which database it is, without what opens it; whether it answers, the gateway says."""
    check = local_checks.database(tmp_path, "postgresql://me:hunter2@db/palyra")
    assert (check.verdict, check.finding) == ("ok", "PostgreSQL database palyra on db")
    check = local_checks.database(tmp_path, "postgresql://me@db:hunter2/palyra")
    assert check.verdict == "FAIL" and "hunter2" not in check.finding


def test_key_files(tmp_path: Path) -> None:
    """Keys are closed to others; certificates are not secret."""
    assert "none yet" in local_checks.key_files(tmp_path).finding
    identity = tmp_path / "identity"
    identity.mkdir()
    for name, mode in (("ca.pem", 0o644), ("store.key", 0o600)):
        (identity / name).touch(mode)
    assert local_checks.key_files(tmp_path).finding == "2 files, closed to others"
    (identity / "store.key").chmod(0o640)
    found = local_checks.key_files(tmp_path)
    assert found.finding == "identity/store.key may be read by others (mode 0640)"
    assert found.hint == f"chmod 600 {identity / 'store.key'}"


def test_a_key_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a copy by root: whose it is, who looks, and the command that gives it back."""
    key = tmp_path / "identity" / "store.key"
    key.parent.mkdir()
    key.touch(0o600)
    monkeypatch.setattr("os.access", lambda path, mode: path != key)
    monkeypatch.setattr("getpass.getuser", lambda: "ana")
    found = local_checks.key_files(tmp_path)
    assert found.verdict == "FAIL" and found.where == str(key)
    assert found.finding == f"identity/store.key belongs to {key.owner()}; ana may not read it"
    assert found.hint == f"sudo chown {tmp_path.owner()} {key}"


def test_clock(tmp_path: Path) -> None:
    """This clock stands within the life of the gateway's certificate, or something is wrong."""
    assert "no certificate" in local_checks.clock(tmp_path, NOON).finding
    (tmp_path / "identity").mkdir()
    file = tmp_path / "identity" / "gateway.pem"
    file.write_text("no certificate")
    wrong = local_checks.clock(tmp_path, NOON)
    assert (wrong.verdict, wrong.hint) == ("FAIL", RESTORE)
    file.write_bytes(certificate())
    assert local_checks.clock(tmp_path, NOON).finding == (
        "2026-11-22 12:00 UTC, gateway certificate ends in 1d"
    )
    early = local_checks.clock(tmp_path, NOON - 2 * DAY)
    assert (early.verdict, early.hint) == ("FAIL", "timedatectl set-ntp true")
    assert local_checks.clock(tmp_path, NOON + 2 * DAY).verdict == "warn"


def test_ports() -> None:
    """A port that is taken is a FAIL, with who has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = Config(listen=ListenSection(f"127.0.0.1:{port}", "127.0.0.1:0"))
        _, enrolment, nodes = local_checks.ports(config)
    assert nodes.verdict == "ok"
    assert enrolment.verdict == "FAIL"
    assert enrolment.finding.startswith(f"port {port} is taken")
    wrong = local_checks.ports(Config(listen=ListenSection("nonsense")))[1]
    assert (wrong.verdict, wrong.hint) == ("FAIL", "correct it in palyra.toml")


def certificate() -> bytes:
    """One that is valid from a day before noon to a day after."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOON - DAY)
        .not_valid_after(NOON + DAY)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
