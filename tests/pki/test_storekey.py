"""Where the key that seals everything comes from, and that it is never replaced by a fresh one."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import KeyFilePermission, SealedEntryUnreadable, StoreKeyUnusable
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.sealing import Sealer
from palyra.pki.storekey import CREDENTIAL, load_store_key, open_sealer

from .conftest import NOW_MS, POSIX_ONLY
from .crashing import Crash, CrashingWrites

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "identity"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return key_file(tmp_path / "operators.key", KEY)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o700)
    return directory


def key_file(file: Path, content: bytes, mode: int = 0o600) -> Path:
    file.write_bytes(content)
    file.chmod(mode)
    return file


def key_id(key: bytes) -> bytes:
    return Sealer(key, entropy=os.urandom).key_id


def sealer(
    path: Path, file: Path | None = None, credentials: Path | None = None, elsewhere: bool = False
) -> Sealer:
    return open_sealer(
        path,
        entropy=os.urandom,
        store_key_file=file,
        environ={} if credentials is None else {"CREDENTIALS_DIRECTORY": str(credentials)},
        sealed_elsewhere=elsewhere,
    )


def identity(path: Path, file: Path | None = None) -> GatewayIdentity:
    return GatewayIdentity.open(
        path,
        trust_domain="palyra.test",
        names=[],
        gateway_id="g1",
        now_ms=NOW_MS,
        entropy=os.urandom,
        store_key_file=file,
        environ={},
    )


def test_order(path: Path, file: Path, credentials: Path) -> None:
    """The credential goes before the key file, and the key file before a generated key."""
    key_file(credentials / CREDENTIAL, OTHER, 0o400)
    assert sealer(path, file, credentials).key_id == key_id(OTHER)
    assert sealer(path, file).key_id == key_id(KEY)
    assert not list(path.iterdir())
    assert sealer(path).key_id == key_id((path / "store.key").read_bytes())


def test_other_credentials(path: Path, file: Path, credentials: Path) -> None:
    """A unit with other credentials, or an empty variable, has none of ours."""
    key_file(credentials / "console.password", OTHER)
    assert sealer(path, file, credentials).key_id == key_id(KEY)
    assert load_store_key(path, store_key_file=file, environ={"CREDENTIALS_DIRECTORY": ""}) == KEY


def test_credentials_that_cannot_be_looked_at(path: Path, file: Path, tmp_path: Path) -> None:
    """What hides whether there is a credential is an error and not the next source."""
    nowhere = key_file(tmp_path / "no-directory", b"")
    with pytest.raises(StoreKeyUnusable, match="Not a directory"):
        sealer(path, file, nowhere)


@pytest.mark.parametrize("form", ["{}", "{}\n", "{}\r\n"])
def test_hexadecimal(path: Path, tmp_path: Path, form: str) -> None:
    """64 hex digits in either case, with or without a newline, are the same key as 32 bytes."""
    for digits in (KEY.hex(), KEY.hex().upper()):
        file = key_file(tmp_path / "hex.key", form.format(digits).encode())
        assert load_store_key(path, store_key_file=file, environ={}) == KEY


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "neither 32 bytes nor 64 hex digits"),
        (KEY[:31], "neither"),
        (KEY + b"\n", "neither"),
        (KEY.hex().encode() + b" ", "neither"),
        (KEY.hex().encode() * 1000, "4096 hex digits, not 64"),
        (KEY.hex().encode()[:32], "32 hex digits, not 64"),
        (KEY.hex().encode()[:63] + b"\n", "63 hex digits"),
    ],
)
def test_malformed(path: Path, tmp_path: Path, content: bytes, problem: str) -> None:
    """Anything else is refused with what it is, and half a key in hex is not taken as bytes."""
    file = key_file(tmp_path / "bad.key", content)
    with pytest.raises(StoreKeyUnusable, match=problem) as refused:
        sealer(path, file)
    assert str(file) in str(refused.value)
    assert not list(path.iterdir())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_outside_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any file is exactly one key or a refusal."""
    file = key_file(tmp_path_factory.getbasetemp() / "any.key", content)
    try:
        key = load_store_key(file.parent, store_key_file=file, environ={})
    except StoreKeyUnusable:
        return
    assert len(key) == 32
    assert content == key or bytes.fromhex(content.decode()) == key


@pytest.mark.parametrize("made_before", [False, True])
def test_missing_key_file(path: Path, tmp_path: Path, made_before: bool) -> None:
    """A key file that is configured and not there is an error: no key is made instead of it."""
    if made_before:
        identity(path)
    before = sorted(path.iterdir())
    with pytest.raises(StoreKeyUnusable, match=r"gone\.key cannot be used: it is missing"):
        sealer(path, tmp_path / "gone.key")
    assert sorted(path.iterdir()) == before


def test_unreadable_key_file(path: Path) -> None:
    """What the system says of a file that it does not read is in the refusal."""
    with pytest.raises(StoreKeyUnusable, match="Is a directory"):
        load_store_key(path, store_key_file=path, environ={})


@POSIX_ONLY
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_key_file_modes(path: Path, file: Path, mode: int) -> None:
    """A key file that others may read is refused with the command that mends it."""
    file.chmod(mode)
    with pytest.raises(KeyFilePermission) as refused:
        sealer(path, file)
    assert refused.value.hint == f"chmod 600 {file}"
    assert refused.value.mode == mode


@POSIX_ONLY
def test_credential_modes(path: Path, credentials: Path) -> None:
    """A credential is 0400, or 0440 by systemd's access list, and nothing wider."""
    file = key_file(credentials / CREDENTIAL, KEY)
    for mode in (0o400, 0o440):
        file.chmod(mode)
        assert sealer(path, None, credentials).key_id == key_id(KEY)
    for mode in (0o444, 0o460, 0o450):
        file.chmod(mode)
        with pytest.raises(KeyFilePermission):
            sealer(path, None, credentials)


def test_load_changes_nothing(path: Path) -> None:
    """Asking for the key in use makes none, and gives the generated one once it is there."""
    with pytest.raises(SealedEntryUnreadable, match="it is missing"):
        load_store_key(path, environ={})
    assert not list(path.iterdir())
    sealer(path)
    assert load_store_key(path, environ={}) == (path / "store.key").read_bytes()


def test_provided_from_the_start(path: Path, file: Path) -> None:
    """With a provided key no store.key is made, and the key is needed ever after."""
    first = identity(path, file)
    assert not (path / "store.key").exists()
    assert identity(path, file).issuing.ca_hash == first.issuing.ca_hash
    with pytest.raises(SealedEntryUnreadable, match="it is missing although"):
        identity(path)
    key_file(file, OTHER)
    with pytest.raises(SealedEntryUnreadable, match="it was sealed with another store key"):
        identity(path, file)
    assert not (path / "store.key").exists()


def test_sealed_elsewhere(path: Path, file: Path) -> None:
    """Entries outside the directory forbid a drawn key and not a provided one."""
    with pytest.raises(SealedEntryUnreadable, match="it is missing although"):
        sealer(path, elsewhere=True)
    assert sealer(path, file, elsewhere=True).key_id == key_id(KEY)


class TestTakingOver:
    """A provided key replaces a generated one."""

    def test_everything_is_sealed_anew(self, path: Path, file: Path) -> None:
        """The identity stays, every entry is under the new key, and the old key is gone."""
        first = identity(path)
        second = identity(path, file)
        assert second.issuing.ca_hash == first.issuing.ca_hash
        assert second.gateway_key_pem == first.gateway_key_pem
        assert not (path / "store.key").exists()
        for entry in path.glob("*.sealed"):
            assert second.sealer.sealed(entry.read_bytes())
            assert stat.S_IMODE(entry.stat().st_mode) == 0o600 or os.name != "posix"

    def test_the_same_key(self, path: Path, tmp_path: Path) -> None:
        """The generated key, provided as a file, is not kept beside what it seals."""
        first = identity(path)
        file = key_file(tmp_path / "moved.key", (path / "store.key").read_bytes())
        before = {each: each.read_bytes() for each in path.glob("*.sealed")}
        assert identity(path, file).issuing.ca_hash == first.issuing.ca_hash
        assert {each: each.read_bytes() for each in path.glob("*.sealed")} == before
        assert not (path / "store.key").exists()

    @pytest.mark.parametrize("after", [False, True])
    def test_crash_anywhere(
        self, path: Path, file: Path, after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A crash at any write leaves a directory that opens with the new key, or goes back."""
        first = identity(path)
        for at in (0, 1):
            copy = path.with_name(f"identity-{at}")
            shutil.copytree(path, copy)
            with CrashingWrites(at, after=after).in_place(monkeypatch), pytest.raises(Crash):
                identity(copy, file)
            assert (copy / "store.key").exists()
            assert identity(copy, file).issuing.ca_hash == first.issuing.ca_hash
            assert not (copy / "store.key").exists()

    def test_crash_before_the_old_key_is_removed(self, path: Path, file: Path) -> None:
        """An old key that came back with the crash is removed at the next start."""
        first = identity(path)
        old = (path / "store.key").read_bytes()
        identity(path, file)
        key_file(path / "store.key", old)
        assert identity(path, file).issuing.ca_hash == first.issuing.ca_hash
        assert not (path / "store.key").exists()

    def test_an_entry_of_neither_key(self, path: Path, file: Path) -> None:
        """An entry that neither key opens is left, named, and the old key is kept."""
        identity(path)
        stranger = Sealer(OTHER, entropy=os.urandom)
        sealed = stranger.seal(b"x", path="identity", entry="x.sealed", purpose="p")
        key_file(path / "x.sealed", sealed)
        with pytest.raises(SealedEntryUnreadable, match=r"x\.sealed .*another store key"):
            identity(path, file)
        assert (path / "x.sealed").read_bytes() == sealed
        assert (path / "store.key").exists()

    @POSIX_ONLY
    def test_an_open_entry(self, path: Path, file: Path) -> None:
        """An entry that others may read is refused and not mended in silence."""
        identity(path)
        (path / "ca.key.sealed").chmod(0o644)
        with pytest.raises(KeyFilePermission, match=r"ca\.key\.sealed"):
            identity(path, file)
