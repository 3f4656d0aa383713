"""Tests of files.fetch: what may be fetched is, and nothing else."""

import base64
import hashlib
import os

import pytest
from palyra.capability import OutcomeKind
from palyra.errors import SettingsInvalid
from palyra.testing.capability import check_conformance

from palyra_cap_files.plugin import NAME, Fetched

TEXT = b"the quick brown fox\n" * 10


@pytest.fixture
def shared(tmp_path):
    """A directory that is allowed, with a file in it."""
    directory = tmp_path / "shared"
    (directory / "deep").mkdir(parents=True)
    (directory / "deep" / "fox.txt").write_bytes(TEXT)
    (tmp_path / "secret.txt").write_text("not for you")
    return directory


@pytest.fixture
def fetch(host, shared):
    """Runs the capability, with that directory allowed."""

    def run(path, **more):
        asked = {key: more.pop(key) for key in ("offset", "max_bytes") if key in more}
        settings = {"directories": [str(shared)], **more.pop("settings", {})}
        return host.run(NAME, {"path": str(path), **asked}, settings=settings, **more)

    return run


def test_a_file_is_fetched(fetch, shared):
    """Whole, with its size and its digest."""
    result = fetch(shared / "deep" / "fox.txt")
    fetched = result.typed(Fetched)
    assert (fetched.size, fetched.content_base64) == (len(TEXT), TEXT)
    assert fetched.sha256 == hashlib.sha256(TEXT).hexdigest() and not fetched.truncated
    assert base64.b64decode(result.output["content_base64"]) == TEXT
    assert result.progress[0].fraction == 1.0


@pytest.mark.parametrize(
    ("offset", "max_bytes", "content", "truncated"),
    [
        (0, 9, TEXT[:9], True),
        (4, 5, b"quick", True),
        (len(TEXT) - 4, 100, b"fox\n", False),
        (len(TEXT), 100, b"", False),
        (10_000, 100, b"", False),
        (10**18 * 100, 100, b"", False),
        (0, 0, b"", True),
    ],
)
def test_a_piece_is_fetched(fetch, shared, offset, max_bytes, content, truncated):
    """The piece that was asked for, and whether there is more; the digest is of all."""
    result = fetch(shared / "deep" / "fox.txt", offset=offset, max_bytes=max_bytes)
    fetched = result.typed(Fetched)
    assert (fetched.content_base64, fetched.truncated) == (content, truncated)
    assert fetched.sha256 == hashlib.sha256(TEXT).hexdigest()


def test_an_empty_file_is_fetched(fetch, shared):
    """It has a digest too."""
    (shared / "empty").touch()
    assert fetch(shared / "empty").typed(Fetched).sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("{shared}/../secret.txt", "'..'"),
        ("{outside}/secret.txt", "allows"),
        ("{shared}2/fox.txt", "allows"),
        ("{shared}", "allows"),
        ("{shared}/nothing", "does not exist"),
        ("{shared}/deep", "no regular file"),
        ("{shared}/deep/fox.txt/more", "a link or a file"),
        ("{shared}/link.txt", "a link or a file"),
        ("{shared}/linked/secret.txt", "a link or a file"),
        ("{shared}/pipe", "no regular file"),
    ],
)
def test_nothing_else_is(fetch, shared, path, why):
    """Not what is elsewhere, not what a link leads to, not what is no file."""
    (shared / "link.txt").symlink_to(shared.parent / "secret.txt")
    (shared / "linked").symlink_to(shared.parent)
    os.mkfifo(shared / "pipe")
    result = fetch(path.format(shared=shared, outside=shared.parent))
    assert (result.kind, result.error_code) == (OutcomeKind.FAILED, "path_refused"), result
    assert why in result.error


def test_a_large_file_is_refused(fetch, shared):
    """Hashing has a limit, which the owner sets."""
    with open(shared / "large", "wb") as file:
        file.truncate(2 * 1024 * 1024)
    assert "larger than 1 MiB" in fetch(shared / "large", settings={"max_file_mib": 1}).error
    assert fetch(shared / "large", settings={"max_file_mib": 2}).succeeded


def test_it_can_be_cancelled(fetch, shared):
    """In the middle of a large file."""
    with open(shared / "large", "wb") as file:
        file.truncate(200 * 1024 * 1024)
    result = fetch(shared / "large", cancel_on_progress=True)
    assert result.kind is OutcomeKind.CANCELLED and result.stopped
    result = fetch(shared / "large", timeout_s=0.001)
    assert result.kind is OutcomeKind.TIMED_OUT and result.stopped


def test_a_piece_has_to_fit_into_the_payload(fetch, shared):
    """The caller says how much the job may answer."""
    (shared / "large").write_bytes(bytes(100_000))
    assert fetch(shared / "large", max_bytes=100_000).error_code == "payload_too_large"
    assert fetch(shared / "large", max_bytes=100_000, max_payload_bytes=200_000).succeeded


@pytest.mark.parametrize("wrong", [{}, {"path": "relative"}, {"path": "/a", "offset": -1}])
def test_wrong_input_is_refused(host, wrong):
    """It never reaches the handler."""
    settings = {"directories": ["/"]}
    assert host.run(NAME, wrong, settings=settings).error_code == "input_invalid"


@pytest.mark.parametrize("wrong", [{}, {"directories": []}, {"directories": ["relative"]}])
def test_the_owner_has_to_say_where(host, wrong):
    """Without a directory nothing is allowed."""
    with pytest.raises(SettingsInvalid):
        host.run(NAME, {"path": "/etc/passwd"}, settings=wrong)


def test_it_keeps_to_what_every_plugin_must(shared):
    """As a node finds it in the installed package."""
    example = {NAME: {"path": str(shared / "deep" / "fox.txt")}}
    settings = {NAME: {"directories": [str(shared)]}}
    assert check_conformance("palyra-cap-files", examples=example, settings=settings) == []
