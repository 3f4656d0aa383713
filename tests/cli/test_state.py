"""Tests of :mod:`palyra.cli.state`."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from palyra.cli import local_checks, main, state
from palyra.console.models import Contract, StateAnswer
from palyra.pki.sealing import Sealer
from palyra.store import archive
from palyra.store.archive import Manifest, write_backup
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import NOW
from tests.store.stateroot import KEY, filled

PASSPHRASE = "correct horse battery"
SERVED = StateAnswer(Contract(), True, None)
RESTORED = StateAnswer(Contract(), False, NOW)
PIECES = "node-host/, node-runtime.v1.json, sockets, locks, pid files, logs"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passphrase costs less than it should."""
    monkeypatch.setattr(state, "write_backup", partial(write_backup, scrypt_n=2**10))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A gateway's state root whose identity is sealed with its store key."""
    root = filled(tmp_path / "root")
    sealer = Sealer(KEY, entropy=os.urandom)
    sealed = sealer.seal(b"a key", path="identity", entry="ca.key.sealed", purpose="test")
    (root / "identity" / "ca.key.sealed").write_bytes(sealed)
    (root / "identity" / "store.key").chmod(0o600)
    return root


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file with the passphrase."""
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\nand a second line\n")
    file.chmod(0o600)
    return file


def run(
    capsys: pytest.CaptureFixture[str], root: Path, *args: str | Path
) -> tuple[int, dict[str, str], str]:
    """Exit status, the facts on stdout and the text on stderr of ``palyra state ...``."""
    status = main(["state", *map(str, args), "--state-root", str(root)])
    out, err = capsys.readouterr()
    return status, dict(line.split("\t") for line in out.splitlines()), err


def backed_up(capsys: pytest.CaptureFixture[str], root: Path, secret: Path) -> Path:
    """A backup of ``root``."""
    file = root.parent / "b.tar"
    status, _, err = run(capsys, root, "backup", file, "--passphrase-file", secret)
    assert status == 0, err
    return file


# -- backup and restore -------------------------------------------------------------------------


def test_backup_and_restore(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in a backup, what is not, and what restoring it means, is said."""
    file = tmp_path / "b.tar"
    status, saved, err = run(capsys, root, "backup", file, "--passphrase-file", secret)
    assert (status, saved["saved"], saved["without"]) == (0, str(file), PIECES)
    held = saved["holds"].split(", ", 1)
    assert held[0].startswith("database (schema ")
    assert held[1] == "identity/ (2 files), palyra.toml, store key under the passphrase"
    assert err == "hint  palyra state restore FILE --state-root DIR  (an empty one)\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    target = tmp_path / "restored"
    status, restored, err = run(capsys, target, "restore", file, "--passphrase-file", secret)
    assert (status, restored["restored"]) == (0, str(target))
    assert restored["jobs"] == "2 outcome unknown, 1 queued"
    assert restored["void"] == "1 code, 2 pairing requests"
    assert "these jobs begin when it serves" in err
    assert "did a CA rotation switch the listeners after this was saved?" in err
    assert err.endswith("hint  twistd -n palyra, then: palyra state confirm\n")
    assert (target / "identity" / "store.key").read_bytes() == KEY


def test_as_json(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object on one line each."""
    file, target = tmp_path / "b.tar", tmp_path / "restored"
    given = ["--passphrase-file", str(secret), "--json", "--state-root"]
    assert main(["state", "backup", str(file), *given, str(root)]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert saved["size"] == file.stat().st_size and "palyra.sqlite3" in saved["files"]
    assert main(["state", "restore", str(file), *given, str(target)]) == 0
    out, err = capsys.readouterr()
    restored = json.loads(out)
    assert (restored["jobs_unknown"], restored["jobs_queued"], err) == (2, 1, "")
    assert restored["gateway_id"] == saved["gateway_id"]


def test_a_file_that_exists_is_kept(
    root: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup is never written over another."""
    file = backed_up(capsys, root, secret)
    before = file.read_bytes()
    status, _, err = run(capsys, root, "backup", file, "--passphrase-file", secret)
    assert (status, file.read_bytes()) == (2, before)
    assert "exists already" in err


def test_a_file_that_came_meanwhile_is_kept(
    root: Path,
    secret: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 2 also where it was not there when the command began; nothing else is left behind."""
    file = tmp_path / "b.tar"

    def late(*args: Any, **given: Any) -> Manifest:
        file.write_text("precious")
        return write_backup(*args, **given, scrypt_n=2**10)

    monkeypatch.setattr(state, "write_backup", late)
    before = {path.name for path in tmp_path.iterdir()}
    status, _, err = run(capsys, root, "backup", file, "--passphrase-file", secret)
    assert (status, file.read_text()) == (2, "precious")
    assert f"error: {file} exists already.\n" in err
    assert {path.name for path in tmp_path.iterdir()} == before | {"b.tar"}


def test_a_directory_that_may_not_be_read(
    root: Path, secret: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason is told in a sentence, whatever was to be written there."""
    file = root.parent / "closed" / "b"
    exists = Path.exists

    def refused(path: Path) -> bool:
        if path == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    wanted: list[list[str | Path]] = [
        ["backup", file, "--passphrase-file", secret],
        ["export", file],
    ]
    for args in wanted:
        status, _, err = run(capsys, root, *args)
        assert status == 1
        assert "Permission denied" in err and str(file) in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_backup_that_is_ended_leaves_nothing(
    root: Path,
    secret: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    """The unpacked database goes with it, and the signal means again what it meant."""
    stopped = []

    def ended(*_: object) -> None:
        stopped.append(list(tmp_path.glob(".b.tar.*/tree/palyra.sqlite3")))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(archive, "_wrapped", ended)
    before = {path.name for path in tmp_path.iterdir()}
    given = ["--passphrase-file", str(secret), "--state-root", str(root)]
    kept = signal.signal(number, signal.SIG_DFL)  # that of the test run
    try:
        with pytest.raises(SystemExit) as caught:
            main(["state", "backup", str(tmp_path / "b.tar"), *given])
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, kept)
    assert caught.value.code == 128 + number
    assert len(stopped[0]) == 1
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_passphrase_is_typed_twice(root: Path, tmp_path: Path) -> None:
    """Without echo; two that differ are asked for again.  To restore, once is enough."""
    file, target = tmp_path / "b.tar", tmp_path / "restored"
    made = Terminal(root, "state", "backup", str(file), columns=120)
    shown = ""
    for asked, typed in (
        ("Passphrase of the backup: ", PASSPHRASE),
        ("The same again: ", "another one"),
        ("Passphrase of the backup: ", PASSPHRASE),
        ("The same again: ", PASSPHRASE),
    ):
        made.read_until(asked)
        shown, made.seen = shown + made.seen, ""
        made.type_hidden(typed + "\n")
    status, seen = made.end()
    assert status == 0, shown + seen
    assert PASSPHRASE not in shown + seen and "do not match" in shown
    made = Terminal(target, "state", "restore", str(file), columns=120)
    made.read_until("Passphrase of the backup: ")
    made.type_hidden(PASSPHRASE + "\n")
    status, seen = made.end()
    assert status == 0, seen
    assert "jobs      2 outcome unknown, 1 queued\n" in seen


def test_a_passphrase_from_stdin(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same letters in another form are the same passphrase."""
    for args, typed in (
        (["backup"], b"pass\xc3\xa9 phrase\r\n"),
        (["restore"], b"passe\xcc\x81 phrase"),
    ):
        stdin = SimpleNamespace(buffer=io.BytesIO(typed), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stdin)
        where = root if args == ["backup"] else tmp_path / "restored"
        status, _, err = run(capsys, where, *args, tmp_path / "b.tar", "--passphrase-file", "-")
        assert status == 0, err


@pytest.mark.parametrize(
    ("contents", "mode", "problem", "status"),
    [
        (b"short\n", 0o600, "at least 8 characters", 2),
        (b"", 0o600, "at least 8 characters", 2),
        (b"\xff" * 9, 0o600, "not UTF-8", 2),
        (PASSPHRASE.encode(), 0o644, "may be read by others", 1),
    ],
)
def test_a_passphrase_that_will_not_do(
    root: Path,
    secret: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    contents: bytes,
    mode: int,
    problem: str,
    status: int,
) -> None:
    """Too short, no text, or open to others."""
    secret.write_bytes(contents)
    secret.chmod(mode)
    found, _, err = run(capsys, root, "backup", tmp_path / "b", "--passphrase-file", secret)
    assert found == status and problem in err
    assert not (tmp_path / "b").exists()


def test_nobody_to_ask(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script has to bring the passphrase."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    status, _, err = run(capsys, root, "backup", tmp_path / "b")
    assert status == 2 and "--passphrase-file" in err


def test_restore_refuses(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A root that is used, before the passphrase is asked for; another passphrase; a directory."""
    file = backed_up(capsys, root, secret)
    status, _, err = run(capsys, root, "restore", file)
    assert status == 1 and "is not empty (identity and " in err
    secret.write_text("some other words")
    target = tmp_path / "restored"
    status, _, err = run(capsys, target, "restore", file, "--passphrase-file", secret)
    assert status == 1 and "the passphrase is another one" in err
    assert not target.exists()
    blocked = tmp_path / "file"
    blocked.touch()
    status, _, err = run(capsys, blocked / "root", "restore", file, "--passphrase-file", secret)
    assert status == 1 and "error: " in err


def test_backup_of_nothing(
    secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory that no gateway used."""
    status, _, err = run(capsys, tmp_path, "backup", tmp_path / "b", "--passphrase-file", secret)
    assert status == 1 and "holds no state of a gateway" in err


def test_backup_into_nowhere(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's reason is told in a sentence."""
    file = tmp_path / "none" / "b"
    status, _, err = run(capsys, root, "backup", file, "--passphrase-file", secret)
    assert status == 1 and "No such file or directory" in err


def test_the_key_of_another_root(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup whose key opens nothing is not made; the right one may be named."""
    key = tmp_path / "store-key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    given = ["backup", tmp_path / "b", "--passphrase-file", secret, "--store-key-file", key]
    status, _, err = run(capsys, root, *given)
    assert status == 1 and "it was sealed with another store key" in err
    (root / "identity" / "store.key").unlink()
    key.write_text(KEY.hex())
    assert run(capsys, root, *given)[0] == 0


def test_a_configured_store_key(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the backup too; where its file is missing afterwards, that is said."""
    key = tmp_path / "store-key"
    (root / "identity" / "store.key").rename(key)
    (root / "palyra.toml").write_text(f'[gateway]\nstore_key_file = "{key}"\n')
    file, target = backed_up(capsys, root, secret), tmp_path / "restored"
    key.unlink()
    status, _, err = run(capsys, target, "restore", file, "--passphrase-file", secret)
    assert status == 0
    assert f"palyra.toml names {key}: put it there" in err
    assert (target / "identity" / "store.key").read_bytes() == KEY


def test_a_record_in_postgresql(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left out only by a word, and that is said twice; nothing is imported into it."""
    file, target = tmp_path / "b.tar", tmp_path / "restored"
    given = ["backup", file, "--passphrase-file", secret]
    status, _, err = run(capsys, root, *given, "--without-database")
    assert status == 2 and "for a gateway on PostgreSQL" in err
    (root / "palyra.toml").write_text('[store]\nurl = "postgresql://ana:secret@db/palyra"\n')
    status, _, err = run(capsys, root, *given)
    assert status == 1 and "secret" not in err
    assert "in PostgreSQL database palyra on db, not in its state root" in err
    assert "hint:  pg_dump, and with it: palyra state backup FILE --without-database" in err
    status, saved, err = run(capsys, root, *given, "--without-database")
    assert (status, saved["without"]) == (0, f"the database, {PIECES}")
    assert "the database is saved by pg_dump" in err
    status, restored, err = run(capsys, target, "restore", file, "--passphrase-file", secret)
    assert status == 0 and "jobs" not in restored
    assert "pg_restore the database, then" in err
    status, _, err = run(capsys, target, "import", root / "node-runtime.v1.json")
    assert status == 1 and "pg_restore fills it" in err


# -- confirm and show ---------------------------------------------------------------------------


def test_confirm_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is the consent."""
    console.on("GET", "state", RESTORED)
    console.on("POST", "state/confirm", SERVED)
    status, out, err = console.run(capsys, "state", "confirm")
    assert (status, out, err) == (0, "confirmed\t2026-11-22T03:44:14Z\n", "")
    assert console.bodies("POST") == [{}]
    assert json.loads(console.run(capsys, "state", "confirm", "--json")[1])["serving"]


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1)])
def test_confirm_asks(console: FakeConsole, answer: str, status: int) -> None:
    """A person is reminded of who lost trust since; the default is no."""
    console.on("GET", "state", RESTORED)
    console.on("POST", "state/confirm", SERVED)
    made = Terminal(console.root, "state", "confirm", columns=120)
    made.read_until("Serve now? [y/N]")
    assert "palyra jobs list --state queued" in made.seen
    assert "Revoked, removed or paired with another key since " in made.seen
    assert "palyra nodes revoke NAME, or palyra nodes remove NAME" in made.seen
    made.type(answer + "\n")
    found, seen = made.end()
    assert (found, len(console.bodies("POST"))) == (status, 1 - status)
    assert ("; devices are served\n" if not status else "not confirmed; no device") in seen


def test_nothing_to_confirm(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no fault to ask again."""
    console.on("GET", "state", SERVED)
    status, out, err = console.run(capsys, "state", "confirm")
    assert (status, out, err) == (0, "", "nothing to confirm: devices are served\n")
    assert json.loads(console.run(capsys, "state", "confirm", "--json")[1])["serving"]
    assert console.bodies("POST") == []


def test_show(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether devices are served, and if not, what comes next."""
    console.on("GET", "state", SERVED)
    assert console.run(capsys, "state", "show") == (0, "serving\tyes\n", "")
    console.on("GET", "state", RESTORED)
    status, out, err = console.run(capsys, "state", "show")
    assert (status, out) == (0, "serving\tno\nstate\t2026-11-22T03:44:14Z\n")
    assert err == "hint  palyra state confirm\n"
    body = console.run(capsys, "state", "show", "--json")[1]
    assert msgspec.json.decode(body, type=StateAnswer) == RESTORED
    seen = on_terminal(console.root, "state", "show")[1]
    assert "serving  no\nstate    !! restored, of " in seen


def test_no_gateway_to_confirm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a running gateway can be told."""
    assert run(capsys, tmp_path, "confirm")[0] == 3


# -- the document -------------------------------------------------------------------------------


def test_export_and_import(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To a file, 0600, or to stdout; another root starts with it."""
    document = (root / "node-runtime.v1.json").read_bytes()
    file, target = tmp_path / "d.json", tmp_path / "other"
    status, out, err = run(capsys, root, "export", file)
    assert (status, out, file.read_bytes()) == (0, {}, document)
    assert err.startswith(f"exported  {file}  ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main(["state", "export", "-", "--state-root", str(root)]) == 0
    assert capsys.readouterr().out.encode() == document
    status, found, err = run(capsys, target, "import", file)
    assert (status, found) == (0, {"imported": str(target), "devices": "2"})
    assert "every device pairs again" in err
    assert (target / "node-runtime.v1.json").read_bytes() == document
    status, _, err = run(capsys, target, "import", file)
    assert status == 1 and "is not empty (node-runtime.v1.json)" in err


def test_an_export_keeps_what_is_there(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, as a backup does."""
    file = tmp_path / "d.json"
    file.write_text("precious")
    status, _, err = run(capsys, root, "export", file)
    assert (status, file.read_text()) == (2, "precious")
    assert f"error: {file} exists already.\n" in err


def test_an_export_for_programs(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object on one line: what was written, or with ``-`` the document."""
    file = tmp_path / "d.json"
    given = ["--json", "--state-root", str(root)]
    assert main(["state", "export", str(file), *given]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["file"], told["size"]) == (str(file), file.stat().st_size)
    assert (out.count("\n"), err) == (1, "")
    assert main(["state", "export", "-", *given]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and json.loads(out) == json.loads(file.read_bytes())


def test_import_beside_an_identity(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CA stays, and nothing is said of pairing."""
    for name in ("palyra.sqlite3", "store_epoch"):
        (root / name).unlink()
    file = (root / "node-runtime.v1.json").rename(tmp_path / "d.json")
    assert main(["state", "import", str(file), "--json", "--state-root", str(root)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["devices"], found["identity"]) == (2, True)
    (root / "node-runtime.v1.json").unlink()
    assert "pairs again" not in run(capsys, root, "import", file)[2]


def test_documents_that_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged one, one that is far too large, and none."""
    file = tmp_path / "d.json"
    file.write_text("{}")
    status, _, err = run(capsys, tmp_path / "other", "import", file)
    assert status == 1 and f"{file} is damaged" in err
    monkeypatch.setattr(state, "MAX_DOCUMENT", 1)
    assert run(capsys, tmp_path / "other", "import", file)[0] == 2
    assert run(capsys, tmp_path / "other", "export", "-")[0] == 1
    assert not (tmp_path / "other").exists()


# -- doctor -------------------------------------------------------------------------------------


def test_doctor_names_an_unconfirmed_state(
    root: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while no gateway runs, which would say so itself; nothing is written for it."""
    assert local_checks.database(root).verdict == "ok"
    file, target = backed_up(capsys, root, secret), tmp_path / "restored"
    run(capsys, target, "restore", file, "--passphrase-file", secret)
    before = sorted(path.name for path in target.iterdir())
    check = local_checks.database(target)
    assert (check.verdict, check.hint) == ("warn", "palyra state confirm")
    assert "restored state of " in check.finding and "not confirmed" in check.finding
    assert sorted(path.name for path in target.iterdir()) == before
    assert local_checks.database(target, running=True).verdict == "ok"
