"""What a person types to pair a device and to use it, without a terminal."""

from __future__ import annotations

import json
import stat

from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import run, script


def test_a_device_pairs_with_commands_alone(gateway: Gateway, pi: NodeHost) -> None:
    """Code, node run, list, approve: the node says each step and keeps its files to itself."""
    steps = [line.split("\t")[0].split("  ")[0] for line in pi.process.output().splitlines()]
    assert steps[:4] == ["gateway", "identity", "waiting", "approved"]
    assert steps[4] == "online"
    identity = pi.root / "node-host" / "identity"
    assert {stat.S_IMODE(file.stat().st_mode) for file in identity.iterdir()} == {0o600}
    assert stat.S_IMODE(gateway.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((gateway.root / "console.sock").stat().st_mode) == 0o600


def test_the_inventory_lists_and_shows_the_device(gateway: Gateway, pi: NodeHost) -> None:
    """``nodes list`` and ``nodes show`` tell it, as lines for scripts and as the envelope."""
    lines = [line.split("\t") for line in gateway.cli("nodes", "list").out.splitlines()]
    assert [line for line in lines if pi.device_id in line and "online" in line], lines
    items = json.loads(gateway.cli("nodes", "list", "--json").out)["nodes"]
    (item,) = (each for each in items if each["device_id"] == pi.device_id)
    assert item["name"] == "pi" and item["labels"] == {"site": "prague"}
    shown = gateway.cli("nodes", "show", "pi")
    facts = dict(line.split("\t", 1) for line in shown.out.splitlines() if "\t" in line)
    assert pi.device_id in shown.out and "site=prague" in shown.out, facts
    one = json.loads(gateway.cli("nodes", "show", pi.device_id[10:14], "--json").out)
    assert one["node"]["device_id"] == pi.device_id
    assert one["contract"] == {"contract_version": "control-plane.v1"}


def test_invoke_prints_the_output_and_nothing_else(gateway: Gateway, pi: NodeHost) -> None:
    """stdout is the output's JSON; the summary is on stderr; the job is on record."""
    done = gateway.cli("nodes", "invoke", "pi", "echo", "--input", '{"text":"hello"}')
    assert done.code == 0, done
    assert json.loads(done.out) == {"echo": {"text": "hello"}, "device_id": pi.device_id}
    assert done.err.startswith("succeeded  job ")
    job = gateway.cli("jobs", "show", done.err.split()[2])
    assert "succeeded" in job.out, job


def test_invoke_json_is_the_envelope(gateway: Gateway, pi: NodeHost) -> None:
    """``--json`` has the published keys, one object on one line, also with input on stdin."""
    done = gateway.cli("nodes", "invoke", "pi", "echo", "--input", "-", "--json", stdin="[1, null]")
    (line,) = done.out.splitlines()
    said = json.loads(line)
    assert done.code == 0 and said["success"] and said["state"] == "succeeded", done
    assert said["output_json"] == {"echo": [1, None], "device_id": pi.device_id}
    assert said["device_id"] == pi.device_id and said["capability"] == "echo"
    assert gateway.job(said["job_id"]).state == "succeeded"


def test_a_rejected_device_is_told_why_and_keeps_nothing(shared: House, gateway: Gateway) -> None:
    """``pairing reject --reason`` ends the node with 1 and the reason; no device is made."""
    node = shared.node("stranger").start(gateway.line())
    done = gateway.cli("pairing", "reject", node.asks(), "--reason", "not ours")
    assert done.code == 0, done
    assert node.process.wait() == 1
    assert "The operator rejected this device: not ours." in node.process.output()
    assert not (node.root / "node-host" / "node-host.json").exists()
    assert "stranger" not in gateway.cli("nodes", "list").out


def test_a_request_is_decided_once(shared: House, gateway: Gateway, pi: NodeHost) -> None:
    """Approving what was approved is refused with 1, and a pairing line works for one device."""
    line = gateway.line()
    first = shared.node("first").start(line)
    request = first.asks()
    gateway.approve(request)
    again = gateway.cli("pairing", "approve", request)
    assert again.code == 1 and "is already" in again.err, again
    second = shared.node("second").start(line)
    assert second.process.wait() == 1
    assert "That pairing line is wrong, expired or used up." in second.process.output()


def test_a_line_as_an_argument_is_refused(shared: House, gateway: Gateway) -> None:
    """A pairing line in the arguments would stay in the shell's history: 2, and nothing is made."""
    root = shared.path / "hasty"
    command = [script("palyra"), "node", "run", "--state-root", str(root)]
    done = run([*command, "--pairing-uri", gateway.line()], shared.path)
    assert done.code == 2 and "stays in the shell history" in done.err, done
    assert not root.exists()


def test_a_node_host_without_a_pairing_says_so(shared: House) -> None:
    """``palyra node run`` on a fresh root ends with 1 and the command that comes next."""
    node = shared.node("fresh").start()
    assert node.process.wait() == 1
    assert "is not paired." in node.process.output()
    assert "palyra node run --gateway HOST" in node.process.output()


def test_without_a_gateway_the_exit_status_is_three(shared: House) -> None:
    """Every command that needs a gateway says that none runs there, and on which state root."""
    nobody = shared.gateway("nobody")
    done = nobody.cli("nodes", "list")
    assert done.code == 3, done
    assert done.err.startswith(f"error: No gateway runs on state root {nobody.root}.\n")
    problem = json.loads(nobody.cli("jobs", "list", "--json").err)
    assert problem["code"] == "gateway_not_running"
