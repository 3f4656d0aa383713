"""Tests of :mod:`palyra.cli.doctor`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from palyra.cli import doctor, main
from palyra.console.models import Check, Contract, Health
from tests.cli.conftest import FakeConsole
from tests.cli.things import screen, shown

CHECKS = [
    Check("ok", "state root", "/srv/palyra, 0700, 3.1 GiB free", "/srv/palyra"),
    Check(
        "FAIL",
        "console",
        "port 7142 is taken by nginx (pid 812)",
        "127.0.0.1:7142",
        "kill 812, or set another console endpoint",
    ),
    Check(
        "warn",
        "clock",
        "3 devices differ by more than 60s (nas 4m behind)",
        "",
        "on nas: timedatectl set-ntp true",
    ),
]
AT_80 = """\
ok    state root  /srv/palyra, 0700, 3.1 GiB free
FAIL  console     port 7142 is taken by nginx (pid 812)
                  hint: kill 812, or set another console endpoint
warn  clock       3 devices differ by more than 60s (nas 4m behind)
                  hint: on nas: timedatectl set-ntp true
3 checks: 1 ok, 1 warn, 1 FAIL
"""
HEALTH = Health(Contract(), "0.1.0", 4021, "/srv", 0, "ab", {}, [Check("ok", "store", "fine")])


def test_as_drawn() -> None:
    """A line a check, its hint below, the counts at the end; where from 120 columns on."""
    narrow, wide = screen(80), screen(120)
    doctor.show(narrow, CHECKS)
    doctor.show(wide, CHECKS)
    assert shown(narrow) == AT_80
    assert shown(wide).splitlines()[0] == (
        "ok    state root  /srv/palyra, 0700, 3.1 GiB free                    /srv/palyra"
    )


def test_a_long_finding() -> None:
    """It goes on below itself, and leaves the last column to the others."""
    long = Check("ok", "listeners", "console " + "127.0.0.1:7142, " * 9, "elsewhere")
    narrow, wide = screen(80), screen(120)
    doctor.show(narrow, [*CHECKS, long])
    doctor.show(wide, [*CHECKS, long])
    lines = shown(narrow).splitlines()
    assert lines[5].startswith("ok    listeners   console 127.0.0.1:7142, 127")
    assert lines[6].startswith(" " * 18 + "127.0.0.1:7142,")
    assert max(map(len, lines)) <= 80
    assert "/srv/palyra, 0700, 3.1 GiB free                    /srv/palyra" in shown(wide)
    assert "elsewhere" not in shown(wide)


def test_for_scripts() -> None:
    """Tabs, with address and hint."""
    made = screen(tty=False)
    doctor.show(made, CHECKS[1:2])
    assert shown(made) == (
        "FAIL\tconsole\tport 7142 is taken by nginx (pid 812)\t127.0.0.1:7142\t"
        "kill 812, or set another console endpoint\n"
    )


def test_with_a_gateway(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own checks come after those made here; all is one object with --json."""
    console.root.chmod(0o700)
    console.on("GET", "doctor", HEALTH)
    status, out, err = console.run(capsys, "doctor", "--json")
    found = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert found["gateway"]["pid"] == 4021
    names = [check["name"] for check in found["checks"]]
    assert names == ["state root", "config", "database", "key files", "gateway", "clock", "store"]
    assert "palyra 0.1.0, pid 4021, console.sock answers" in out


def test_a_restored_state_is_told_once(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the gateway where one answers; it knows whether the state waits."""
    console.root.chmod(0o700)
    with contextlib.closing(sqlite3.connect(console.root / "palyra.sqlite3")) as raw:
        raw.execute("CREATE TABLE meta (key, value)")
        raw.execute("INSERT INTO meta VALUES ('unconfirmed_since_ms', '1795318454000')")
        raw.commit()
    restored = Check("FAIL", "restored", "This state is of then", "", "palyra state confirm")
    health = msgspec.structs.replace(HEALTH, checks=[restored])
    console.on("GET", "doctor", b"?", status=500)
    assert "warn\tdatabase\t" in console.run(capsys, "doctor")[1]
    console.on("GET", "doctor", health)
    status, out, _ = console.run(capsys, "doctor")
    assert (status, out.count("palyra state confirm")) == (1, 1)
    assert "ok\tdatabase\tpalyra.sqlite3, " in out


def test_without_a_gateway(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It works, and looks at the ports that a gateway would need."""
    tmp_path.chmod(0o700)
    (tmp_path / "palyra.toml").write_text(
        '[listen]\nenrolment = "127.0.0.1:0"\nnode_rpc = "127.0.0.1:0"\n'
        '[console]\nendpoint = "palyra:0:interface=127.0.0.1"\n'
    )
    assert main(["doctor", "--state-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "warn\tgateway\tno gateway runs here\t" in out
    assert "ok\tenrolment\t127.0.0.1:0 is free\t" in out
    tmp_path.chmod(0o755)
    assert main(["doctor", "--state-root", str(tmp_path)]) == 1


def test_without_a_state_root(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing else can be looked at."""
    assert main(["doctor", "--state-root", str(tmp_path / "none"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [check["verdict"] for check in found["checks"]] == ["FAIL", "warn"]
    assert found["gateway"] is None


def test_a_gateway_that_does_not_answer_well(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """A FAIL with what it did."""
    console.root.chmod(0o700)
    console.on("GET", "doctor", b"?", status=500)
    status, out, _ = console.run(capsys, "doctor")
    assert status == 1
    assert "it answered 500 without a reason" in out
