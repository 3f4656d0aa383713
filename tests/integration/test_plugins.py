"""The example plugins as anybody would use them: built, installed, configured, granted, run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import wheels
from tests.integration.house import QUICK_NODE, Gateway, House, NodeHost, opened
from tests.integration.processes import Ran, eventually, run, script

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the examples are for POSIX systems")

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
FILES, SYSTEMD = EXAMPLES / "palyra-cap-files", EXAMPLES / "palyra-cap-systemd"
FETCH, STATUS = "files.fetch", "systemd.unit_status"
TEXT = b"shared\n"
SYSTEMCTL = """\
#!/bin/sh
echo Id=$5
echo LoadState=loaded
echo ActiveState=active
echo SubState=running
echo MainPID=7
"""
CONFIG = """\
{quick}
[node.capability."files.fetch".settings]
directories = [{directory}]

[node.capability."systemd.unit_status".settings]
units = ["nginx"]
"""


class World:
    """A gateway, and a device whose owner installs plugins while its node host runs."""

    def __init__(self, house: House) -> None:
        self.path = house.path
        self.shared = self.path / "shared"
        self.shared.mkdir()
        (self.shared / "notes.txt").write_bytes(TEXT)
        (self.path / "secret.txt").write_text("not for you")
        self.plugins = self.path / "plugins"
        self.env = {
            "PATH": f"{self._programs()}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.path / "cache"),
        }
        self.install(FILES)
        self.gateway: Gateway = house.gateway().start()
        self.node: NodeHost = house.node("pi", self.plugins)
        self.node.env = self.env
        directory = json.dumps(str(self.shared))
        config = CONFIG.format(quick=QUICK_NODE, directory=directory)
        house.write_config(self.node.root, config)
        self.node.pair(self.gateway)

    def _programs(self) -> Path:
        directory = self.path / "programs"
        directory.mkdir()
        (directory / "systemctl").write_text(SYSTEMCTL)
        (directory / "systemctl").chmod(0o755)
        return directory

    def install(self, project: Path) -> None:
        """``pip install`` on the device."""
        self._python = wheels.install(self.plugins, wheels.built(project, self.path))

    def device(self, *arguments: str) -> Ran:
        """``palyra ...`` on the device; it has to work."""
        command = [self._python, script("palyra"), *arguments, "--state-root", str(self.node.root)]
        return worked(run(command, self.path, env=self.env))

    def invoke(self, capability: str, **asked: object) -> Ran:
        """``palyra nodes invoke`` on the gateway."""
        given = ["--input", json.dumps(asked)]
        return self.gateway.cli("nodes", "invoke", "pi", capability, *given)

    def grant(self, capability: str) -> None:
        worked(self.gateway.cli("nodes", "grant", "pi", capability))

    def known(self, capability: str, **facts: object) -> bool:
        """Whether the gateway knows that capability of the device, and these facts of it."""
        listed = self.gateway.node(self.node.device_id).capabilities
        return any(
            each.name == capability and all(getattr(each, k) == v for k, v in facts.items())
            for each in listed
        )


def worked(ran: Ran) -> Ran:
    assert ran.code == 0, ran
    return ran


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened() as house:
        yield World(house)


def own_tests(project: Path, where: Path) -> str:
    """Install the wheel of a project into a clean environment and run its own tests there; the
    interpreter of that."""
    python = wheels.install(where / "home", wheels.built(project, where))
    tests = where / "project"  # without the sources: what is tested is what was installed
    shutil.copytree(project / "tests", tests / "tests")
    shutil.copy(project / "pyproject.toml", tests)
    ran = worked(run([python, "-m", "pytest", "-p", "no:cacheprovider"], tests, limit_s=120))
    assert " passed" in ran.out and "skipped" not in ran.out, ran
    return python


@pytest.mark.parametrize("project", [FILES, SYSTEMD], ids=lambda each: each.name)
def test_an_example_passes_its_own_tests(project: Path, tmp_path: Path) -> None:
    """With the kit that every author has."""
    own_tests(project, tmp_path)


def test_a_new_project_passes_its_own_tests(tmp_path: Path) -> None:
    """At once, as ``capability new`` has written it; and the conformance check after them."""
    new = [script("palyra"), "capability", "new", "printer", "--dir", str(tmp_path)]
    worked(run(new, tmp_path))
    python = own_tests(tmp_path / "palyra-cap-printer", tmp_path)
    check = [python, "-m", "palyra.testing.capability", "palyra-cap-printer"]
    checked = run([*check, "--example", 'printer.say_hello={"name":"Ana"}'], tmp_path)
    assert "ok    cancel          printer.say_hello\n" in worked(checked).out


def test_a_file_is_fetched(world: World) -> None:
    """A plugin from a wheel is listed on the device, granted when that is approved, and run."""
    listed = json.loads(world.device("capability", "list", "--json").out)["capabilities"]
    (entry,) = (each for each in listed if each["name"] == FETCH)
    assert (entry["state"], entry["distribution"]) == ("ok", "palyra-cap-files"), entry
    path = str(world.shared / "notes.txt")
    answer = json.loads(worked(world.invoke(FETCH, path=path)).out)
    assert base64.b64decode(answer["content_base64"]) == TEXT
    assert answer["sha256"] == hashlib.sha256(TEXT).hexdigest()


def test_the_owner_decides_what_may_be_fetched(world: World) -> None:
    """What is not below an allowed directory stays where it is, links or not."""
    (world.shared / "link.txt").symlink_to(world.path / "secret.txt")
    for path in (world.path / "secret.txt", world.shared / "link.txt"):
        refused = world.invoke(FETCH, path=str(path))
        assert refused.code == 1 and refused.out == "" and "is not fetched" in refused.err
    wrong = world.invoke(FETCH, path=7, file="x")
    assert wrong.code == 1 and "input.path" in wrong.err and "input.file" in wrong.err


def test_a_plugin_is_installed_while_the_node_runs(world: World) -> None:
    """After a reload the gateway knows it; it runs once it is granted, as its owner configured."""
    assert not world.known(STATUS)
    world.install(SYSTEMD)
    world.device("node", "reload")
    eventually(lambda: world.known(STATUS, granted=False), "the gateway knows of it")
    assert STATUS in world.gateway.cli("nodes", "show", "pi").out
    assert world.invoke(STATUS, unit="nginx").code == 1
    world.grant(STATUS)
    answer = json.loads(worked(world.invoke(STATUS, unit="nginx")).out)
    assert (answer["unit"], answer["active"], answer["main_pid"]) == ("nginx.service", "active", 7)
    assert "owner allows" in world.invoke(STATUS, unit="sshd").err


def test_a_riskier_version_has_to_be_granted_again(world: World) -> None:
    """Its grant was for what the plugin was; an operator sees what it has become.

    The owner, who would be asked about what is so risky, has allowed it by a rule.
    """
    rules = world.node.root / "node-host" / "node-policy.toml"
    rules.write_text(f'[[rule]]\nid = "ours"\neffect = "allow"\ncapability = ["{FETCH}"]\n')
    rules.chmod(0o600)
    world.install(_riskier(world.path))
    world.device("node", "reload")
    eventually(lambda: world.known(FETCH, risk="high", changed=True), "the gateway knows of it")
    path = str(world.shared / "notes.txt")
    suspended = world.invoke(FETCH, path=path)
    assert suspended.code == 1 and "has changed since it was granted" in suspended.err, suspended
    world.grant(FETCH)
    assert worked(world.invoke(FETCH, path=path)).code == 0


def _riskier(where: Path) -> Path:
    """The next version of the example, which is of high risk."""
    project = shutil.copytree(FILES, where / "riskier")
    for name, old, new in (
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"'),
        ("src/palyra_cap_files/plugin.py", "Risk.MEDIUM", "Risk.HIGH"),
    ):
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))
    return project
