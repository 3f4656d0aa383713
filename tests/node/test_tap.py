"""Tests of :mod:`palyra.node.tap`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra._daemon import CleanFailure
from palyra.errors import StateOfAnother
from palyra.node import foreground
from palyra.node.files import HostFile, NodeFiles
from palyra.node.pairingrun import NodeRunOptions
from palyra.node.service import NodeService
from palyra.node.tap import Options, makeService
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from tests.node.fakes import DEVICE_ID, NOW_MS


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed on the terminal's own stderr."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    return stream


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    """A state root that is paired."""
    made = NodeFiles(tmp_path)
    made.make()
    made.identity.open(NOW_MS, os.urandom, DEVICE_ID)
    authority = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
    key = check_csr(made.identity.new_csr(DEVICE_ID), DEVICE_ID)
    pem = authority.issue_device(key, DEVICE_ID, NOW_MS).pem.decode()
    made.identity.accept(DEVICE_ID, pem, authority.ca_pem.decode())
    made.keep_host(HostFile(1, "127.0.0.1:1", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi"))
    return made


def parsed(root: Path, *more: str) -> Options:
    """The options of a command line with that state root."""
    make: Any = Options
    options: Options = make()
    parse: Any = options.parseOptions
    parse(["--state-root", str(root), *more])
    return options


def refused(root: Path, *more: str, code: int = 1) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(root, *more)
    assert ended.value.code == code


def test_a_paired_device(files: NodeFiles) -> None:
    """The lock is taken while the options are read, and the service is made."""
    options = parsed(files.state_root)
    assert options.identity.device_id == DEVICE_ID
    assert files.lock.read_text().strip() == str(os.getpid())
    assert isinstance(makeService(options), CleanFailure)
    options.lock.release()


@pytest.mark.parametrize(
    ("asked", "kept", "configured", "used"),
    [
        ("quic", "grpc", "grpc", "quic"),
        ("", "quic", "grpc", "quic"),
        ("", "", "grpc", "grpc"),
        ("", "pigeon", "", "auto"),
    ],
)
def test_which_transport(
    files: NodeFiles, asked: str, kept: str, configured: str, used: str
) -> None:
    """What is asked for now, else at pairing, else in the configuration."""
    host = files.host()
    assert host is not None
    files.keep_host(msgspec.structs.replace(host, transport=kept))
    if configured:
        toml = files.state_root / "palyra.toml"
        toml.write_text(f'[node]\ntransport = "{configured}"\n')
    options = parsed(files.state_root, *(["--transport", asked] if asked else []))
    service = makeService(options)
    assert isinstance(service, CleanFailure)
    (node,) = (each for each in vars(service).values() if isinstance(each, NodeService))
    assert node._config.transport.value == used
    options.lock.release()


def test_a_transport_that_there_is_not(files: NodeFiles, stderr: io.StringIO) -> None:
    """Is refused with those that there are."""
    refused(files.state_root, "--transport", "udp", code=2)
    assert stderr.getvalue() == (
        "error: --transport: must be grpc, quic or auto (got 'udp').\n"
        "hint:  give one of these, or leave --transport out\n"
    )


def test_an_unpaired_device(tmp_path: Path, stderr: io.StringIO) -> None:
    """A sentence and the command that pairs it; nothing is made."""
    refused(tmp_path)
    assert stderr.getvalue() == (
        f"error: The node host on state root {tmp_path} is not paired.\n"
        "hint:  palyra node run --gateway HOST\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_others_may_read(files: NodeFiles, stderr: io.StringIO) -> None:
    """Is refused before the fork, with the command that mends it."""
    path = files.root / "identity" / "node-mtls-client.json"
    path.chmod(0o644)
    refused(files.state_root)
    assert stderr.getvalue() == (
        f"error: {path} may be read by others (mode 0644).\nhint:  chmod 600 {path}\n"
    )
    path.chmod(0o600)
    parsed(files.state_root).lock.release()


def test_a_second_start_leaves_the_first_ones_files(files: NodeFiles, stderr: io.StringIO) -> None:
    """What the first is about to put into place is not taken for what a crash left."""
    first = parsed(files.state_root)
    being_written = files.identity.path / ".node-mtls-client.json.abcdefgh"
    being_written.touch()
    refused(files.state_root)
    assert being_written.exists()
    first.lock.release()
    parsed(files.state_root).lock.release()
    assert not being_written.exists()


def test_a_second_start(files: NodeFiles, stderr: io.StringIO) -> None:
    """Names the first."""
    first = parsed(files.state_root)
    refused(files.state_root)
    named = f"A node host (pid {os.getpid()}) already uses state root {files.state_root}."
    assert named in stderr.getvalue()
    first.lock.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is let in")
def test_root_writes_nothing_into_the_state_of_another_user(
    files: NodeFiles, stderr: io.StringIO
) -> None:
    """It is refused before anything is made in there, by each way to serve."""
    os.chown(files.root, 65534, 65534)
    before = sorted(files.root.iterdir())
    refused(files.state_root)
    assert "belongs to nobody; you are root." in stderr.getvalue()
    options = NodeRunOptions(state_root=files.state_root)
    with pytest.raises(StateOfAnother):
        foreground.run(options)
    with pytest.raises(StateOfAnother):
        foreground.pair(options, io.StringIO())
    assert sorted(files.root.iterdir()) == before
