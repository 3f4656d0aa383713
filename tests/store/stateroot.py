"""A gateway's state root, and what is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palyra.store.archive import Archive, Manifest, write_backup
from palyra.store.restore import Voided, restore_backup
from tests.store.reactorless import Calls
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_job,
    a_registration,
    a_request,
    an_approval,
    approved,
    dispatch,
    succeed,
)

KEY = bytes(range(32))
PASSPHRASE = b"correct horse battery"
CHEAP_N = 2**10
SECRET = b"sealed with the store key"


def filled(root: Path) -> Path:
    """A state root of a gateway that had work to do."""
    root.mkdir(mode=0o700)
    calls = Calls()
    store = calls.open(root / "palyra.sqlite3")
    requests = {}
    for name in ("lab-7", "waiting", "approved"):
        code = a_code(f"code of {name}")
        requests[name] = a_request(name, code)
        calls.wait(store.add_code(code))
        calls.wait(store.open_request(requests[name], an_approval(requests[name])))
    for name in ("lab-7", "approved"):
        request = approved(requests[name])
        calls.wait(store.approve_request(request, a_device(request)))
    calls.wait(store.add_code(a_code("unused")))
    device_id = requests["lab-7"].device_id
    certificate = a_certificate(requests["lab-7"])
    calls.wait(store.add_certificate(requests["lab-7"], certificate))
    calls.wait(store.register(a_registration(device_id, certificate.fingerprint)))
    calls.wait(store.accept(a_job("queued", device_id, idempotent=True)))
    calls.wait(store.accept(a_job("queued once", device_id)))
    calls.wait(store.accept(dispatch(a_job("sent", device_id))))
    calls.wait(store.accept(succeed(dispatch(a_job("done", device_id)))))
    calls.wait(store.write_snapshot(root / "node-runtime.v1.json"))
    calls.wait(store.close())
    (root / "identity").mkdir(mode=0o700)
    for name, contents in (
        ("store.key", KEY),
        ("ca.key.sealed", SECRET),
        ("ca.pem", b"a certificate\n"),
        (".ca.pem.tmp", b"half a"),
    ):
        (root / "identity" / name).write_bytes(contents)
    (root / "palyra.toml").write_text("[gateway]\n")
    (root / "palyra.lock").write_text("7\n")
    (root / "node-host").mkdir()
    (root / "node-host" / "identity.json").write_text("a device's own")
    return root


def made(root: Path, file: Path, **changes: Any) -> Manifest:
    """Write a backup of ``root``."""
    given = {"store_key": KEY, "passphrase": PASSPHRASE, "version": "1.2", "now_ms": NOW_MS}
    return write_backup(root, file, **{**given, "scrypt_n": CHEAP_N, **changes})


def restored(file: Path, root: Path, passphrase: bytes = PASSPHRASE) -> Voided:
    """What ``palyra state restore`` does."""
    with Archive.open(file) as archive:
        store_key = archive.unlock(passphrase)
        archive.verify()
        return restore_backup(archive, root, store_key=store_key, now_ms=NOW_MS + 1)
