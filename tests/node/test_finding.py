"""Tests of :mod:`palyra.node.finding`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from palyra.capability.catalogue import Catalogue, Fault
from palyra.config.node import CapabilitySection, NodeSection, WorkerSection
from palyra.errors import ConfigInvalid, Malformed
from palyra.node.finding import CACHE, Finding, find_once, not_installed, pool_settings, wishes_of
from palyra.plugins.discovery import Discovery
from tests.node.fakes import catalogue
from tests.plugins.test_described import descriptor
from tests.plugins.test_discovery import Said


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is said of plugins in the log."""
    kept: list[str] = []

    def keep(event: LogEvent) -> None:
        if event["log_namespace"] == "palyra.node.finding":
            kept.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    yield kept
    globalLogPublisher.removeObserver(keep)


def test_the_section_says_what_is_wanted() -> None:
    """A capability is switched off in either of two places."""
    section = NodeSection(
        in_process=("echo",),
        disabled=("a.*",),
        capability={
            "b.c": CapabilitySection(enabled=False),
            "b.d": CapabilitySection(settings={"root": "/"}),
        },
    )
    wishes = wishes_of(section)
    assert wishes.runs_here("echo") and not wishes.runs_here("system.health")
    assert wishes.switched_off("a.x") and wishes.switched_off("b.c")
    assert not wishes.switched_off("b.d")
    assert wishes.settings == {"b.d": {"root": "/"}}


def test_limits_are_the_sections() -> None:
    """In the units of a worker."""
    settings = pool_settings(WorkerSection(memory_mib=2, file_mib=1, user="nobody", idle_s=5))
    assert settings.limits.memory_bytes == 2 * 1024 * 1024
    assert settings.limits.file_bytes == 1024 * 1024
    assert (settings.user, settings.idle_s, settings.max_workers) == ("nobody", 5, 4)


def test_a_name_that_nothing_has_is_told() -> None:
    """Whoever misspells a name would wonder why nothing happens."""
    section = NodeSection(
        capability={name: CapabilitySection() for name in ("test.act", "x.broken", "test.akt")}
    )
    known = Catalogue(catalogue().offers.values(), [Fault("x.broken", "x", "1", "It is broken.")])
    assert not_installed(section, known) == ["test.akt"]


def test_what_is_installed_is_found_once(tmp_path: Path) -> None:
    """By processes of its own, none of which is left; also where nothing can be kept."""
    found = find_once(NodeSection(disabled=("system.*",)), tmp_path / "cache")
    assert "echo" in found.offers and "system.health" not in found.offers
    (tmp_path / "file").write_text("")
    assert "echo" in find_once(NodeSection(), tmp_path / "file").offers
    assert not (tmp_path / "cache" / CACHE).exists()  # there was nothing to keep


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such users")
def test_a_user_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Plugins would run with other rights than their owner thinks."""
    section = NodeSection(worker=WorkerSection(user="nobody-of-that-name"))
    with pytest.raises(Malformed):
        find_once(section, tmp_path)


class World:
    """A configuration file, and a plugin that is described without a worker."""

    def __init__(self, path: Path) -> None:
        self.file = path / "palyra.toml"
        self._discovery = Discovery(lambda _: Said([descriptor()]), path=[])

    def make(self) -> Finding:
        return Finding(self.file, self._discovery)

    def write(self, text: str) -> None:
        self.file.write_text(text)


def test_the_configuration_is_read_every_time(tmp_path: Path, log: list[str]) -> None:
    """As it is then; what is wrong with it is the answer, and it must not vanish."""
    world = World(tmp_path)
    finding = world.make()
    assert finding.find().faults == ()
    world.write('[node.capability."acme.skan"]\nenabled = false\n')
    finding.find()
    assert log == ["palyra.toml configures acme.skan, which no plugin here has"]
    world.write("[node]\ndisabled = 5\n")
    with pytest.raises(ConfigInvalid, match=r"node\.disabled"):
        finding.find()
    world.file.unlink()
    with pytest.raises(ConfigInvalid, match="does not exist"):
        finding.find()


def test_faults_are_logged(tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that somebody can mend; not what the owner has switched off."""
    world = World(tmp_path)
    faults = [
        Fault("printer.print", "palyra-cap-printer", "1.2", "No module named 'cups'"),
        Fault("a.b", "acme", "1", "It is switched off on this device.", by_owner=True),
    ]
    monkeypatch.setattr(Discovery, "find", lambda *_: Catalogue([], faults))
    world.make().find()
    (line,) = log
    assert line == (
        "palyra-cap-printer 1.2 cannot be used (printer.print): No module named 'cups'. "
        "The other plugins run."
    )
