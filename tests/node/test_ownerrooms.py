"""Tests of :mod:`palyra.node.ownerrooms`, and of what a node host makes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from palyra.cli.nodehost import NodeHost, NodeHostRefused
from palyra.errors import ConfigInvalid, SocketPathTooLong, StoreCorrupt
from palyra.node.controlwords import (
    Allow,
    DecidedAnswer,
    Reload,
    ReloadedAnswer,
    Remembered,
    RememberedAnswer,
    Requests,
    RequestsAnswer,
    Status,
    StatusAnswer,
    Stop,
    StoppingAnswer,
)
from palyra.node.files import NodeFiles
from palyra.node.mediation import Answer
from palyra.node.ownerrooms import OwnerRooms
from tests.node.awaiting import awaiting
from tests.node.fakes import DEVICE_ID, NOW_MS, dispatch
from tests.node.test_owner import PAGE, URL

# The fixture is used by its name.
from tests.node.test_service import Paired, Seen, paired  # noqa: F401


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    made = NodeFiles(tmp_path)
    made.make()
    return made


def opened(files: NodeFiles, mode: Any = "requests") -> OwnerRooms:
    return OwnerRooms.open(
        files,
        "pi",
        mode=mode,
        terminal=None,
        dialogs=None,
        now_ms=lambda: NOW_MS,
        entropy=os.urandom,
    )


def test_what_is_refused_before_anything_runs(files: NodeFiles) -> None:
    """Rules that cannot be used, a memory that cannot be read, a path that is too long."""
    files.policy.write_text("[[rule]]\neffect = 'maybe'\n")
    with pytest.raises(ConfigInvalid, match=r"node-policy.toml: rule\[0\].effect"):
        opened(files)
    files.policy.unlink()
    files.consents.mkdir()
    with pytest.raises(StoreCorrupt):
        opened(files)
    with pytest.raises(SocketPathTooLong):
        opened(NodeFiles(files.state_root / ("x" * 120)))


def test_rules_are_read_again(files: NodeFiles) -> None:
    """A file with a fault changes nothing, and the fault is named."""
    files.policy.write_text("[[rule]]\neffect = 'deny'\n")
    files.policy.chmod(0o600)
    rooms = opened(files)
    before = rooms.owner.policy
    files.policy.write_text("[[rule]]\neffect = 'maybe'\n")
    (sentence,) = rooms.reload_policy()
    assert sentence.startswith("The rules stay as they were: ")
    assert "rule[0].effect" in sentence
    assert rooms.owner.policy is before
    files.policy.unlink()
    assert rooms.reload_policy() == []
    assert rooms.owner.policy.rules == ()


async def ask(service_root: Path, asked: Any, kind: Any) -> Any:
    """As the command asks."""
    host = NodeHost(service_root)
    return (await deferToThread(host.ask, asked, kind)).value


@awaiting
async def test_a_node_host_answers_its_owner(paired: Paired) -> None:  # noqa: F811
    """How it is, what it takes anew, and that it ends; the socket goes with it."""
    stopped: list[bool] = []
    watcher = Seen()
    service = paired.service(watcher)
    service._stop_process = lambda: stopped.append(True)
    root = paired.files.state_root
    service.startService()
    try:
        await watcher.missed
        status = await ask(root, Status(), StatusAnswer)
        assert (status.state, status.name, status.device_id) == ("offline", "pi", DEVICE_ID)
        assert (status.pid, status.transport, status.jobs) == (os.getpid(), "", 0)
        assert (status.capabilities.count, status.requests) == (3, 0)
        paired.files.policy.write_text("[[rule]]\neffect = 'allow'\n")
        paired.files.policy.chmod(0o600)
        reloaded = await ask(root, Reload(), ReloadedAnswer)
        assert (reloaded.capabilities, reloaded.rules, reloaded.kept) == (3, 1, [])
        paired.files.policy.write_text("rule = 1")
        reloaded = await ask(root, Reload(), ReloadedAnswer)
        assert reloaded.rules == 1 and "node-policy.toml" in reloaded.kept[0]
        assert (await ask(root, Stop(), StoppingAnswer)).pid == os.getpid()
        assert stopped == [True]
    finally:
        await service.stopService()
    assert not paired.files.control.exists()
    assert paired.unlocked()


@awaiting
async def test_from_a_question_to_a_choice_on_disk(files: NodeFiles) -> None:
    """By the command: it is listed, allowed for always, and not asked again by the next host."""
    from twisted.internet import reactor

    rooms = opened(files)
    refuse: Any = lambda: 1 / 0  # noqa: E731
    rooms.serve(reactor, elapsed_s=lambda: 0.0, status=refuse, reload=refuse, stop=refuse)
    answers: list[Answer] = []
    try:
        given = dispatch(1, URL.name, input_json=PAGE)
        decided: Deferred[Answer] = rooms.owner.decide(given, URL, 120.0)
        decided.addCallback(answers.append)
        (item,) = (await ask(files.state_root, Requests(), RequestsAnswer)).requests
        assert (item.opens, item.scope, item.left_ms) == (
            "https://example.org/a?b=c",
            "https://example.org",
            120_000,
        )
        with pytest.raises(NodeHostRefused, match="No open question is called ZZZZ"):
            await ask(files.state_root, Allow("ZZZZ"), DecidedAnswer)
        with pytest.raises(NodeHostRefused, match="No open question"):
            await ask(files.state_root, Allow(item.job_id), DecidedAnswer)
        await ask(files.state_root, Allow(item.request_id, "always"), DecidedAnswer)
        assert answers[0].choice == "always"
        assert answers[0].decided_by.endswith(" with palyra node allow")
        kept = await ask(files.state_root, Remembered(), RememberedAnswer)
        assert [each.scope for each in kept.choices] == ["https://example.org"]
    finally:
        await rooms.stop()
    again = opened(files).owner.decide(dispatch(2, URL.name, input_json=PAGE), URL, 120.0)
    assert again.result == answers[0]
