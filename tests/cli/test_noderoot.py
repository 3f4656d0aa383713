"""Tests of :mod:`palyra.cli.noderoot`."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from palyra.cli import noderoot
from palyra.cli.noderoot import (
    check_owner,
    check_scope,
    install_root,
    node_state_root,
    owner_uid,
)
from palyra.cli.options import Call
from palyra.cli.present import Screen
from palyra.errors import SocketPermission, StoreCorrupt
from palyra.supervision.service import Scope

SCREEN = Screen(out=io.StringIO(), err=io.StringIO())


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's own root and the machine's, neither of which is there; the user is root."""
    own, system = tmp_path / "share" / "palyra", tmp_path / "var"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(noderoot, "SYSTEM_STATE_ROOT", system)
    monkeypatch.setattr(noderoot, "runs_as_root", lambda: True)
    return own, system


def test_root_finds_the_system_service(roots: tuple[Path, Path]) -> None:
    """Where there is one, and no node host of root's own."""
    own, system = roots
    call = Call(SCREEN, None)
    assert node_state_root(call) == own
    (system / "node-host").mkdir(parents=True)
    assert node_state_root(call) == system
    (own / "node-host").mkdir(parents=True)
    assert node_state_root(call) == own
    assert install_root(call) == system


def test_other_users_have_their_own(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever there is of the machine's."""
    own, system = roots
    (system / "node-host").mkdir(parents=True)
    monkeypatch.setattr(noderoot, "runs_as_root", lambda: False)
    assert node_state_root(Call(SCREEN, None)) == own
    assert install_root(Call(SCREEN, None)) == own


def test_what_is_named_wins(
    roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option or by the environment."""
    (roots[1] / "node-host").mkdir(parents=True)
    named = Call(SCREEN, tmp_path / "named")
    assert node_state_root(named) == install_root(named) == tmp_path / "named"
    monkeypatch.setenv("PALYRA_STATE_ROOT", str(tmp_path / "env"))
    call = Call(SCREEN, None)
    assert node_state_root(call) == install_root(call) == tmp_path / "env"


def test_from_afar() -> None:
    """There is no node host."""
    for call in (Call(SCREEN, None, "https://gw"), Call(SCREEN, None, "", "home")):
        with pytest.raises(click.UsageError, match="about this device"):
            node_state_root(call)
        with pytest.raises(click.UsageError, match="about this device"):
            install_root(call)


def test_the_node_host_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence with the command of the user who may; root may look."""
    (tmp_path / "node-host").mkdir()
    check_owner(tmp_path, "stop")
    check_owner(tmp_path / "none", "stop")
    monkeypatch.setattr(noderoot, "_euid", lambda: 54321)
    with pytest.raises(SocketPermission) as refused:
        check_owner(tmp_path, "stop")
    assert refused.value.sentence.startswith(f"{tmp_path / 'node-host'} belongs to user ")
    assert refused.value.hint.endswith(" palyra node stop")
    monkeypatch.setattr(noderoot, "_euid", lambda: 0)
    check_owner(tmp_path, "stop")


def test_of_the_machines_own_root_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever its files belong to."""
    (tmp_path / "node-host").mkdir()
    monkeypatch.setattr(noderoot, "SYSTEM_STATE_ROOT", tmp_path)
    monkeypatch.setattr(noderoot, "_euid", lambda: 54321)
    with pytest.raises(SocketPermission) as refused:
        check_owner(tmp_path, "stop")
    assert refused.value.hint == "sudo -u root palyra node stop"


def test_a_service_is_of_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root asks its own manager, and not that of the user; a user not that of the machine."""
    (tmp_path / "node-host").mkdir()
    check_scope(tmp_path, Scope.USER, "stop")
    monkeypatch.setattr(noderoot, "_euid", lambda: 0)
    check_scope(tmp_path, Scope.SYSTEM, "stop")
    monkeypatch.setattr(noderoot, "_euid", lambda: 54321)
    with pytest.raises(SocketPermission, match="system service belongs to user root"):
        check_scope(tmp_path, Scope.SYSTEM, "stop")
    with pytest.raises(SocketPermission, match="node-host belongs to user"):
        check_scope(tmp_path, Scope.USER, "stop")


def test_a_link_is_no_node_host(tmp_path: Path) -> None:
    """Root would follow it to wherever its owner likes."""
    (tmp_path / "node-host").symlink_to("/etc")
    with pytest.raises(StoreCorrupt, match="it is no directory"):
        owner_uid(tmp_path / "node-host")
