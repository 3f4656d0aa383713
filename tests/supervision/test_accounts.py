"""The users that services run as, and handing a state tree to one of them."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.errors import AccountUnknown, ServiceManagerFailed
from palyra.supervision import accounts as supervision_accounts
from palyra.supervision.accounts import can_make, check_name, find, give, make, remove
from palyra.supervision.service import Account
from tests.supervision.standin import StandIn

OTHER = Account("palyra-node", 65533, 65532)
STRANGER = 65531

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A state root with what a node host has."""
    root = tmp_path / "state"
    (root / "node-host" / "identity").mkdir(parents=True, mode=0o700)
    for name in ("node-host.json", "identity/node-mtls-client.json"):
        (root / "node-host" / name).write_text("{}")
    (root / "palyra.toml").write_text("")
    return root


@pytest.fixture
def outside() -> Iterator[Path]:
    """A file of root's that is nobody else's business."""
    with tempfile.NamedTemporaryFile() as file:
        yield Path(file.name)


def owners(root: Path) -> set[tuple[int, int]]:
    """Whose everything in a tree is."""
    found = [root, *root.rglob("*")]
    return {(each.lstat().st_uid, each.lstat().st_gid) for each in found}


@pytest.mark.parametrize(
    "name", ["", "-rf", "a b", "a\nb", "a:b", "a/b", "1000", "\u017eofie", "x" * 40, "a%h"]
)
def test_a_name_that_no_user_can_have_is_refused(name: str) -> None:
    """It would become an option of useradd, or a line of a unit."""
    for act in (check_name, find, remove, lambda each: make(each, Path("/"))):
        with pytest.raises(AccountUnknown):
            act(name)


def test_a_user_is_found_by_name() -> None:
    """As the machine knows it; one that is not there is refused by name."""
    assert find("root") == Account("root", 0, 0)
    with pytest.raises(AccountUnknown, match=r"A service cannot run as palyra-nobody: no user"):
        find("palyra-nobody")


@pytest.fixture
def useradd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The first useradd on PATH."""
    return StandIn("useradd", tmp_path, monkeypatch)


def test_a_user_is_made_that_nobody_can_sign_in_as(useradd: StandIn) -> None:
    """With a group of its own, and without a home that is somebody's."""
    made = make("daemon", Path("/var/lib/palyra-node"))
    assert made == find("daemon")
    (call,) = useradd.calls()
    assert call.startswith("--system --user-group --home-dir /var/lib/palyra-node --no-create-home")
    assert call.endswith(("nologin daemon", "false daemon"))


def test_a_user_that_is_there_already_is_taken(useradd: StandIn) -> None:
    """Two installs at once make one user."""
    useradd.answer("daemon", err="useradd: user 'daemon' already exists\n", code=9)
    assert make("daemon", Path("/x")) == find("daemon")


def test_a_user_that_cannot_be_made_is_a_refusal(
    useradd: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the program's own reason, or that there is none."""
    useradd.answer("daemon", err="useradd: Permission denied.\n", code=1)
    with pytest.raises(ServiceManagerFailed, match="Permission denied"):
        make("daemon", Path("/x"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(supervision_accounts, "_SBIN", ())
    assert not can_make()
    with pytest.raises(AccountUnknown, match="there is no useradd"):
        make("daemon", Path("/x"))


def test_where_su_leaves_path_as_it_was(
    useradd: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root finds such programs also without the directories of root's on PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(supervision_accounts, "_SBIN", (str(tmp_path / "bin"), "/usr/bin"))
    assert can_make()
    make("daemon", Path("/x"))
    assert len(useradd.calls()) == 1


def test_a_user_is_removed_and_none_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user that is gone already is no failure; one that still runs something is."""
    userdel = StandIn("userdel", tmp_path, monkeypatch)
    remove("palyra-node")
    assert userdel.calls() == ["palyra-node"]
    userdel.answer("palyra-node", code=6)
    remove("palyra-node")
    userdel.answer("palyra-node", err="userdel: user is currently used by process 7\n", code=8)
    with pytest.raises(ServiceManagerFailed, match="process 7"):
        remove("palyra-node")


def test_what_is_the_users_already_stays(tree: Path) -> None:
    """Without root, too: a tree of one's own can be given to oneself."""
    give(tree, Account("me", os.geteuid(), os.getegid()))
    assert owners(tree) == {(os.geteuid(), os.getegid())}


@as_root
def test_a_state_tree_becomes_the_users(tree: Path, outside: Path) -> None:
    """All of it, sockets and links as themselves; where a link leads, nothing changes."""
    control = socket.socket(socket.AF_UNIX)
    try:
        control.bind(str(tree / "node-host" / "control.sock"))
    finally:
        control.close()
    (tree / "node-host" / "link").symlink_to(outside)
    (tree / "node-host" / "directory").symlink_to("/etc")
    give(tree, OTHER)
    assert owners(tree) == {(OTHER.uid, OTHER.gid)}
    assert outside.stat().st_uid == 0
    assert Path("/etc").stat().st_uid == 0
    assert stat.S_IMODE((tree / "node-host" / "identity").stat().st_mode) == 0o700
    give(tree, OTHER)


@as_root
@pytest.mark.parametrize("kind", ["hard link", "stranger's file", "stranger's link", "device"])
def test_what_could_be_somebody_elses_is_refused_and_nothing_given(
    tree: Path, outside: Path, kind: str
) -> None:
    """Otherwise whoever may write into the tree could have any file of root's given away."""
    odd = tree / "node-host" / "odd"
    if kind == "hard link":
        source = tree.parent / "secret"
        source.write_text("")
        odd.hardlink_to(source)
    elif kind == "stranger's file":
        odd.write_text("")
        os.chown(odd, STRANGER, STRANGER)
    elif kind == "stranger's link":
        odd.symlink_to(outside)
        os.lchown(odd, STRANGER, STRANGER)
    else:
        try:
            os.mknod(odd, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("no devices can be made here")
    with pytest.raises(AccountUnknown) as caught:
        give(tree, OTHER)
    assert str(odd) in caught.value.problem
    assert (OTHER.uid, OTHER.gid) not in owners(tree)


@as_root
def test_a_directory_that_is_not_the_node_hosts_alone_is_refused(tree: Path) -> None:
    """A state root of /opt by mistake must not give /opt away."""
    (tree / "postgresql").mkdir()
    with pytest.raises(AccountUnknown, match="use a directory of its own"):
        give(tree, OTHER)
    assert (OTHER.uid, OTHER.gid) not in owners(tree)


@as_root
def test_what_else_a_user_keeps_in_a_directory_of_his_own_stays_as_it_is(tree: Path) -> None:
    """The home of a service's user gets a cache, and the next install is no less possible."""
    give(tree, OTHER)
    (tree / ".cache").mkdir()
    (tree / "node-host" / "new").write_text("")
    give(tree, OTHER)
    assert (tree / "node-host" / "new").stat().st_uid == OTHER.uid
    assert (tree / ".cache").stat().st_uid == 0


@as_root
def test_a_tree_that_another_user_could_swap_is_refused(tree: Path) -> None:
    """Whoever owns a directory above it, or may write there, could put another in its place."""
    os.chown(tree.parent, STRANGER, STRANGER)
    with pytest.raises(AccountUnknown, match=f"belongs to another user \\({STRANGER}\\)"):
        give(tree, OTHER)
    os.chown(tree.parent, 0, 0)
    tree.parent.chmod(0o777)
    with pytest.raises(AccountUnknown, match="can be changed by other users"):
        give(tree, OTHER)
    tree.parent.chmod(0o1777)
    give(tree, OTHER)


@as_root
def test_the_way_to_the_tree_may_hold_links_of_root_only(tree: Path, tmp_path: Path) -> None:
    """Root's own link is followed, a stranger's is not."""
    link = tmp_path / "link"
    link.symlink_to(tree)
    os.lchown(link, STRANGER, STRANGER)
    with pytest.raises(AccountUnknown, match="belongs to another user"):
        give(link, OTHER)
    os.lchown(link, 0, 0)
    give(link, OTHER)
    assert owners(tree) == {(OTHER.uid, OTHER.gid)}
