"""A disk without room: what cannot be recorded is not accepted, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import Gateway, House
from tests.integration.processes import eventually

ROOM = "6m"
MOST_BYTES = 64 * 1024 * 1024
"""What is larger is a disk of somebody else's, and is not filled."""


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own at ``path``; skips where that is not permitted."""
    path.mkdir(mode=0o700)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a file system can be mounted by root only")
    options = f"size={ROOM},mode=0700"
    command = [mount, "-t", "tmpfs", "-o", options, "palyra-test", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(file: Path) -> None:
    """Take all the room there is, to the last byte."""
    room = os.statvfs(file.parent)
    assert room.f_bavail * room.f_frsize < MOST_BYTES, f"{file.parent} is no small disk"
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while ballast.write(b"\0" * size):
                    pass


def jobs_of(gateway: Gateway) -> list[str]:
    """The ids of all recorded jobs."""
    return sorted(job.job_id for job in gateway.jobs())


def test_a_full_disk_refuses_and_recovers(house: House) -> None:
    """Submissions end with disk_full, the gateway stays up and lists what it had; with room again
    it goes on, and a restart knows every job it had accepted."""
    with small_disk(house.path / "gateway"):
        gateway = house.gateway().start()
        try:
            _fill_and_recover(house, gateway)
        finally:
            gateway.process.close()


def _fill_and_recover(house: House, gateway: Gateway) -> None:
    house.node().pair(gateway)
    assert gateway.cli("nodes", "invoke", "node", "echo").code == 0
    accepted = jobs_of(gateway)
    ballast = gateway.root / "ballast"
    fill(ballast)

    big = '"' + "x" * 60_000 + '"'
    invoke = ["nodes", "invoke", "node", "echo", "--input", "-"]

    def full() -> bool:
        done = gateway.cli(*invoke, stdin=big)
        if done.code == 0:  # the WAL had room left in pages that it holds already
            accepted[:] = jobs_of(gateway)
            fill(ballast)
            return False
        assert done.code == 1, done
        assert f"No space left on {gateway.root}; nothing was accepted." in done.err, done
        return True

    eventually(full, "a submission is refused for want of room")
    assert jobs_of(gateway) == accepted
    assert gateway.cli("nodes", "list").code == 0

    ballast.unlink()
    assert eventually(lambda: gateway.cli(*invoke, stdin=big).code == 0, "it works again")
    assert set(accepted) < set(jobs_of(gateway))
    recorded = jobs_of(gateway)
    gateway.process.kill()
    gateway.start()
    assert jobs_of(gateway) == recorded
