"""Damaged and missing files: named, refused, and left byte for byte as they were."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.integration.house import Gateway, House
from tests.integration.processes import Ran, eventually

DATABASE, SNAPSHOT, EPOCH = "palyra.sqlite3", "node-runtime.v1.json", "store_epoch"
PAGE = 4096


@pytest.fixture(scope="module")
def used(shared: House) -> Path:
    """A state root that was used and stopped cleanly; tests take copies of it."""
    gateway = shared.gateway("used").start()
    shared.node().pair(gateway)
    assert gateway.cli("nodes", "invoke", "node", "echo").code == 0
    gateway.process.terminate()
    return gateway.root


@pytest.fixture
def gateway(house: House, used: Path) -> Gateway:
    """A gateway on a copy, not started."""
    gateway = house.gateway()
    shutil.rmtree(gateway.root)
    shutil.copytree(used, gateway.root)
    return gateway


def left_alone(gateway: Gateway, *names: str) -> Ran:
    """Start a gateway that must refuse; every file but the lock is as it was."""
    before = _contents(gateway.root)
    done = gateway.refused()
    assert done.code == 1, done
    assert "Traceback" not in done.err, done
    for name in names:
        assert str(gateway.root / name) in done.err, done
    assert _contents(gateway.root) == before
    return done


def _contents(root: Path) -> dict[str, bytes]:
    files = (file for file in root.rglob("*") if file.is_file() and file.name != "palyra.lock")
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def overwrite(file: Path, at: int, data: bytes) -> None:
    """Damage a file in place."""
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def test_a_garbage_header_is_damage(gateway: Gateway) -> None:
    """A database that is not one is named and stays."""
    overwrite(gateway.root / DATABASE, 0, b"garbage" * 20)
    assert "is damaged" in left_alone(gateway, DATABASE).err


@pytest.mark.parametrize("table", ["devices", "revocations"])
def test_a_damaged_page_is_found_before_anything_is_served(gateway: Gateway, table: str) -> None:
    """The pages that trust rests on are looked through at every start."""
    raw = sqlite3.connect(gateway.root / DATABASE)
    (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    raw.close()
    overwrite(gateway.root / DATABASE, (page - 1) * PAGE, b"\xff" * PAGE)
    assert "is damaged" in left_alone(gateway, DATABASE).err


def test_a_truncated_database_is_damage(gateway: Gateway) -> None:
    """Half a file is not a smaller database."""
    file = gateway.root / DATABASE
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2 // PAGE * PAGE)
    assert "is damaged" in left_alone(gateway, DATABASE).err


def test_an_empty_database_of_a_used_root_is_damage(gateway: Gateway) -> None:
    """Zero bytes where there was a database are not a fresh start."""
    (gateway.root / DATABASE).write_bytes(b"")
    assert "is damaged" in left_alone(gateway, DATABASE).err


def test_a_missing_database_of_a_used_root_is_an_error(gateway: Gateway) -> None:
    """Beside store_epoch a missing database is never made anew and never imported."""
    (gateway.root / DATABASE).unlink()
    sentence = "is missing although this state root was used before; nothing was made."
    assert sentence in left_alone(gateway, DATABASE).err


def test_a_damaged_snapshot_without_a_database_is_damage(gateway: Gateway) -> None:
    """An import starts from a whole snapshot or not at all."""
    (gateway.root / DATABASE).unlink()
    (gateway.root / EPOCH).unlink()
    overwrite(gateway.root / SNAPSHOT, 100, b"\x00" * 20)
    left_alone(gateway, SNAPSHOT)


def test_damaged_keys_are_never_replaced(gateway: Gateway) -> None:
    """A key that cannot be read is named; a new CA would lock every device out."""
    file = gateway.root / "identity" / "ca.key.sealed"
    overwrite(file, file.stat().st_size // 2, b"\x00\x01\x02\x03")
    assert "cannot be read" in left_alone(gateway).err


def test_a_missing_key_is_never_made_anew(gateway: Gateway) -> None:
    """A key that is gone although it was used is an error and not a first start."""
    (gateway.root / "identity" / "ca.key.sealed").unlink()
    assert "is missing although" in left_alone(gateway).err


def test_a_key_that_others_may_read_is_refused(gateway: Gateway) -> None:
    """The store key must be its owner's alone; the sentence says which file."""
    (gateway.root / "identity" / "store.key").chmod(0o644)
    assert "may be read by others (mode 0644)" in left_alone(gateway).err


def test_a_paired_node_survives_an_import_of_the_snapshot(house: House) -> None:
    """Without database and store_epoch the snapshot is imported: once an operator has confirmed it
    the device is known, its certificate is taken, and a revoked one stays out."""
    gateway = house.gateway().start()
    node = house.node().pair(gateway)
    revoked = house.node("thief").pair(gateway)
    assert gateway.cli("nodes", "revoke", "thief", "--reason", "stolen").code == 0
    eventually(lambda: not revoked.process.alive, "the revoked node gives up")
    assert gateway.cli("nodes", "invoke", "node", "echo").code == 0
    gateway.process.terminate()
    for file in gateway.root.glob(f"{DATABASE}*"):
        file.unlink()
    (gateway.root / EPOCH).unlink()
    snapshot = json.loads((gateway.root / SNAPSHOT).read_bytes())
    assert "token" not in json.dumps(snapshot) and snapshot["nodes"]
    gateway.start()
    gateway.process.says("no device is served: ")
    assert gateway.cli("state", "confirm").code == 0
    gateway.online(node.device_id)
    assert gateway.cli("nodes", "invoke", "node", "echo").code == 0
    assert {job.state for job in gateway.jobs()} == {"succeeded"}
    revoked.start()
    assert revoked.process.wait() == 1
    assert "This device was revoked" in revoked.process.output()
