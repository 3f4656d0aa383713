"""Tests of :mod:`palyra.plugins.configured`."""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from palyra.capability.settings import Secret
from palyra.core.descriptors import Descriptor
from palyra.errors import SettingsInvalid
from palyra.plugins.configured import MAX_BYTES, MAX_SECRET_BYTES, settings_of
from tests.plugins.test_described import descriptor

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes mean nothing there")


class Server(msgspec.Struct, forbid_unknown_fields=True):
    host: str
    token: Secret | None = None


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    root: str = "/srv"
    depth: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3
    mode: str = ""
    since: str = ""
    token: Secret | None = None
    servers: list[Server] = []
    named: dict[str, Server] = {}
    keys: list[Secret] = []


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    token: Secret


def of(settings_type: Any = Settings) -> Descriptor:
    return descriptor(settings_schema=msgspec.json.schema(settings_type))


def settled(written: dict[str, Any], settings_type: Any = Settings) -> Any:
    return json.loads(settings_of(of(settings_type), written))


def refusal(written: dict[str, Any], settings_type: Any = Settings) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        settings_of(of(settings_type), written)
    assert caught.value.capability == "acme.scan"
    return f"{caught.value.field}: {caught.value.problem}"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    return path


def test_a_capability_without_settings_gets_none() -> None:
    """And what is configured for it all the same is said to be of no use."""
    assert settings_of(descriptor(), {}) == b""
    with pytest.raises(SettingsInvalid, match="it takes none"):
        settings_of(descriptor(), {"root": "/srv"})


def test_settings_are_the_json_of_what_was_written() -> None:
    """TOML's dates become texts; nothing written is an empty object."""
    assert settings_of(of(), {}) == b"{}"
    written = {"root": "/a", "depth": 2, "since": datetime.date(2026, 11, 22)}
    assert settled(written) == {"root": "/a", "depth": 2, "since": "2026-11-22"}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"root": 5}, "settings.root: expected a text"),
        ({"rot": "/a"}, "settings.rot: is not a known field"),
        ({"depth": 9}, "settings.depth: must be at most 5"),
        ({"depth": float("nan")}, "settings.depth: expected"),
        ({"depth": 10**30}, "settings.depth: must be at most 5"),
        ({"root": "\ud800"}, "settings: there is a value that JSON cannot say"),
        ({"servers": [{"token": {"file": "relative"}}]}, "settings.servers[0].token: is a secret"),
        ({"root": "x" * MAX_BYTES}, "settings: are longer than 48 KiB"),
    ],
)
def test_what_does_not_fit_is_refused(written: dict[str, Any], told: str) -> None:
    """The field is named."""
    assert refusal(written).startswith(told)


def test_a_required_setting_must_be_there() -> None:
    """Its absence is a fault before anything is run."""
    assert refusal({}, Strict) == "settings.token: is required"


def test_no_value_is_shown() -> None:
    """Whoever writes a secret into the wrong place finds it in no log."""
    for written in ({"depth": 77_031_977}, {"mode": 77_031_977}, {"token": "77031977"}):
        assert "77031977" not in refusal(written)


def test_secrets_are_read_from_their_files(token: Path) -> None:
    """Wherever the schema says that there is one; one end of line is no part of it."""
    secret = {"file": str(token)}
    written = {
        "token": secret,
        "servers": [{"host": "a", "token": secret}, {"host": "b"}],
        "named": {"c": {"host": "c", "token": secret}},
        "keys": [secret],
    }
    assert settled(written) == {
        "token": "hunter2",
        "servers": [{"host": "a", "token": "hunter2"}, {"host": "b"}],
        "named": {"c": {"host": "c", "token": "hunter2"}},
        "keys": ["hunter2"],
    }
    token.write_text("two\nlines\n\n")
    assert settled({"token": secret})["token"] == "two\nlines\n"
    token.write_bytes(b"dos\r\n")
    assert settled({"token": secret})["token"] == "dos"


@pytest.mark.parametrize(
    "value",
    ["hunter2", {}, {"file": "a"}, {"file": 1}, {"file": "/a", "x": 1}, {"file": "/a\0b"}, 5, []],
)
def test_a_secret_is_nothing_but_a_file(value: Any) -> None:
    """The configuration itself may be read by more people."""
    told = (
        'settings.token: is a secret; it is written as { file = "/absolute/path" }'
        ' or { credential = "NAME" }'
    )
    assert refusal({"token": value}) == told


def test_a_table_named_file_is_no_secret_elsewhere(token: Path) -> None:
    """Only where the plugin's schema asks for one is a file read."""
    assert (
        refusal({"root": {"file": str(token)}}) == "settings.root: expected a text, got an object"
    )


def test_files_that_are_no_secrets(tmp_path: Path, token: Path) -> None:
    """Missing, a directory, a pipe that nobody writes to, too long, or no text."""

    def told(path: Path) -> str:
        return refusal({"token": {"file": str(path)}}).removeprefix("settings.token: ")

    assert told(tmp_path / "none") == "its file does not exist"
    assert told(tmp_path) in ("its file is no file", "its file cannot be read")
    token.write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    assert told(token) == "its file is longer than 64 KiB"
    token.write_bytes(b"\xff")
    assert told(token) == "its file is no UTF-8 text"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe", 0o600)
        assert told(tmp_path / "pipe") == "its file is no file"


@POSIX
def test_a_file_that_others_may_read_is_refused(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no secret; and one of somebody else may change at any time."""
    token.chmod(0o640)
    told = refusal({"token": {"file": str(token)}})
    assert told == "settings.token: its file may be read by others (mode 0640)"
    token.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    told = refusal({"token": {"file": str(token)}})
    assert told == "settings.token: its file belongs to another user"


# -- credentials --------------------------------------------------------------------------------

NOT_HANDED = (
    "settings.token: its credential was not handed to this process by a service manager"
    " (palyra node install --credential NAME=FILE)"
)


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a service manager made for this process."""
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


def hand_over(handed: Path, name: str, text: str, mode: int = 0o400) -> Path:
    path = handed / name
    path.write_text(text)
    path.chmod(mode)
    return path


@POSIX
def test_a_credential_is_read_where_it_was_handed_over(handed: Path) -> None:
    """As a file is, and with the mode that an access list shows (0440)."""
    hand_over(handed, "token", "hunter2\n")
    assert settled({"token": {"credential": "token"}})["token"] == "hunter2"
    hand_over(handed, "Printer.token_2-x", "other", 0o440)
    assert settled({"token": {"credential": "Printer.token_2-x"}})["token"] == "other"


def test_a_credential_that_nobody_handed_over(
    handed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the way to have it handed over; not the name, which is as written."""
    assert refusal({"token": {"credential": "absent"}}) == NOT_HANDED
    for elsewhere in ("", "relative/credentials", str(tmp_path / "gone")):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", elsewhere)
        assert refusal({"token": {"credential": "token"}}) == NOT_HANDED
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert refusal({"token": {"credential": "token"}}) == NOT_HANDED


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../token", "/etc/passwd", "a/b", "a b", "a\n", "ä", "x" * 65, "a\0"]
)
def test_a_name_leads_nowhere_else(handed: Path, name: str) -> None:
    """It is a name in one directory, not a path."""
    told = refusal({"token": {"credential": name}})
    assert told.startswith("settings.token: a credential has 1 to 64 letters")


@pytest.mark.parametrize("value", [{"credential": 1}, {"credential": "a", "file": "/a"}])
def test_a_credential_is_a_name_alone(handed: Path, value: Any) -> None:
    """Nothing beside it, and no other type."""
    assert "it is written as" in refusal({"token": value})


@POSIX
def test_credentials_that_are_refused(
    handed: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link out of the directory, a pipe, what others may read, what somebody else made."""
    (handed / "link").symlink_to(token)
    assert refusal({"token": {"credential": "link"}}).endswith("its file cannot be read")
    os.mkfifo(handed / "pipe", 0o600)
    assert refusal({"token": {"credential": "pipe"}}).endswith("its file is no file")
    hand_over(handed, "open", "x", 0o444)
    assert refusal({"token": {"credential": "open"}}).endswith("read by others (mode 0444)")
    mine = hand_over(handed, "mine", "x")
    monkeypatch.setattr(os, "geteuid", lambda: mine.stat().st_uid + 1)
    if mine.stat().st_uid != 0:
        assert refusal({"token": {"credential": "mine"}}).endswith("belongs to another user")
    else:
        assert settled({"token": {"credential": "mine"}})["token"] == "x"
