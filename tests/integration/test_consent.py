"""The owner of a device has the last word, in real processes: rules, questions, choices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.console.models import GrantNode, JobAnswer, NodeAnswer
from tests.capability.distributions import make_capability
from tests.integration.house import QUICK_NODE, Gateway, House, NodeHost, opened
from tests.integration.processes import Ran, eventually, run, script

ASKS = 'needs_mediation=True, risk=Risk.HIGH, output_type=str, version="{version}"'
WATCHED = f'{QUICK_NODE}mediation = "requests"\n'
"""Somebody looks at what the node is asked, and answers with commands."""


class Owned:
    """A gateway, a node with a capability that asks its owner, and the owner's commands."""

    def __init__(self, house: House) -> None:
        self.plugins = house.path / "plugins"
        self.offer("1.0", 'return f"opened {input}"')
        make_capability(self.plugins, "door.look", "return 'closed'", options="output_type=str")
        self.gateway: Gateway = house.gateway().start()
        self.node: NodeHost = house.node("pi", self.plugins)
        house.write_config(self.node.root, WATCHED)
        self.node.pair(self.gateway)
        self._house = house
        self.grant()

    def offer(self, version: str, body: str) -> None:
        """What the device's owner has installed."""
        options = ASKS.format(version=version)
        make_capability(self.plugins, "door.open", body, options=options, version="1.0")

    def grant(self) -> None:
        body = GrantNode(grant=["door.open", "door.look"])
        self.gateway.console.post(f"devices/{self.node.device_id}/grants", body, NodeAnswer)

    def cli(self, *arguments: str) -> Ran:
        """``palyra node ...`` on the device."""
        command = [script("palyra"), "node", *arguments, "--state-root", str(self.node.root)]
        return run(command, self._house.path)

    def says(self, *arguments: str) -> Ran:
        done = self.cli(*arguments)
        assert done.code == 0, done
        return done

    def ask(self, door: str) -> str:
        """Ask for a door; the job's id."""
        return self.gateway.submit(
            self.node.device_id, "door.open", json.dumps({"door": door}).encode()
        )

    def asked(self, job_id: str) -> str:
        """Wait until the owner is asked; what the command calls the question."""

        def look() -> str | None:
            listed = json.loads(self.says("requests", "--json").out)["requests"]
            found = (each["request_id"] for each in listed if each["job_id"] == job_id)
            return next(found, None)

        return eventually(look, "the owner is asked")

    def rules(self, text: str) -> None:
        """Write the rules, and have them read."""
        file = self.node.root / "node-host" / "node-policy.toml"
        file.write_text(text)
        file.chmod(0o600)
        self.says("reload")


@pytest.fixture(scope="module")
def owned() -> Iterator[Owned]:
    with opened() as house:
        yield Owned(house)


def said(answer: JobAnswer) -> tuple[str, str]:
    """Which choice was made on the device, and by whom, as the gateway knows it."""
    assert answer.job.mediation is not None
    assert answer.job.mediation.decided_at_unix_ms is not None
    return answer.job.mediation.choice, answer.job.mediation.decided_by


def test_a_yes_by_command_lets_it_run_once(owned: Owned) -> None:
    """The job says that a person is asked, then who said yes and when; the next one asks again."""
    first = owned.ask("front")
    request = owned.asked(first)
    waiting = owned.gateway.job(first)
    assert waiting.state == "awaiting_local_mediation"
    assert waiting.mediation is not None and waiting.mediation.asked_at_unix_ms
    owned.says("allow", request)
    answer = owned.gateway.ended(first)
    assert answer.job.state == "succeeded", answer
    choice, by = said(answer)
    assert choice == "once" and by.endswith("with palyra node allow"), by
    shown = owned.gateway.cli("jobs", "show", first)
    assert f"allowed once by {by}" in shown.out, shown
    second = owned.ask("front")
    owned.says("deny", owned.asked(second))
    refused = owned.gateway.ended(second)
    assert (refused.job.state, refused.job.error_code) == ("rejected", "mediation_denied")
    assert said(refused)[0] == "no"


def test_always_is_for_what_was_shown_and_can_be_forgotten(owned: Owned) -> None:
    """The same input is not asked again, not even after a restart; another one is."""
    first = owned.ask("garage")
    owned.says("allow", owned.asked(first), "--always")
    assert owned.gateway.ended(first).job.state == "succeeded"
    owned.node.process.close()
    owned.node.start()
    owned.gateway.online(owned.node.device_id)
    again = owned.gateway.ended(owned.ask("garage"))
    assert again.job.state == "succeeded" and said(again)[0] == "always", again
    other = owned.ask("cellar")
    owned.says("deny", owned.asked(other))
    assert owned.gateway.ended(other).job.state == "rejected"
    listed = json.loads(owned.says("requests", "--remembered", "--json").out)
    assert len(listed["choices"]) == 1, listed
    owned.says("forget", listed["choices"][0]["choice_id"])
    asked = owned.ask("garage")
    owned.says("deny", owned.asked(asked))
    assert owned.gateway.ended(asked).job.state == "rejected"


def test_rules_of_the_owner_are_above_everything(owned: Owned) -> None:
    """A rule denies what the gateway allows, or allows it without a question; both are named."""
    owned.rules(
        '[[rule]]\nid = "no-cellar"\neffect = "deny"\ncapability = ["door.*"]\n'
        'input = [{ path = "/door", equals = "cellar" }]\n'
        '[[rule]]\nid = "front"\neffect = "allow"\ncapability = ["door.open"]\n'
    )
    denied = owned.gateway.ended(owned.ask("cellar"))
    assert (denied.job.state, denied.job.error_code) == ("rejected", "device_policy_denied")
    assert denied.error == "The owner of pi does not allow this (rule: no-cellar)."
    assert said(denied) == ("no", "rule no-cellar")
    allowed = owned.gateway.ended(owned.ask("front"))
    assert allowed.job.state == "succeeded" and said(allowed) == ("rule", "rule front")
    assert "palyra" not in allowed.job.note
    (owned.node.root / "node-host" / "node-policy.toml").unlink()
    owned.says("reload")


def test_rules_that_mean_nothing_change_nothing(owned: Owned) -> None:
    """A bad file is refused by its path, and the rules before it stand."""
    owned.rules('[[rule]]\neffect = "deny"\ncapability = ["door.look"]\n')
    file = Path(owned.node.root) / "node-host" / "node-policy.toml"
    file.write_text('[[rule]]\neffect = "alow"\n')
    reload = owned.cli("reload")
    assert reload.code == 1 and "rule[0].effect" in reload.err + reload.out, reload
    job_id = owned.gateway.submit(owned.node.device_id, "door.look")
    assert owned.gateway.ended(job_id).job.error_code == "device_policy_denied"
    file.unlink()
    owned.says("reload")
    job_id = owned.gateway.submit(owned.node.device_id, "door.look")
    assert owned.gateway.ended(job_id).job.state == "succeeded"


def test_a_changed_capability_waits_for_a_new_grant(owned: Owned) -> None:
    """A reload finds another contract under a granted name: nothing of it runs before an operator
    has granted it again."""
    options = 'risk=Risk.HIGH, output_type=str, version="2.0"'
    make_capability(owned.plugins, "door.look", "return 'ajar'", options=options)
    info = owned.plugins / "door_look-1.0.dist-info"
    (info / "RECORD").write_text((info / "RECORD").read_text() + "\n")
    owned.says("reload")

    def changed() -> bool:
        items = owned.gateway.node(owned.node.device_id).capabilities
        return any(each.name == "door.look" and each.changed for each in items)

    eventually(changed, "the gateway has noticed")
    asked = owned.gateway.cli("nodes", "invoke", "pi", "door.look")
    assert asked.code == 1 and "has changed since it was granted" in asked.err, asked
    assert "changed since it was granted" in owned.gateway.cli("nodes", "show", "pi").out
    granted = owned.gateway.cli("nodes", "grant", "pi", "door.look")
    assert granted.code == 0, granted
    job_id = owned.gateway.submit(owned.node.device_id, "door.look")
    owned.says("allow", owned.asked(job_id))
    assert bytes(owned.gateway.ended(job_id).output_json) == b'"ajar"'


def test_nobody_runs_nobody_answers(house: House) -> None:
    """Without a node host the commands say so, and that nothing could be reached."""
    node = house.node("none")
    command = [script("palyra"), "node", "requests", "--state-root", str(node.root)]
    done = run(command, house.path)
    assert done.code == 3 and "No node host runs" in done.err, done
