"""A device's way in and out: by PIN, with what is granted, revoked, removed, and in again."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from palyra.wire.service import messages
from tests.integration.device import CALL_S, Device, Refusal, grpc, refusal, refusal_of
from tests.integration.house import PATIENT, Gateway, House, NodeHost
from tests.integration.moving import Move
from tests.integration.processes import Ran, eventually, processes_of, run
from tests.integration.terminal import on_terminal
from tests.integration.versionone import VersionOneDevice

DEVICE_ID = "01M80NKQCNX4K7QM2ZT9B3FVHD"
SOON_S = 1.0
"""Within which a revocation has ended whatever was open."""


def facts_of(done: Ran) -> dict[str, str]:
    """What a command that succeeded printed as lines of key and value."""
    assert done.code == 0, done
    return dict(line.split("\t", 1) for line in done.out.splitlines() if "\t" in line)


def approved(gateway: Gateway, node: NodeHost, *options: str) -> dict[str, str]:
    """Approve what a node asks for; the facts that were shown."""
    facts = facts_of(gateway.cli("pairing", "approve", node.asks(), *options))
    node.process.says("online")
    gateway.online(node.device_id)
    return facts


def echoes(gateway: Gateway, target: str) -> None:
    """``nodes invoke TARGET echo`` prints what it was given."""
    done = gateway.cli("nodes", "invoke", target, "echo", "--input", '{"text":"hello"}')
    assert done.code == 0 and json.loads(done.out)["echo"] == {"text": "hello"}, done


# -- under a new CA, which goes on in test_rotation -----------------------------------------------


def test_the_operator_sees_who_has_not_moved(move_of_all: Move, move_of_some: Move) -> None:
    """A node that is online moves at once; ``ca show`` and the doctor name the one that is off."""
    away = move_of_some.away
    assert away is not None
    shown = move_of_some.left(1)
    (line,) = (each for each in shown.splitlines() if each.startswith("device\t"))
    assert line.split("\t")[1:3] == [away.device_id, "away"]
    doctor = move_of_some.gateway.cli("doctor").out
    assert "overlap, 1 device left: away" in doctor, doctor
    assert "device\t" not in move_of_all.left(0)


# -- by PIN -------------------------------------------------------------------------------------


def files_with(root: Path, secret: str) -> set[Path]:
    """The files below a directory that have some text in them."""
    found = set()
    for file in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was replaced meanwhile
            if file.is_file() and secret.encode() in file.read_bytes():
                found.add(file)
    return found


def told(house: House) -> Iterator[str]:
    """Every word that a process of the house was started with, and its environment."""
    for process in processes_of(house.path):
        with contextlib.suppress(psutil.Error):
            yield from (*process.cmdline(), *process.environ().values())


def test_a_device_pairs_by_pin_with_commands_alone(house: House) -> None:
    """Code, node run, approve, online, echo.  The PIN is in no file, log, argument or environment:
    a number may be anywhere by chance, so two PINs must not be in the same place."""
    gateway = house.gateway().start()
    seen: list[set[Path]] = []
    for name in ("lamp", "desk"):
        said = facts_of(gateway.cli("pairing", "code", "--label", "site=prague"))
        assert sorted(said) == ["expires", "pin"] and re.fullmatch(r"\d{6}", said["pin"]), said
        node = house.node(name).start_with_pin(gateway, said["pin"])
        node.asks()
        assert not any(said["pin"] in word for word in told(house))
        facts = approved(gateway, node)
        assert facts["decision"] == "approved" and facts["code"].startswith("PIN by "), facts
        steps = [line.split("\t")[0].split("  ")[0] for line in node.process.said().splitlines()]
        assert steps[:5] == ["gateway", "PIN", "identity", "waiting", "approved"]
        echoes(gateway, name)
        seen.append(files_with(house.path, said["pin"]))
    assert not seen[0] & seen[1]


def test_a_wrong_pin_says_no_more_than_that(shared: House, gateway: Gateway) -> None:
    """One try where nobody is asked again: exit 1, the sentence, the hint, nothing on disk; the
    right one works afterwards."""
    pin = gateway.pin()
    wrong = pin[:-1] + str((int(pin[-1]) + 1) % 10)
    node = shared.node("typist").start_with_pin(gateway, wrong)
    assert node.process.wait() == 1
    said = node.process.said()
    assert "error: That PIN is wrong, expired or used up.\n" in said, said
    assert "hint:  ask for a new one; on the gateway: palyra pairing code\n" in said, said
    kept = {file.name for file in (node.root / "node-host").rglob("*.json")}
    assert not kept & {"node-host.json", "pairing.json"}, kept
    node.start_with_pin(gateway, pin)
    approved(gateway, node)
    again = shared.node("late").start_with_pin(gateway, pin)
    assert again.process.wait() == 1
    assert "That PIN is wrong, expired or used up." in again.process.said()


# -- what is granted ------------------------------------------------------------------------------


def test_only_what_was_granted_runs(shared: House, gateway: Gateway) -> None:
    """``approve --grant echo`` grants no more than that; ``nodes grant`` adds to it, and takes
    away, while the node is online."""
    node = shared.node("guest").start_with_pin(gateway, gateway.pin())
    approved(gateway, node, "--grant", "echo")
    echoes(gateway, "guest")
    refused = gateway.cli("nodes", "invoke", "guest", "system.health")
    assert refused.code == 1, refused
    assert "system.health was announced by guest but not granted." in refused.err, refused
    granted = facts_of(gateway.cli("nodes", "grant", "guest", "system.health"))
    assert granted["granted"].split(",") == ["echo", "system.health"]
    done = gateway.cli("nodes", "invoke", "guest", "system.health")
    assert done.code == 0 and json.loads(done.out)["status"], done
    assert gateway.cli("nodes", "grant", "guest", "--withhold", "echo").code == 0
    assert gateway.cli("nodes", "invoke", "guest", "echo").code == 1


# -- out ------------------------------------------------------------------------------------------


def ended(call: Callable[[], object]) -> tuple[float, Refusal]:
    """When and how a call of a device that waits for something is ended by the gateway."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return time.monotonic(), refusal_of(caught.value)


def test_a_revocation_ends_all_that_is_open(gateway: Gateway) -> None:
    """The stream, a call that waits for its answer, and the job of that call: within a second."""
    device = Device(gateway, "laptop").enrol()
    ask = messages.ExecuteCapabilityRequest(v=1, capability="echo", input_json=b"{}")
    ask.device_id.ulid = device.device_id
    with device.session() as stream, device.node_rpc() as stub, ThreadPoolExecutor(2) as pool:
        reading = pool.submit(ended, lambda: list(stream))
        gateway.online(device.device_id)
        waiting = pool.submit(ended, lambda: stub.ExecuteCapability(ask, timeout=30))
        job = eventually(lambda: dispatched(gateway, device), "the call waits")
        queued = gateway.submit(device.device_id, "echo")
        done = gateway.cli("nodes", "revoke", "laptop", "--reason", "laptop stolen")
        answered = time.monotonic()
        assert done.code == 0, done
        ends = [each.result(CALL_S) for each in (reading, waiting)]
    for at, refused in ends:
        assert at - answered < SOON_S
        assert (refused.status, refused.code) == ("PERMISSION_DENIED", "device_revoked")
    assert gateway.job(job).state in ("outcome_unknown", "failed", "cancelled")
    assert gateway.ended(queued).job.state != "succeeded"


def dispatched(gateway: Gateway, device: Device) -> str | None:
    """The job that a device was sent and has not answered."""
    of_device = [job for job in gateway.jobs() if job.device_id == device.device_id]
    return next((job.job_id for job in of_device if job.state == "dispatched"), None)


def test_a_removed_device_pairs_again_as_what_it_was(house: House) -> None:
    """Revoked it is told so, and its PIN is refused; removed it reaches an approval that says when,
    by whom and why; another key under its id wants to be accepted by name."""
    gateway = house.gateway(config=PATIENT).start()
    node = house.node("atlas")
    node.options = ["--device-id", DEVICE_ID]
    approved(gateway, node.start_with_pin(gateway, gateway.pin()))
    assert gateway.cli("nodes", "revoke", "atlas", "--reason", "laptop stolen").code == 0
    assert node.process.wait() == 1
    assert ": laptop stolen." in node.process.said().splitlines()[-2], node.process.said()
    assert node.start_with_pin(gateway, gateway.pin()).process.wait() == 1
    assert "This device was revoked on " in node.process.said()

    removed = facts_of(gateway.cli("nodes", "remove", "atlas"))
    assert (removed["removed"], removed["name"], removed["revoked"]) == (
        DEVICE_ID,
        "atlas",
        "before",
    )
    assert gateway.nodes() == []
    node.start_with_pin(gateway, gateway.pin())
    words = ["pairing", "approve", node.asks(), "--state-root", str(gateway.root)]
    with on_terminal(house, *words) as desk:
        desk.shows("Approve atlas? [y/N]")
        said = " ".join(desk.screen.split())
        assert re.search(r"!! revoked .*by root \(laptop stolen\), removed ", said), desk.screen
        desk.type("y\r")
        assert desk.end() == 0
    node.process.says("online")
    echoes(gateway, "atlas")

    other = house.node("atlas2")
    other.options = ["--device-id", DEVICE_ID]
    other.start_with_pin(gateway, gateway.pin())
    refused = gateway.cli("pairing", "approve", other.asks())
    assert refused.code == 1 and "was paired before with another key" in refused.err, refused
    approved(gateway, other, "--accept-new-identity")
    assert node.process.wait() == 1
    echoes(gateway, "atlas")


# -- the list of what is revoked ------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_others_can_check_the_revocation_list(house: House) -> None:
    """openssl takes the signature of ``crl.pem``, takes a certificate that is not on it, and
    refuses the one of a revoked device."""
    gateway = house.gateway().start()
    kept, lost = Device(gateway, "kept").enrol(), Device(gateway, "lost").enrol()
    for device in (kept, lost):
        (house.path / f"{device.name}.pem").write_bytes(device.certificate_pem)
    assert gateway.cli("nodes", "revoke", "lost").code == 0
    crl, ca = (str(gateway.root / "identity" / name) for name in ("crl.pem", "ca.pem"))

    def openssl(*words: str) -> Ran:
        return run(["openssl", *words], house.path)

    def is_listed() -> bool:
        return "Serial Number" in openssl("crl", "-in", crl, "-noout", "-text").out

    eventually(is_listed, "the revoked certificate is on the list")
    signed = openssl("crl", "-in", crl, "-noout", "-CAfile", ca)
    assert signed.code == 0 and "verify OK" in signed.err, signed
    check = ["verify", "-crl_check", "-CAfile", ca, "-CRLfile", crl, "-purpose", "sslclient"]
    good, bad = openssl(*check, "kept.pem"), openssl(*check, "lost.pem")
    assert good.code == 0, good
    assert bad.code != 0 and "certificate revoked" in bad.err, bad


# -- version 1 ------------------------------------------------------------------------------------

ALLOWED = PATIENT + "allow_v1_codes = true\nallow_gateway_made_keys = true\n"


def test_a_version_one_device_pairs_and_works(house: House) -> None:
    """With both switches on: the PIN in clear, the same key until it is first used, jobs; and the
    gateway says loudly what it did."""
    gateway = house.gateway(config=ALLOWED).start()
    device = VersionOneDevice(gateway, int(time.time() * 1000))
    asked = device.ask(gateway.pin())
    assert (asked.paired, asked.reason) == (False, "pending_approval")
    assert device.status().status == "pending_approval"
    gateway.approve(asked.request_id)
    first, second = device.status(), device.status()
    assert first.paired and first.mtls_client_private_key_pem.startswith("-----BEGIN PRIVATE KEY")
    assert first.mtls_client_private_key_pem == second.mtls_client_private_key_pem
    assert first.mtls_client_certificate_pem == second.mtls_client_certificate_pem

    serving = device.serve(2)
    next(serving)
    again = refusal(device.status)
    assert (again.status, again.code) == ("FAILED_PRECONDITION", "pairing_session_unknown")
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(lambda: list(serving))
        gateway.online(device.device_id)
        for _ in range(2):
            echoes(gateway, device.device_id)
        assert ran.result(CALL_S) == ["echo", "echo"]
    log = gateway.process.output()
    assert "warn" in log and "sends its PIN in clear" in log, log
    assert f"making the private key of version-1 device {device.device_id} here" in log
    key = first.mtls_client_private_key_pem.split("\n")[1]
    assert files_with(gateway.root, key) == set()


def test_a_version_one_device_needs_both_switches(gateway: Gateway) -> None:
    """Where neither is on its PIN is not even looked at."""
    device = VersionOneDevice(gateway, int(time.time() * 1000))
    refused = refusal(lambda: device.ask(gateway.pin()))
    assert (refused.status, refused.code) == ("FAILED_PRECONDITION", "csr_required")
