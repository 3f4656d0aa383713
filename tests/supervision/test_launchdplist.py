"""Tests of :mod:`palyra.supervision.launchdplist`."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import OptionInvalid
from palyra.supervision.launchdplist import MAX_BYTES, plist_of, state_root_in, stop_within_s
from palyra.supervision.service import Account, Scope, Service

GOLDEN = Path(__file__).parent / "golden"
AGENT = Service(
    state_root=Path("/Users/ana/Library/Application Support/palyra"),
    python="/opt/palyra/bin/python3",
)
DAEMON = Service(
    state_root=Path("/var/lib/palyra-node"),
    scope=Scope.SYSTEM,
    account=Account("_palyra", 301, 301),
    python="/opt/palyra/bin/python3",
    environment={"LANG": "cs_CZ.UTF-8", "PALYRA_MANAGER": "mine"},
)


@pytest.mark.parametrize(("service", "name"), [(AGENT, "agent"), (DAEMON, "daemon")])
def test_golden_files(service: Service, name: str, tmp_path: Path) -> None:
    """What is written is what was read over, and Apple's own reader takes it where there is one."""
    data = plist_of(service)
    assert data.decode() == (GOLDEN / f"org.palyra.node.{name}.plist").read_text()
    if shutil.which("plutil"):
        file = tmp_path / "org.palyra.node.plist"
        file.write_bytes(data)
        subprocess.run(["plutil", "-lint", str(file)], check=True, timeout=30)


def test_what_launchd_is_told() -> None:
    """The types that launchd wants; who runs a daemon, and that a user's agent names nobody."""
    agent, daemon = (plistlib.loads(plist_of(each, grace_s=45.5)) for each in (AGENT, DAEMON))
    assert agent["Umask"] == 0o77 and type(agent["Umask"]) is int
    assert agent["ExitTimeOut"] == stop_within_s(45.5) > 45.5
    assert agent["KeepAlive"] == {"SuccessfulExit": False} and agent["RunAtLoad"] is True
    assert "UserName" not in agent and daemon["UserName"] == "_palyra"
    assert daemon["EnvironmentVariables"] == {"LANG": "cs_CZ.UTF-8", "PALYRA_MANAGER": "launchd"}
    assert tuple(agent["ProgramArguments"]) == AGENT.command(journal=False)


@given(name=st.text(min_size=1, max_size=40).filter(lambda text: "/" not in text))
@settings(max_examples=100)
def test_any_path(name: str) -> None:
    """Reads back as it was, or is refused."""
    service = Service(state_root=Path("/srv") / name, python="/usr/bin/python3")
    try:
        data = plist_of(service)
    except OptionInvalid:
        assert any(unicodedata.category(each) in ("Cc", "Cs", "Cn") for each in name)
        return
    assert state_root_in(data) == service.state_root
    assert plistlib.loads(data)["WorkingDirectory"] == str(service.state_root)


@given(
    data=st.binary(max_size=100)
    | st.sampled_from(
        [
            b"",
            b"bplist00",
            b"bplist00" + b"\xff" * 60,
            b"<plist/>",
            b"<plist><dict/></plist>",
            b"<plist><array/></plist>",
            plistlib.dumps({"ProgramArguments": 7}),
            plistlib.dumps({"ProgramArguments": ["--state-root"]}),
            plistlib.dumps({"ProgramArguments": ["--state-root", 7]}),
            plistlib.dumps({"ProgramArguments": ["--state-root", "x" * MAX_BYTES]}),
            b'<!DOCTYPE a [<!ENTITY b "c">]><plist><dict/></plist>',
        ]
    )
)
@settings(max_examples=100)
def test_what_is_no_property_list_of_ours(data: bytes) -> None:
    """Has no state root, whatever it is."""
    assert state_root_in(data) is None
