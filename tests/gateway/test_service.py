"""The composed gateway, as far as it needs no port: what it refuses to start on, and serving."""

from __future__ import annotations

import random
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from palyra._lock import RootLock
from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.gateway import GatewaySection
from palyra.errors import SealedEntryUnreadable
from palyra.gateway import service as service_module
from palyra.gateway.composition import IDENTITY
from palyra.gateway.service import GatewayService
from palyra.gateway.settings import Settings
from palyra.store.opening import EPOCH_NAME
from palyra.store.snapshot import SNAPSHOT_NAME
from tests.store.samples import NOW_MS

LOOPBACK = HostPort("127.0.0.1", 0)


def a_service(root: Path, store_key_file: str = "") -> Any:
    """A gateway on a state root; nothing of it is open."""
    config = Config(gateway=GatewaySection(store_key_file=store_key_file))
    clock = Clock()
    clock.rightNow = NOW_MS / 1000
    return GatewayService(
        Settings(root, config, LOOPBACK, LOOPBACK, None),
        lock=RootLock.take(root / "lock", who="a test"),
        reactor=clock,
        entropy=random.Random(1).randbytes,
        elapsed_ms=lambda: 0,
    )


# -- a lost identity ---------------------------------------------------


@attrs.define
class Root:
    """A state root; under the running loop of a test what a start gives up ends a little later."""

    path: Path
    store_key_file: str = ""
    ending: list[Deferred[None]] = attrs.Factory(list)

    def end(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        self.ending.append(Deferred.fromCoroutine(coroutine))

    async def lived(self) -> str:
        """A gateway has started here, and stopped; the fingerprint of its CA."""
        service = a_service(self.path, self.store_key_file)
        service._open()
        ca_hash: str = service._identity.issuing.ca_hash
        await service._store.close()
        service._lock.release()
        (self.path / SNAPSHOT_NAME).write_text("{}")
        return ca_hash

    async def refused(self, error: type[Exception]) -> None:
        """A gateway does not start here."""
        service = a_service(self.path, self.store_key_file)
        try:
            with pytest.raises(error):
                service._open()
        finally:
            service._lock.release()
        (ended,) = self.ending
        await ended
        self.ending.clear()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    tmp_path.chmod(0o700)
    made = Root(tmp_path)
    monkeypatch.setattr(service_module, "run_now_deferred", made.end)
    return made


@pytest_twisted.ensureDeferred
async def test_a_lost_identity_is_no_new_one(root: Root) -> None:
    """A state root with a record and without its ``identity`` is refused, however often: devices
    know a CA that is gone, and a new one in its place would lock all of them out for ever."""
    await root.lived()
    assert (root.path / EPOCH_NAME).exists()
    shutil.rmtree(root.path / IDENTITY)
    for _ in range(2):
        await root.refused(SealedEntryUnreadable)
        assert not any((root.path / IDENTITY).glob("*")), "nothing was made in its place"


@pytest_twisted.ensureDeferred
async def test_a_lost_identity_and_a_store_key_of_the_operator(root: Root, tmp_path: Path) -> None:
    """The key that is kept elsewhere is still there: that makes the CA no less lost."""
    key = tmp_path / "store.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    root.store_key_file = str(key)
    await root.lived()
    shutil.rmtree(root.path / IDENTITY)
    for _ in range(2):
        await root.refused(SealedEntryUnreadable)
        assert not any((root.path / IDENTITY).glob("*"))


@pytest_twisted.ensureDeferred
async def test_a_first_start_that_was_cut(root: Root) -> None:
    """Nobody knows the CA of a gateway that never served: it is made when the start is repeated."""
    await root.lived()
    (root.path / SNAPSHOT_NAME).unlink()
    shutil.rmtree(root.path / IDENTITY)
    await root.lived()


@pytest_twisted.ensureDeferred
async def test_the_same_root_again(root: Root) -> None:
    """Where nothing is lost the same CA is loaded."""
    first = await root.lived()
    assert await root.lived() == first


# -- serving ---------------------------------------------------
