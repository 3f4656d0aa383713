"""Tests of :mod:`palyra.node.foreground`: ``palyra node run`` in a terminal, against a gateway that
pairs by PIN."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from palyra._lock import RootLock
from palyra._reactor import the_reactor
from palyra.config import load
from palyra.core.pairing import RequestState
from palyra.core.pin import PinCode
from palyra.errors import Malformed, PairingFailed, StateRootLocked
from palyra.node import foreground, typedpins
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import PairingFile
from palyra.node.pairingrun import NodeRunOptions, PairingRun
from palyra.node.screen import Screen
from palyra.supervision import processfile
from palyra.supervision.processfile import ProcessFile
from tests.cli.terminal import Terminal
from tests.node.awaiting import awaiting, awaiting_fixture
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, new_authority
from tests.node.pingateway import PinGateway

PROMPT = "PIN shown by the gateway:"
WRONG = "!!  That PIN is wrong, expired or used up."
BETWEEN = "Someone may be in between."


@awaiting_fixture
async def gateway() -> AsyncIterator[PinGateway]:
    """A gateway with one active PIN, where every request is approved."""
    made = PinGateway()
    await made.start()
    made.desk.codes = {1: "418207"}
    made.desk.state = RequestState.APPROVED
    yield made
    await made.stop()


def at_terminal(
    root: Path, gateway: PinGateway, person: Callable[[Terminal], Any], *args: str
) -> Deferred[Any]:
    """What a person does in a terminal, in a thread; the gateway answers meanwhile."""
    run = ("node", "run", "--gateway", str(gateway.address), "--name", "pi", *args)
    return deferToThread(lambda: person(Terminal(root, *run, columns=120)))


@awaiting
async def test_a_person_types_three_pins(gateway: PinGateway, tmp_path: Path) -> None:
    """Each wrong one is told, the second with a warning; the third is right, and it serves."""

    def person(terminal: Terminal) -> tuple[int, str]:
        terminal.read_until(PROMPT)
        terminal.type_hidden("111111\n")
        terminal.read_until(f"{WRONG}\r\n{PROMPT}")
        terminal.type("222222\n")
        terminal.read_until(f"{WRONG} {BETWEEN}\r\n{PROMPT}")
        terminal.type("418-207\n")
        terminal.read_until("offline  retry in")
        terminal.type("\x03")
        return terminal.end()

    status, seen = await at_terminal(tmp_path, gateway, person)
    ca = gateway.authority.ca_hash
    grouped = " ".join(ca[at : at + 4] for at in range(0, 16, 4))
    shown = f"ok  gateway    {gateway.address}  CA {grouped}\n"
    assert status == 0
    assert seen.startswith(f"{PROMPT}\n{shown}{WRONG}\n{PROMPT}\n{shown}{WRONG} {BETWEEN}\n")
    assert f"{shown}ok  PIN        confirmed by both sides\nok  identity   pi  " in seen
    assert "ok  approved   by ana as pi\n" in seen
    assert all(pin not in seen for pin in ("111111", "222222", "418-207"))
    assert gateway.desk.guesses == [False, False, True]
    assert NodeFiles(tmp_path).host() is not None


@awaiting
async def test_three_wrong_pins(gateway: PinGateway, tmp_path: Path) -> None:
    """End it, and nothing is kept of the gateway."""

    def person(terminal: Terminal) -> tuple[int, str]:
        terminal.read_until(PROMPT)
        terminal.type_hidden("111111\n")
        terminal.read_until(f"{WRONG}\r\n{PROMPT}")
        terminal.type("222222\n")
        terminal.read_until(f"{WRONG} {BETWEEN}\r\n{PROMPT}")
        terminal.type("333333\n")
        return terminal.end()

    status, seen = await at_terminal(tmp_path, gateway, person)
    assert status == 1
    assert seen.endswith(
        f"error: That PIN is wrong, expired or used up. {BETWEEN}\n"
        "hint:  ask for a new one; on the gateway: palyra pairing code\n"
    )
    files = NodeFiles(tmp_path)
    assert files.host() is None and files.identity.waiting() is None
    assert not files.identity.client().ca_bundle_pem


@awaiting
async def test_ctrl_c_instead_of_another_pin(gateway: PinGateway, tmp_path: Path) -> None:
    """It ends at once."""

    def person(terminal: Terminal) -> tuple[int, str]:
        terminal.read_until(PROMPT)
        terminal.type_hidden("111111\n")
        terminal.read_until(f"{WRONG}\r\n{PROMPT}")
        terminal.type("\x03")
        return terminal.end()

    status, _ = await at_terminal(tmp_path, gateway, person)
    assert status == 0
    assert gateway.desk.guesses == [False]


@awaiting
async def test_a_program_has_one_try(gateway: PinGateway, tmp_path: Path) -> None:
    """From stdin, with plain lines; the right PIN on the second line is not looked at."""
    command = [sys.executable, "-m", "palyra", "node", "run", "--pairing-code-stdin"]
    command += ["--gateway", str(gateway.address), "--state-root", str(tmp_path)]

    def program() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input="111111\n418207\n",
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONUTF8": "1"},
            timeout=60,
            check=False,
        )

    done: Any = await deferToThread(program)
    assert done.returncode == 1
    assert done.stdout == f"gateway\t{gateway.address}\t{gateway.authority.ca_hash}\n"
    assert done.stderr.startswith("error: That PIN is wrong, expired or used up.\n")
    assert gateway.desk.guesses == [False]


@awaiting
async def test_no_second_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a terminal cannot be read beside the other work (Windows), one PIN is all."""
    given = PinCode(1, "418207")
    options = NodeRunOptions(tmp_path, pin=given, pin_typed=True)
    pairing = PairingRun(
        options,
        config=load(options.config_file),
        files=NodeFiles(tmp_path),
        screen=Screen(io.StringIO()),
        reactor=the_reactor(),
    )
    monkeypatch.setattr(typedpins, "termios", None)
    assert await pairing._next_pin(None) == given
    assert await pairing._next_pin(PairingFailed(pin=True)) is None


@pytest.mark.parametrize(
    ("urls", "lines"),
    [((), ""), (("gw:7444",), ""), (("b:2", "gw:7444"), "gateway\tnow b:2, gw:7444\n")],
)
@awaiting
async def test_gateways_that_moved(tmp_path: Path, urls: tuple[str, ...], lines: str) -> None:
    """Addresses that are named to a device that is paired are where its gateways are from now on;
    it is said where they were others."""
    options, out = NodeRunOptions(tmp_path, grpc_url=urls), io.StringIO()
    files = NodeFiles(tmp_path)
    files.make()
    files.keep_host(HostFile(1, "gw:7444", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi"))
    config = load(options.config_file)
    screen = Screen(out)
    await PairingRun(
        options, config=config, files=files, screen=screen, reactor=the_reactor()
    ).pair()
    kept = files.host()
    assert kept is not None and (kept.gateway_urls or (kept.grpc_url,)) == (urls or ("gw:7444",))
    assert out.getvalue() == lines
    with pytest.raises(Malformed, match="--grpc-url"):
        NodeRunOptions(tmp_path, grpc_url=("gw:7444", "gw:7444"))


def test_beside_a_service(tmp_path: Path) -> None:
    """A service is stopped as one; who runs in another terminal is sent a signal."""
    files = NodeFiles(tmp_path)
    files.make()
    lock = RootLock.take(files.lock, who="A node host")
    for manager, stop in (("systemd", "palyra node stop"), ("", f"kill {os.getpid()}")):
        file = ProcessFile(1, os.getpid(), "", "", NOW_MS, "", "", manager, "1")
        processfile.write(files.process, file)
        with pytest.raises(StateRootLocked) as refused:
            foreground.pair(NodeRunOptions(tmp_path), io.StringIO())
        assert refused.value.hint == f"stop it with {stop}, or use --state-root DIR"
    lock.release()


@awaiting
async def test_a_pairing_that_was_given_up(tmp_path: Path) -> None:
    """A device that is paired serves its gateway, whatever waits at another one."""
    files = NodeFiles(tmp_path)
    files.make()
    authority = new_authority()
    device = PairedDevice(files.identity.path, authority)
    files.keep_host(HostFile(1, "127.0.0.1:1", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi"))
    device.store.new_csr(DEVICE_ID)
    device.store.keep_waiting(PairingFile(1, "ab" * 16, "R", "127.0.0.1:2", device.ca_pem))

    def person() -> tuple[int, str]:
        terminal = Terminal(tmp_path, "node", "run", columns=120)
        terminal.read_until("offline  retry in")
        terminal.type("\x03")
        return terminal.end()

    status, _ = await deferToThread(person)
    assert status == 0
    assert files.identity.waiting() is None
