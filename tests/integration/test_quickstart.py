"""The promise of the README: one command, and everything has happened for real."""

from __future__ import annotations

import json

from tests.integration.house import House
from tests.integration.processes import processes_of, run, script

KEYS = {
    "state_root",
    "node_state_root",
    "console_url",
    "console_sock",
    "device_id",
    "results",
    "timings_ms",
}
CAPABILITIES = ["echo", "system.health", "system.identity"]


def test_quickstart_once_shows_three_results_and_leaves_nothing_running(house: House) -> None:
    """A fresh state root, a real pairing, three answers, exit 0, and no process stays behind."""
    root = house.path / "tour"
    done = run([script("palyra"), "quickstart", "--once", "--state-root", str(root)], house.path)
    assert done.code == 0, done
    steps = [line.split()[1] for line in done.out.splitlines() if line.startswith("ok")]
    assert steps == ["gateway", "node", *CAPABILITIES], done
    assert str(root) in done.out
    assert processes_of(root) == []
    assert not (root / "console.sock").exists()


def test_quickstart_json_is_one_object_on_one_line(house: House) -> None:
    """``--once --json`` prints the published keys, the three outputs, and nothing else."""
    root = house.path / "tour"
    command = [script("palyra"), "quickstart", "--once", "--json", "--state-root", str(root)]
    done = run(command, house.path)
    assert done.code == 0, done
    (line,) = done.out.splitlines()
    said = json.loads(line)
    assert set(said) == KEYS
    assert sorted(said["results"]) == CAPABILITIES
    assert said["results"]["echo"]["device_id"] == said["device_id"]
    assert said["results"]["system.health"]["status"]
    assert said["results"]["system.identity"]["device_id"] == said["device_id"]
    assert said["state_root"] == str(root)
    assert said["node_state_root"] == str(root / "node")
    assert said["console_sock"] == str(root / "console.sock")
    assert processes_of(root) == []
