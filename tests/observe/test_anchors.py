"""Promises of where heads are given to."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from palyra.config.audit import AuditSection
from palyra.core.audithead import Head, anchors_in
from palyra.observe.anchors import AnchorFile, LogSink, SystemLog, sinks

HEAD = Head("01JZ0000000000000000000000", 3, bytes(32), 99, signature=bytes(64))


def test_the_log_has_it_as_a_line() -> None:
    """As it is found again."""
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        LogSink()(HEAD)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert [*anchors_in(event["line"] for event in logged)] == [HEAD]


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    """A line a head, for its owner alone; what is there stays."""
    file = tmp_path / "anchors"
    file.write_text("before\n")
    AnchorFile(file)(HEAD)
    AnchorFile(file)(HEAD)
    assert file.read_text() == f"before\n{HEAD.line}\n{HEAD.line}\n"
    AnchorFile(tmp_path / "new")(HEAD)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_the_systems_log_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a security message of palyra."""
    syslog = pytest.importorskip("syslog")
    said: list[Any] = []
    monkeypatch.setattr(syslog, "openlog", lambda *given: said.append(given[0]))
    monkeypatch.setattr(syslog, "syslog", lambda *given: said.append(given[1]))
    monkeypatch.setattr(syslog, "closelog", lambda: None)
    SystemLog()(HEAD)
    assert said == ["palyra", HEAD.line]


def test_the_configuration_names_them(tmp_path: Path) -> None:
    """Each once, in their order; a file of the state root where its path is relative."""
    found = sinks(AuditSection(anchors=("log", "syslog", "log"), anchor_file="heads"), tmp_path)
    assert [type(each) for each in found] == [LogSink, SystemLog, AnchorFile]
    found[2](HEAD)
    assert (tmp_path / "heads").exists()
    assert [type(each) for each in sinks(AuditSection(), tmp_path)] == [LogSink]
