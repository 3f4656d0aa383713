"""The text of systemd units: golden files, systemd's own judgement, and its rules of quoting."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from palyra.errors import AccountUnknown, OptionInvalid
from palyra.supervision.service import Account, Profile, Scope, Service
from palyra.supervision.systemdunit import (
    UNIT,
    credentials_of,
    profile_of,
    state_root_of,
    unit_text,
)

GOLDEN = Path(__file__).parent / "golden"
EACH = [(scope, profile) for scope in Scope for profile in Profile]
NASTY = "/srv/a b%c$d${e}\"f\\g'h;#\u017e\u3042"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def service(scope: Scope, profile: Profile, python: str = "/opt/palyra/bin/python") -> Service:
    """A node host as install gives it to systemd."""
    system = scope is Scope.SYSTEM
    return Service(
        state_root=Path("/var/lib/palyra-node" if system else "/home/ana/.local/share/palyra"),
        scope=scope,
        profile=profile,
        account=Account("palyra-node", 997, 996) if system else None,
        environment={"https_proxy": "http://proxy.example.org:3128"},
        credentials={"printer-token": Path("/etc/palyra/printer token")},
        python=python,
    )


def nasty(scope: Scope, profile: Profile) -> Service:
    """One whose paths and values hold everything that systemd treats in a way of its own."""
    return attrs.evolve(
        service(scope, profile, python="/usr/bin/env"),
        state_root=Path(NASTY),
        account=Account("root", 0, 0) if scope is Scope.SYSTEM else None,
        environment={"A": "x y%h$Z\\", "B": "", "C": "'\""},
        credentials={"tok": Path(NASTY)},
    )


def analyze(
    verb: str, text: str, directory: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of a unit; its debug messages are left out."""
    (directory / UNIT).write_text(text)
    (directory / "run").mkdir(mode=0o700)
    environ = os.environ | {"XDG_RUNTIME_DIR": str(directory / "run"), "SYSTEMD_COLORS": "0"}
    if options == ("--dump",):
        environ["SYSTEMD_LOG_LEVEL"], options = "debug", ("--generators=no",)
    command = ["systemd-analyze", verb, "--man=no", *options, str(directory / UNIT)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("scope", "profile"), EACH)
def test_units_are_as_reviewed(scope: Scope, profile: Profile) -> None:
    """A change of a unit is seen in a golden file."""
    expected = (GOLDEN / f"{scope}-{profile}.service").read_text(encoding="utf-8")
    assert unit_text(service(scope, profile)) == expected


@pytest.mark.parametrize(("scope", "profile"), EACH)
def test_what_was_asked_for_is_read_back(scope: Scope, profile: Profile) -> None:
    """An upgrade loses neither profile nor credentials; a unit that is not ours has none."""
    credentials = {"token": Path("/etc/a b%c:d"), "other": Path("/e")}
    made = attrs.evolve(service(scope, profile), credentials=credentials)
    text = unit_text(made)
    assert (profile_of(text), credentials_of(text)) == (profile, credentials)
    theirs = text.replace("X-Palyra", "X-Theirs")
    assert (profile_of(theirs), credentials_of(theirs)) == (None, {})


@needs_systemd
@pytest.mark.parametrize("make", [service, nasty])
@pytest.mark.parametrize(("scope", "profile"), EACH)
def test_systemd_has_nothing_to_say_against_them(
    scope: Scope, profile: Profile, make: object, tmp_path: Path
) -> None:
    """Every line is one that systemd knows and takes."""
    made = nasty(scope, profile) if make is nasty else service(scope, profile, "/usr/bin/env")
    ran = analyze("verify", unit_text(made), tmp_path, f"--{scope}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@needs_systemd
def test_a_strict_system_unit_is_closed(tmp_path: Path) -> None:
    """By systemd's own measure, where 10 is open; what is left is the network, which it is for."""
    text = unit_text(service(Scope.SYSTEM, Profile.STRICT, "/usr/bin/env"))
    options = ("--offline=true", "--threshold=20", "--no-pager")
    ran = analyze("security", text, tmp_path, *options)
    assert ran.returncode == 0, ran.stdout


@needs_systemd
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("place", ["/tmp/trial", "/var/tmp/trial"])
def test_what_the_service_needs_is_not_hidden_from_it(
    scope: Scope, profile: Profile, place: str
) -> None:
    """A /tmp of its own would have neither its interpreter nor its state."""
    usual = Service(state_root=Path("/srv/palyra"), scope=scope, profile=profile, python="/usr/b/p")
    own_tmp = (scope, profile) != (Scope.USER, Profile.STANDARD)
    assert ("PrivateTmp=yes" in unit_text(usual)) is own_tmp
    root = attrs.evolve(usual, state_root=Path(place))
    python = attrs.evolve(usual, python=f"{place}/bin/python")
    for text in (unit_text(root), unit_text(python), unit_text(usual, reads=[Path(place)])):
        assert "PrivateTmp" not in text


def test_systemd_reads_what_was_meant(tmp_path: Path) -> None:
    """Blanks, percent and dollar signs, quotes, backslashes and letters of any script arrive."""
    ran = analyze("verify", unit_text(nasty(Scope.SYSTEM, Profile.STRICT)), tmp_path, "--dump")
    lines = [line.strip() for line in ran.stdout.splitlines()]
    shell = NASTY.translate({ord(each): "\\" + each for each in '"\\$`'})
    assert f'Command Line: /usr/bin/env -P -m palyra.node --state-root "{shell}"' in lines
    assert f"ReadWritePaths: -{NASTY}" in lines
    assert f"RequiresMountsFor: {NASTY} (origin-file)" in lines
    assert f"ConditionPathExists: {NASTY}/node-host/node-host.json untested" in lines
    assert {"Environment: A=x y%h$Z\\", "Environment: B=", "Environment: C='\""} <= set(lines)


_ESCAPED = re.compile(r"\\(.)")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"\'\\]+)')


def words(line: str) -> list[str]:
    """What systemd makes of a list of words, in the part of its rules that units of ours use."""
    found, at = [], 0
    while at < len(line):
        match = _WORD.match(line, at)
        assert match is not None, line
        quoted = match[1] is not None
        found.append(_specified(_ESCAPED.sub(r"\1", match[1]) if quoted else match[2]))
        at = match.end()
        assert line[at : at + 1] in ("", " "), line
        at += 1
    return found


def _specified(text: str) -> str:
    assert not re.search("%(?!%)", text.replace("%%", "")), text
    return text.replace("%%", "%")


def setting(text: str, name: str) -> str:
    """The value of the setting that is there once."""
    (found,) = [line for line in text.split("\n") if line.startswith(f"{name}=")]
    return found.removeprefix(f"{name}=")


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_what_is_written_is_read_back(name: str, value: str) -> None:
    """Any path and any value come out as they went in, or are refused; never anything else."""
    root = Path(f"/srv/{name}")
    made = attrs.evolve(
        service(Scope.USER, Profile.STRICT), state_root=root, environment={"A": value}
    )
    try:
        text = unit_text(made)
    except OptionInvalid:
        assume(False)
    assert words(setting(text, "ExecStart")[1:]) == list(made.command(journal=True))
    assert words(setting(text, "ReadWritePaths")) == [f"-{root}"]
    assert words(text.split("\nEnvironment=")[1].split("\n")[0]) == [f"A={value}"]
    assert _specified(setting(text, "ConditionPathExists")) == f"{root}/node-host/node-host.json"
    assert state_root_of(text) == root


@pytest.mark.parametrize(
    "path",
    ["/a\nUser=root", "/a\0b", "/a\rb", "/a\tb", "/a\x7fb", "/a\x85b", "/a\udcffb", "/a\uffff",
     "relative", "/srv/../etc"],
)  # fmt: skip
def test_a_path_that_no_line_can_hold_is_refused(path: str) -> None:
    """Nobody writes a second line, or half a path, by way of a path."""
    for made in (
        attrs.evolve(service(Scope.USER, Profile.STANDARD), state_root=Path(path)),
        attrs.evolve(service(Scope.USER, Profile.STANDARD), python=path),
        attrs.evolve(service(Scope.USER, Profile.STANDARD), credentials={"a": Path(path)}),
    ):
        with pytest.raises(OptionInvalid):
            unit_text(made)


@pytest.mark.parametrize("end", ["\\", " ", "\u3000"])
def test_a_path_that_would_lose_its_end_is_refused(end: str) -> None:
    """A backslash would take in the next line, and blanks are cut off."""
    made = attrs.evolve(
        service(Scope.USER, Profile.STANDARD), credentials={"a": Path(f"/srv/token{end}")}
    )
    with pytest.raises(OptionInvalid):
        unit_text(made)


@pytest.mark.parametrize(
    "change",
    [{"environment": {"A B": ""}}, {"environment": {"A": "x\ny"}},
     {"credentials": {"a:b": Path("/a")}}, {"credentials": {"../a": Path("/a")}}],
)  # fmt: skip
def test_names_and_values_that_no_unit_can_hold_are_refused(change: dict[str, object]) -> None:
    """They come from settings, which may be anybody's."""
    with pytest.raises(OptionInvalid):
        unit_text(attrs.evolve(service(Scope.USER, Profile.STANDARD), **change))


def test_a_user_that_is_no_word_is_refused() -> None:
    """The name of a user is a setting of its own."""
    made = attrs.evolve(service(Scope.SYSTEM, Profile.STRICT), account=Account("a\nb", 1, 1))
    with pytest.raises(AccountUnknown):
        unit_text(made)


@pytest.mark.parametrize("place", ["/home/ana/venv/bin/python", "/root/venv", "/var/home/ana"])
def test_a_strict_system_unit_sees_homes_only_where_its_interpreter_is_in_one(place: str) -> None:
    """It could not be started otherwise; and writes nothing there."""
    made = service(Scope.SYSTEM, Profile.STRICT)
    assert "\nProtectHome=yes\n" in unit_text(made)
    assert "\nProtectHome=read-only\n" in unit_text(made, reads=[Path(place)])
    at_home = attrs.evolve(made, state_root=Path(place))
    assert f"\nProtectHome=read-only\nReadWritePaths=-{place}\n" in unit_text(at_home)


def test_a_service_of_root_keeps_what_its_workers_need() -> None:
    """They run as other users, which takes capabilities of root."""
    for profile in Profile:
        made = service(Scope.SYSTEM, profile)
        assert "\nCapabilityBoundingSet=\n" in unit_text(made)
        for account in (Account("root", 0, 0), None):
            assert "Capability" not in unit_text(attrs.evolve(made, account=account))


def test_a_stop_waits_longer_than_jobs_may_take() -> None:
    """Jobs that run get their grace, and what comes after it has time too."""
    made = service(Scope.USER, Profile.STANDARD)
    assert setting(unit_text(made, grace_s=45.5), "TimeoutStopSec") == "66"


@pytest.mark.parametrize("line", ["", "[{", '"relative"', "7", '["/a"]'])
def test_a_unit_that_is_not_ours_is_known_for_no_state_root(line: str) -> None:
    """Somebody else's unit of the same name is not taken for ours."""
    assert state_root_of("[Unit]\nDescription=x\n") is None
    assert state_root_of(f"[Unit]\nX-Palyra-StateRoot={line}\n") is None
