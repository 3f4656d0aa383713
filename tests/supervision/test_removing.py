"""Tests of :mod:`palyra.supervision.removing`, over both kinds of directories."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import NotANodeHost, StateRootLocked
from palyra.supervision import directories, removing
from palyra.supervision.directories import Directory, HeldDirectory, NamedDirectory
from palyra.supervision.removing import Belongings, Removed, check

OURS = Belongings(
    names=frozenset({"data.json", "control.sock", "store.sqlite3", "store.sqlite3-wal"}),
    logs=frozenset({"host.log"}),
    directories={"identity": Belongings(names=frozenset({"key.json"}))},
    proofs={"host.json": lambda data: data == b"proof", "mark.json": lambda data: data == b"mark"},
    last=("host.json", "mark.json"),
    lock="host.lock",
)
ME = frozenset({os.geteuid()})


@pytest.fixture(params=[HeldDirectory, NamedDirectory])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Both ways of going about it."""
    monkeypatch.setattr(directories, "HELD", request.param is HeldDirectory)
    kind: type = request.param
    return kind


@pytest.fixture
def host(kind: type, tmp_path: Path) -> Path:
    """What a node host leaves, in ``root/node-host``."""
    return made(tmp_path / "root" / "node-host")


def made(path: Path) -> Path:
    identity = path / "identity"
    identity.mkdir(parents=True)
    names = ["data.json", "store.sqlite3", "store.sqlite3-wal", "host.log", "host.log.1"]
    for name in (*names, "host.lock", ".data.json.ab_d3fgh", "identity/key.json"):
        (path / name).write_text("x")
    (path / "identity" / ".key.json.abcdefgh").write_text("secret")
    (path / "host.json").write_bytes(b"proof")
    (path / "mark.json").write_bytes(b"mark")
    return path


def remove(path: Path, owners: frozenset[int] = ME) -> Removed:
    return removing.remove(path, OURS, owners)


def everything(path: Path) -> dict[str, bytes]:
    """Every name below, with what is in it."""
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else b""
        for each in sorted(path.rglob("*"))
    }


def test_all_that_is_known(host: Path) -> None:
    """Nothing is left, sockets, rotated logs and what crashes left included; what is beside the
    directory stays."""
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(host / "control.sock"))
    (host.parent / "palyra.toml").write_text("x")
    removed = remove(host)
    assert removed == Removed(host, 12, gone=True)
    assert everything(host.parent) == {"palyra.toml": b"x"}
    assert remove(host) == Removed(host, 0, gone=True)


def test_what_is_unknown_stays(host: Path) -> None:
    """Files, directories with all that is in them, and names that are only alike."""
    unknown = {"mine.txt", "data.json.bak", ".data.json.ABCDEFGH", "store.sqlite3.1", "photos"}
    for name in unknown - {"photos"}:
        (host / name).write_text("precious")
    (host / "photos").mkdir()
    (host / "photos" / "data.json").write_text("precious")
    (host / "identity" / "id_rsa").write_text("precious")
    removed = remove(host)
    assert not removed.gone and removed.files == 11
    assert set(removed.left) == unknown | {"identity/id_rsa"}
    kept = {name for name, data in everything(host).items() if data == b"precious"}
    assert kept == unknown - {"photos"} | {"photos/data.json", "identity/id_rsa"}


@pytest.mark.parametrize("name", ["data.json", "identity", "host.log", "store.sqlite3"])
def test_links_are_not_followed(host: Path, tmp_path: Path, name: str) -> None:
    """One in place of a file of ours is somebody's doing: it stays, and so does where it leads."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "key.json").write_text("precious")
    target = host / name
    if target.is_dir():
        for each in target.iterdir():
            each.unlink()
        target.rmdir()
        target.symlink_to(elsewhere, target_is_directory=True)
    else:
        target.unlink()
        target.symlink_to(elsewhere / "key.json")
    assert remove(host).left == (name,)
    assert (elsewhere / "key.json").read_text() == "precious" and target.is_symlink()


def test_a_link_in_place_of_all(host: Path, tmp_path: Path) -> None:
    """Refused, whatever it leads to."""
    link = tmp_path / "other" / "node-host"
    link.parent.mkdir()
    link.symlink_to(host, target_is_directory=True)
    before = everything(host)
    with pytest.raises(NotANodeHost):
        remove(link)
    with pytest.raises(NotANodeHost):
        check(link, OURS, ME, runs=False)
    assert everything(host) == before


def test_a_root_that_is_a_link(host: Path, tmp_path: Path) -> None:
    """Somebody has moved it to another disk: what is looked at before is what is removed."""
    link = tmp_path / "link"
    link.symlink_to(host.parent, target_is_directory=True)
    check(link / host.name, OURS, ME, runs=False)
    with removing.kept_alone(link / host.name, OURS):
        with pytest.raises(StateRootLocked):
            remove(host)
        assert removing.remove(link / host.name, OURS, ME, alone=True).gone
    assert not host.exists() and link.is_symlink()


def test_hard_links(host: Path, tmp_path: Path) -> None:
    """Only the name here is removed: what it is a second name of stays as it is."""
    other = tmp_path / "passwd"
    other.write_text("precious")
    (host / "data.json").unlink()
    os.link(other, host / "data.json")
    assert remove(host).gone
    assert other.read_text() == "precious"


def test_directories_that_are_not_ours(kind: type, tmp_path: Path) -> None:
    """Nothing is touched in a directory that does not prove to be a node host's."""
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("data.json", "host.lock", "passwd"):
        (etc / name).write_text("precious")
    for proof in (None, b"", b"other", b"x" * 2_000_000):
        if proof is not None:
            (etc / "host.json").write_bytes(proof)
        before = everything(etc)
        with pytest.raises(NotANodeHost):
            remove(etc)
        assert everything(etc) == before
    (tmp_path / "true.json").write_bytes(b"proof")
    (etc / "host.json").unlink()
    (etc / "host.json").symlink_to(tmp_path / "true.json")
    with pytest.raises(NotANodeHost):
        remove(etc)
    with pytest.raises(NotANodeHost, match="link, or no directory"):
        remove(etc / "passwd")
    with pytest.raises(NotANodeHost, match="not there"):
        remove(tmp_path / "missing" / "node-host")


def test_somebody_elses(host: Path) -> None:
    """What belongs to another user is not touched."""
    before = everything(host)
    with pytest.raises(NotANodeHost, match="another user"):
        remove(host, frozenset({os.geteuid() + 1}))
    assert everything(host) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_in_it(host: Path) -> None:
    """They stay, and are named."""
    os.chown(host / "data.json", 65534, 65534)
    os.chown(host / "identity", 65534, 65534)
    assert remove(host).left == ("data.json", "identity")
    assert (host / "identity" / "key.json").exists()


def test_a_host_that_runs(host: Path) -> None:
    """Its lock is held: nothing is touched, and it is said who holds it."""
    (host / "host.lock").write_text("4312\n")
    before = everything(host)
    with (host / "host.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateRootLocked, match="4312"):
            remove(host)
        with pytest.raises(StateRootLocked):
            check(host, OURS, ME, runs=False)
        check(host, OURS, ME, runs=True)
        assert everything(host) == before
    check(host, OURS, ME, runs=False)
    assert remove(host).gone


def test_a_link_in_place_of_the_lock(host: Path, tmp_path: Path) -> None:
    """It is not opened: a process of root's must not write where it leads."""
    (host / "host.lock").unlink()
    (host / "host.lock").symlink_to(tmp_path / "made")
    with pytest.raises(NotANodeHost):
        remove(host)
    assert not (tmp_path / "made").exists()


class Interrupted(BaseException):
    """Somebody pulls the plug."""


@pytest.fixture
def unlinks(kind: type, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[str], None]]]:
    """Called with each name before it is unlinked."""
    calls: list[Callable[[str], None]] = []
    unlink = kind.unlink  # type: ignore[attr-defined]

    def watched(self: Directory, name: str) -> None:
        for call in calls:
            call(name)
        unlink(self, name)

    monkeypatch.setattr(kind, "unlink", watched)
    yield calls


def test_it_can_be_interrupted(host: Path, unlinks: list[Callable[[str], None]]) -> None:
    """After any number of files: again, it goes on to the end."""
    ended = 0

    def pull(_: str) -> None:
        nonlocal ended
        ended += 1
        raise Interrupted

    for _ in range(30):
        left = everything(host) if host.exists() else {}
        if not left:
            break
        unlinks.append(pull)
        with pytest.raises(Interrupted):
            remove(host)
        unlinks.clear()
        allowed = iter([None])  # one more file goes each time

        def once(_: str, allowed: Iterator[None] = allowed) -> None:
            try:
                next(allowed)
            except StopIteration:
                raise Interrupted from None

        unlinks.append(once)
        with contextlib.suppress(Interrupted):
            remove(host)
        unlinks.clear()
    assert not host.exists() and ended == 11


def test_a_name_is_replaced_meanwhile(
    host: Path, tmp_path: Path, unlinks: list[Callable[[str], None]]
) -> None:
    """Between the look and the unlinking: by a link, which ends while what it leads to stays, or by
    a directory, which stays."""
    other = tmp_path / "precious"
    other.write_text("precious")
    kept = tmp_path / "kept"
    (kept / "below").mkdir(parents=True)

    def replace(name: str) -> None:
        if name == "data.json":
            (host / name).unlink()
            (host / name).symlink_to(other)
        if name == "store.sqlite3":
            (host / name).unlink()
            kept.rename(host / name)

    unlinks.append(replace)
    removed = remove(host)
    assert other.read_text() == "precious" and not (host / "data.json").is_symlink()
    assert (host / "store.sqlite3" / "below").is_dir()
    assert removed.left == ("store.sqlite3", "host.json", "mark.json")


def test_the_directory_is_replaced_meanwhile(
    kind: type, host: Path, tmp_path: Path, unlinks: list[Callable[[str], None]]
) -> None:
    """By a link to another one: where directories can be held, nothing in that one is touched."""
    if kind is NamedDirectory:
        pytest.skip("no directory is held on such a system")
    other = made(tmp_path / "victim")
    before = everything(other)

    def replace(_: str) -> None:
        if not host.is_symlink():
            host.rename(tmp_path / "moved")
            host.symlink_to(other, target_is_directory=True)

    unlinks.append(replace)
    removed = remove(host)
    assert everything(other) == before and not removed.gone
    assert everything(tmp_path / "moved") == {}


def test_a_disk_that_refuses(host: Path, unlinks: list[Callable[[str], None]]) -> None:
    """What cannot be removed is named, and the proofs stay: it can be tried again."""

    def refuse(name: str) -> None:
        if name == "key.json":
            raise OSError(30, "Read-only file system")

    unlinks.append(refuse)
    removed = remove(host)
    assert removed.left == ("identity/key.json", "host.json", "mark.json")
    unlinks.clear()
    assert remove(host).gone


def test_a_directory_that_cannot_be_entered(
    host: Path, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is no link: what is in it stays ours, so the proofs stay, and it can be tried again."""
    child = kind.child  # type: ignore[attr-defined]

    def refused(self: Directory, name: str) -> Directory:
        if name == "identity":
            raise PermissionError(13, "Permission denied")
        held: Directory = child(self, name)
        return held

    with monkeypatch.context() as patched:
        patched.setattr(kind, "child", refused)
        assert remove(host).left == ("identity", "host.json", "mark.json")
    assert remove(host).gone


def test_a_lock_that_is_no_file(host: Path) -> None:
    """A pipe in its place is refused, and so is what cannot be read of its holder."""
    (host / "host.lock").unlink()
    os.mkfifo(host / "host.lock")
    with pytest.raises(NotANodeHost, match="no file"):
        remove(host)
    (host / "host.lock").unlink()
    (host / "host.lock").write_bytes(b"\xff\xfe")
    with (host / "host.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateRootLocked):
            remove(host)
    assert remove(host).gone


NAMES = st.sampled_from(
    ["data.json", "data.json.1", ".data.json.abcdefgh", "host.log", "host.log.12", "host.log.x",
     "identity", "key.json", "host.json", "mark.json", "host.lock", "a b", "store.sqlite3-shm",
     "store.sqlite3-wal", "control.sock", "..data.json.abcdefgh", "host.log.1.1"]
)  # fmt: skip
KINDS = st.sampled_from(["file", "directory", "link", "dangling", "proof"])


@given(st.dictionaries(NAMES, KINDS, max_size=12))
@settings(max_examples=60)
def test_whatever_is_there(things: dict[str, str]) -> None:
    """Only regular files with known names are ever removed, from a directory that proves what it
    is; what a link leads to and what is below unknown directories stays."""
    with tempfile.TemporaryDirectory() as temporary:
        outside = Path(temporary, "outside")
        outside.mkdir()
        (outside / "precious").write_text("precious")
        host = Path(temporary, "node-host")
        host.mkdir()
        for name, thing in things.items():
            _put(host / name, thing, outside)
        try:
            remove(host)
        except NotANodeHost:
            assert {each.name for each in host.iterdir()} == set(things)
        for name, thing in things.items():
            if thing != "file" and thing != "proof" and name != "identity":
                assert os.path.lexists(host / name)
            if not OURS.knows(name) and thing != "directory":
                assert os.path.lexists(host / name)
        assert everything(outside) == {"precious": b"precious"}


def _put(path: Path, thing: str, outside: Path) -> None:
    if thing == "directory":
        path.mkdir()
    elif thing == "link":
        path.symlink_to(outside / "precious")
    elif thing == "dangling":
        path.symlink_to(outside / "nothing")
    else:
        path.write_bytes(b"proof" if thing == "proof" else b"x")
