"""Whatever text comes: what :mod:`palyra_capabilities.desktop` lets through is harmless."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import idna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from palyra_capabilities import desktop

from palyra.capability.wording import has_unshown
from palyra.errors import InputInvalid

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABEL, min_size=1, max_size=4).map(".".join) | st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(lambda found: f"[{found}]")
LETTERS = st.text(alphabet="äöüßéñøаеорсухіαβγ中文日本", min_size=1, max_size=8)
PORTS = st.none() | st.integers(0, 65535)
TAIL = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="#\\"),
    max_size=40,
)
SCHEMES = st.sampled_from(["http", "https", "HTTPS", "Http"])
HIDDEN = st.characters(categories=("Cc", "Cf", "Cn", "Co", "Zs", "Zl", "Zp"))


def refused(url: str) -> bool:
    try:
        desktop.checked_url(url)
    except InputInvalid as exc:
        return exc.field == "input.url"
    return False


def url_of(scheme: str, host: str, port: int | None, tail: str) -> str:
    end = f"/{tail}" if tail else ""
    return f"{scheme}://{host}{end}" if port is None else f"{scheme}://{host}:{port}{end}"


@settings(max_examples=100)
@given(SCHEMES, HOSTS | IPV6, PORTS, TAIL)
def test_web_addresses_pass(scheme: str, host: str, port: int | None, tail: str) -> None:
    """Every address of an ordinary host passes: the same host and port, in ASCII, and again."""
    checked = desktop.checked_url(url_of(scheme, host, port, tail))
    parts = urlsplit(checked)
    assert (parts.scheme, parts.hostname, parts.port) == (
        scheme.lower(), urlsplit(f"//{host}").hostname, port,
    )  # fmt: skip
    assert checked.isascii()
    assert not has_unshown(checked)
    assert not any(character.isspace() for character in checked)
    assert desktop.checked_url(checked) == checked


@settings(max_examples=100)
@given(LETTERS, HOSTS)
def test_other_scripts_show_as_ascii(label: str, host: str) -> None:
    """A host with letters of another script is refused, or opened as the name that is looked up:
    nothing that looks like a known host is left in it."""
    try:
        checked = desktop.checked_url(f"https://{label}.{host}/")
    except InputInvalid:
        return
    found = urlsplit(checked).hostname or ""
    assert found.isascii()
    assert found == idna.encode(f"{label}.{host}", uts46=True).decode()


def test_homograph() -> None:
    """A Cyrillic letter in a known name is plain to see."""
    assert desktop.checked_url("https://\u0430pple.com/") == "https://xn--pple-43d.com/"


@settings(max_examples=100)
@given(HOSTS, TAIL, HIDDEN, st.integers(0, 80))
def test_hidden_characters_are_refused(host: str, tail: str, hidden: str, at: int) -> None:
    """A control, bidi, blank or unassigned character is refused wherever it stands."""
    url = f"https://{host}/{tail}"
    assert refused(url[:at] + hidden + url[at:])


@settings(max_examples=100)
@given(HOSTS, TAIL, st.text(alphabet="ab:%é", max_size=8), st.integers(8, 60))
def test_other_refusals(host: str, tail: str, user: str, at: int) -> None:
    """Credentials, fragments, backslashes and zones are refused, wherever they stand."""
    url = f"https://{host}/{tail}"
    assert refused(f"https://{user}@{host}/{tail}")
    assert refused(f"{url[:at]}#{url[at:]}")
    assert refused(f"{url[:at]}\\{url[at:]}")
    assert refused(f"https://[fe80::1%{user}]/{tail}")


@settings(max_examples=100)
@given(st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{0,12}", fullmatch=True), HOSTS, TAIL)
def test_other_schemes_are_refused(scheme: str, host: str, tail: str) -> None:
    """Nothing but http and https is opened."""
    assume(scheme.lower() not in ("http", "https"))
    for between in ("://", ":", ":/", ":///"):
        assert refused(f"{scheme}{between}{host}/{tail}")


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "127.1", "127.0.0.01", "0x7f000001", "1.2.3.4.", "a.0x", "a.1"]
)
def test_spellings_of_addresses(host: str) -> None:
    """A browser would take these for an address that they do not show."""
    assert refused(f"http://{host}/")


# -- paths --------------------------------------------------------------------------------------

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"), exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda name: name.strip(". "))
RUNNABLE = st.sampled_from(sorted(desktop._RUN_BY_DESKTOPS))
TRAILS = st.text(alphabet=". ", max_size=3)


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A directory whose own path is resolved."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made).resolve()


@settings(max_examples=60)
@given(NAMES, st.booleans(), st.integers(0, 0o777))
def test_what_passes_is_plain(room: Path, name: str, linked: bool, mode: int) -> None:
    """What passes is absolute, resolved, a plain file and not executable, whatever its name."""
    with tempfile.TemporaryDirectory(dir=room) as made:
        path = Path(made) / name
        path.write_text("x")
        path.chmod(mode | stat.S_IRUSR)
        link = Path(made) / "a link"
        link.symlink_to(path)
        given_path = link if linked and name != "a link" else path
        try:
            found, kind = desktop.checked_path(str(given_path))
        except InputInvalid as exc:
            assert exc.field == "input.path"
            return
        assert (found, kind) == (str(path), "file")
        assert os.path.realpath(found) == found
        assert not os.stat(found).st_mode & 0o111
        assert os.path.splitext(name)[1].lower() not in desktop._RUN_BY_DESKTOPS


@settings(max_examples=60)
@given(NAMES, RUNNABLE, st.randoms(use_true_random=False), TRAILS, st.booleans())
def test_what_a_desktop_runs_never_passes(
    room: Path, name: str, ending: str, chance: object, trail: str, directory: bool
) -> None:
    """An ending that is run, in any case and behind dots and blanks, is refused: as a file, as a
    directory, and through a link."""
    mixed = "".join(chance.choice((each, each.upper())) for each in ending)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(dir=room) as made:
        path = Path(made) / f"{name[:12]}{mixed}{trail}"
        if directory:
            path.mkdir()
        else:
            path.write_text("x")
        link = Path(made) / "plain.txt"
        link.symlink_to(path)
        for each in (path, link):
            with pytest.raises(InputInvalid):
                desktop.checked_path(str(each))


@settings(max_examples=60)
@given(NAMES, st.sampled_from([".py", ".PYW", ".rb"]), NAMES)
def test_windows_never_runs(name: str, ending: str, stream: str) -> None:
    """On Windows what PATHEXT lists, and streams of files, are refused."""
    environ = {"PATHEXT": ".COM;.PY;.pyw;.RB"}
    for path in (f"C:\\{name}{ending}", f"C:\\a\\{name}.txt:{stream}"):
        with pytest.raises(InputInvalid):
            desktop.refuse_runnable_name(path, platform="win32", environ=environ)
