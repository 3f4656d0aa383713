"""Tests of :mod:`palyra.node.files`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from palyra.errors import DirectoryNotPrivate, FileTooNew, StateOfAnother, StoreCorrupt
from palyra.node.files import HostFile, NodeFiles
from tests.node.fakes import DEVICE_ID, NOW_MS

HOST = HostFile(1, "gw:7444", DEVICE_ID, 500, "/x/identity", NOW_MS, NOW_MS, "pi", "ana", "gw:7443")


def test_the_pairing_is_kept_under_its_published_names(tmp_path: Path) -> None:
    """And read again; before it there is none."""
    files = NodeFiles(tmp_path)
    assert files.host() is None
    files.make()
    files.keep_host(HOST)
    assert NodeFiles(tmp_path).host() == HOST
    path = tmp_path / "node-host" / "node-host.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert set(json.loads(path.read_text())) >= {
        "schema_version",
        "grpc_url",
        "device_id",
        "poll_interval_ms",
        "identity_store_dir",
        "installed_at_unix_ms",
        "paired_at_unix_ms",
    }


def test_a_damaged_file_is_named_and_left(tmp_path: Path) -> None:
    """A host that was paired never looks like one that was not."""
    files = NodeFiles(tmp_path)
    files.make()
    files.host_file.write_text("{")
    with pytest.raises(StoreCorrupt) as refused:
        files.host()
    assert str(files.host_file) in refused.value.sentence
    assert files.host_file.read_text() == "{"


def test_the_directory_is_closed_again(tmp_path: Path) -> None:
    """Ours is made private; somebody else's is refused."""
    files = NodeFiles(tmp_path)
    files.make()
    files.keep_host(HOST)
    files.root.chmod(0o755)
    files.make()
    assert files.root.stat().st_mode & 0o777 == 0o700
    foreign = NodeFiles(tmp_path / "foreign")
    foreign.root.mkdir(parents=True, mode=0o755)
    (foreign.root / "letters").touch()
    with pytest.raises(DirectoryNotPrivate):
        foreign.make()


def test_a_password_is_not_shown() -> None:
    """The proxy's may be in the file, and is in no message about it."""
    host = msgspec.structs.replace(HOST, http_proxy="http://ana:hunter2@proxy:3128")
    assert "hunter2" not in repr(host) and DEVICE_ID in str(host)


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    """It says nothing of transports."""
    files = NodeFiles(tmp_path)
    files.make()
    files.keep_host(HOST)
    old = json.loads(files.host_file.read_text())
    for name in ("transport", "quic_address", "last_transport"):
        del old[name]
    files.host_file.write_text(json.dumps(old))
    assert files.host() == HOST


def test_a_file_of_a_later_version(tmp_path: Path) -> None:
    """One in a newer form is left as it is; what a newer program has added to this form is kept."""
    files = NodeFiles(tmp_path)
    files.make()
    files.keep_host(HOST)
    later = json.loads(files.host_file.read_text()) | {"colour": "red"}
    files.host_file.write_text(json.dumps(later))
    files.keep_host(msgspec.structs.replace(HOST, name="attic"))
    assert json.loads(files.host_file.read_text()) == later | {"name": "attic"}
    files.host_file.write_text(json.dumps(later | {"schema_version": 2}))
    before = files.host_file.read_bytes()
    for use in (files.host, lambda: files.keep_host(HOST)):
        with pytest.raises(FileTooNew):
            use()
    assert files.host_file.read_bytes() == before


@pytest.fixture
def entered() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="palyra-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_state_of_another_user(entered: Path) -> None:
    """Whoever may not enter it is told whose it is, by every way in."""
    files = NodeFiles(entered / "state")
    files.make()
    files.keep_host(HOST)
    os.seteuid(65534)
    try:
        for use in (files.host, files.make):
            with pytest.raises(StateOfAnother) as refused:
                use()
            assert refused.value.owner == "root"
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_where_no_state_can_be_made(entered: Path) -> None:
    """Another place has to be named: the owner of this one has no node host there."""
    os.seteuid(65534)
    try:
        with pytest.raises(StateOfAnother) as refused:
            NodeFiles(entered / "none").make()
    finally:
        os.seteuid(0)
    assert (refused.value.path, refused.value.hint) == (str(entered), "use --state-root DIR")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is let in")
def test_root_uses_no_state_of_another_user(entered: Path) -> None:
    """Neither his directory nor one that a link of his leads to; what is not there is nobody's."""
    files = NodeFiles(entered / "state")
    files.check_mine()
    files.make()
    files.check_mine()
    link = NodeFiles(entered / "other")
    link.state_root.mkdir()
    link.root.symlink_to(files.root)
    link.check_mine()
    os.lchown(link.root, 65534, 65534)
    for of_another in (link, files):
        os.chown(files.root, *((65534, 65534) if of_another is files else (0, 0)))
        with pytest.raises(StateOfAnother):
            of_another.check_mine()
