"""What may be opened on somebody's desktop, and what may not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palyra_capabilities import desktop

from palyra.capability import Risk
from palyra.capability.outcome import OutcomeKind
from palyra.errors import CannotOpen, InputInvalid
from tests.capabilities.running import run


class Recording:
    """An opener that only remembers."""

    def __init__(self, cause: str = "") -> None:
        self.opened: list[str] = []
        self.cause = cause

    async def __call__(self, target: str) -> None:
        if self.cause:
            raise CannotOpen(target, self.cause)
        self.opened.append(target)


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("https://example.org/a?b=c", "https://example.org/a?b=c"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("HTTP://EXAMPLE.org", "http://example.org"),
        ("https://[2001:DB8::1]:443/x", "https://[2001:db8::1]:443/x"),
        ("https://bücher.example/ä?ö=%C3%A9", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%A9"),
        ("http://10.0.0.1/mail@example", "http://10.0.0.1/mail@example"),
        ("http://a.example?x=http://b", "http://a.example?x=http://b"),
    ],
)
def test_good_urls(url: str, opened: str) -> None:
    """Web addresses are opened, with the host in ASCII."""
    assert desktop.checked_url(url) == opened


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "ftp://example.org", "file:///etc/passwd", "javascript:alert(1)",
        "http:example.org", "http://", "http:///x", "http://:80", "http://@example.org",
        "http://u@example.org", "http://u:p@example.org", "http://example.org#f",
        "http://example.org/#", "http://exa mple.org", "http://example.org/\n",
        " http://example.org", "http://example.org\\@evil.org", "http://example.org/\u202egpj",
        "http://example.org:99999", "http://example.org:x", "http://[::1", "http://[fe80::1%25eth0]",
        "http://[v1.x]", "http://-a.org", "http://a..b", "http://\u2100.org", "http://a%2eb",
        "http://example.org/" + "x" * 2040, "http://example.org/" + "é" * 1000, "http://a\x00b",
        "http://\u200b.org", "http://a[::1]b", "http://\u0378.org",
    ],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    """Everything else is refused on input.url."""
    with pytest.raises(InputInvalid) as caught:
        desktop.checked_url(url)
    assert caught.value.field == "input.url"


def test_wrong_scheme_says_which() -> None:
    """The sentence shows what was given."""
    with pytest.raises(InputInvalid) as caught:
        desktop.checked_url("ftp://x")
    assert caught.value.sentence == ("input.url: must begin with http:// or https:// (got ftp://).")


URLISH = st.text() | st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "file", "http "]),
    st.text(alphabet="ab.:@[]%#/?\\-é ", max_size=12),
    st.text(max_size=12),
)


@settings(max_examples=100)
@given(URLISH)
def test_whatever_passes_is_a_plain_web_address(url: str) -> None:
    """A URL that passes is ASCII, http(s), has a host and no credentials, and passes again."""
    try:
        checked = desktop.checked_url(url)
    except InputInvalid:
        return
    parts = urlsplit(checked)
    assert checked.isascii()
    assert len(checked) <= desktop.MAX_URL
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.username is None
    assert not parts.fragment
    assert desktop.checked_url(checked) == checked


def test_paths_are_resolved(tmp_path: Path) -> None:
    """A file and a directory may be opened, by the path that links lead to."""
    real = tmp_path.resolve()
    (real / "a.pdf").write_text("x")
    (real / "link").symlink_to(real / "a.pdf")
    assert desktop.checked_path(str(real / "link")) == (str(real / "a.pdf"), "file")
    assert desktop.checked_path(str(real)) == (str(real), "directory")


@pytest.mark.parametrize(
    "name",
    ["x.desktop", "x.LNK", "x.url", "x.exe", "x.bat. ", "x.app", ".desktop", "x.AppImage", "x.jar"],
)
def test_runnable_names_are_refused(tmp_path: Path, name: str) -> None:
    """What a desktop would run is refused by its name, as a file, a directory and a link."""
    (tmp_path / name).write_text("x")
    (tmp_path / "innocent.txt").symlink_to(tmp_path / name)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / name).mkdir()
    for path in (tmp_path / name, tmp_path / "innocent.txt", tmp_path / "dir" / name):
        with pytest.raises(InputInvalid, match="would run"):
            desktop.checked_path(str(path))


def test_link_with_a_runnable_name(tmp_path: Path) -> None:
    """The name that was given counts as well as the one it leads to."""
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.lnk").symlink_to(tmp_path / "a.txt")
    with pytest.raises(InputInvalid, match="would run"):
        desktop.checked_path(str(tmp_path / "a.lnk"))


def test_other_refusals(tmp_path: Path) -> None:
    """Executables, pipes, what is missing, relative and remote paths are refused."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh")
    script.chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "a\u202eb").write_text("x")
    (tmp_path / "plain").symlink_to(tmp_path / "a\u202eb")
    names = ("script", "pipe", "missing", "loop", "a\u202eb", "plain", "x\0")
    bad = [str(tmp_path / name) for name in names]
    bad += ["", "a.txt", "./a", "~/a", "//server/share", "\\\\server\\share", "/" + "a" * 5000]
    for path in bad:
        with pytest.raises(InputInvalid) as caught:
            desktop.checked_path(path)
        assert caught.value.field == "input.path"


def test_windows_names() -> None:
    """On Windows PATHEXT and file streams count too."""
    windows = {"platform": "win32", "environ": {"PATHEXT": ".COM;.PY"}}
    for path in ("C:\\a\\b.py", "C:\\a\\b.py.", "C:\\a\\b.txt:evil.txt", "C:\\a:b"):
        with pytest.raises(InputInvalid):
            desktop.refuse_runnable_name(path, **windows)  # type: ignore[arg-type]
    for path in ("C:\\a\\b.txt", "C:\\", "C:\\a"):
        desktop.refuse_runnable_name(path, **windows)  # type: ignore[arg-type]


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_path_is_checked_or_refused(text: str) -> None:
    """No text raises anything but InputInvalid; what passes is absolute and exists."""
    for path in (text, "/" + text):
        try:
            resolved, _ = desktop.checked_path(path)
        except InputInvalid:
            continue
        assert os.path.isabs(resolved)
        assert os.path.exists(resolved)


def test_open_url_through_the_runner() -> None:
    """A checked URL reaches the opener and is reported with the published keys first."""
    opener = Recording()
    open_url, _ = desktop.capabilities(opener)
    outcome = run(open_url, b'{"url":"https://example.org"}')
    assert outcome.output == b'{"opened":true,"url":"https://example.org"}'
    assert opener.opened == ["https://example.org"]
    assert run(open_url, b'{"url":"file:///x"}').error_code == "input_invalid"
    assert len(opener.opened) == 1


def test_open_path_through_the_runner(tmp_path: Path) -> None:
    """A checked path reaches the opener, resolved."""
    opener = Recording()
    _, open_path = desktop.capabilities(opener)
    outcome = run(open_path, json.dumps({"path": str(tmp_path)}).encode())
    real = str(tmp_path.resolve())
    assert json.loads(outcome.output) == {"opened": True, "path": real, "kind": "directory"}
    assert opener.opened == [real]


def test_a_failing_opener_is_a_failure() -> None:
    """When nothing can open it, the job fails and says why."""
    open_url, _ = desktop.capabilities(Recording("no screen"))
    outcome = run(open_url, b'{"url":"https://a.example"}')
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "cannot_open")
    assert outcome.error_sentence == "Cannot open https://a.example: no screen."


def test_descriptors() -> None:
    """Both ask the person at the device and are never repeated by themselves."""
    open_url, open_path = desktop.palyra_capabilities()
    assert (open_url.name, open_url.risk) == ("desktop.open_url", Risk.MEDIUM)
    assert (open_path.name, open_path.risk) == ("desktop.open_path", Risk.HIGH)
    assert open_url.needs_mediation and open_path.needs_mediation
    assert not (open_url.idempotent or open_path.idempotent)
