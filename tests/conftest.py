"""What every test is held to: it leaves no delayed call and no unhandled Deferred failure behind.

pytest-twisted installs the reactor when pytest is configured, so nothing here may import it while
this module is loaded.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

DEFERRED_NAMESPACE = "twisted.internet.defer"

# The same examples in every run, so that a run that passed passes again; HYPOTHESIS_PROFILE=search
# looks for new ones.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@implementer(ILogObserver)
class UnhandledFailures:
    """A log observer that keeps what Deferreds report when they are collected with a failure."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") != DEFERRED_NAMESPACE or "log_failure" not in event:
            return
        if event["log_level"] is LogLevel.critical:
            self.seen.append(event["log_failure"].getBriefTraceback())

    def flush(self) -> list[str]:
        """Take what was seen: the way for a test to expect an unhandled failure."""
        gc.collect(1)
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def collected() -> Iterator[None]:
    """For a test whose port cannot be bound: Twisted before 25 leaves the socket to the collector,
    which would complain of it in whatever test comes next."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


LONG = (
    "tests/adversarial/",
    "tests/fuzz/",
    "tests/integration/",
    "tests/simulation/",
    "tests/test_benchmarks.py",
    "tests/workers/",
)
SHARED = (
    "tests/store/test_postgres.py",
    "tests/store/test_sqlite.py",
)
"""Long as well; with the oldest version of every requirement they run all the same."""
EVERYWHERE = (
    "tests/integration/test_by_hand.py",
    "tests/integration/test_kill.py",
    "tests/integration/test_quickstart.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ``TEST_SHARE=2/3`` run only the second third of the long suites, file by file.

    They prove our own rules, with sockets, seeds and processes: where the same tests run under
    several interpreters, each of them takes a share.  ``TEST_SHARE=0/1`` leaves them out, but for
    those that are ``SHARED``.
    """
    share = os.environ.get("TEST_SHARE")
    if not share:
        return
    number, of = (int(part) for part in share.split("/"))
    files = {_file(item) for item in items}
    suites = (*LONG, *SHARED) if number else LONG
    long = sorted(file for file in files if file.startswith(suites) and file not in EVERYWHERE)
    left_out = {file for index, file in enumerate(long) if index % of != number - 1}
    dropped = [item for item in items if _file(item) in left_out]
    items[:] = [item for item in items if _file(item) not in left_out]
    config.hook.pytest_deselected(items=dropped)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def delayed_calls() -> list[IDelayedCall]:
    """The calls that wait in the reactor, if one is installed."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return [] if reactor is None else list(reactor.getDelayedCalls())


@pytest.fixture(autouse=True)
def unhandled_failures() -> Iterator[UnhandledFailures]:
    """Fail a test that leaves a delayed call or an unhandled Deferred failure behind.

    Only the younger generations are collected: what a test made and dropped is there, and a full
    collection after each test would take longer than the tests.
    """
    failures = UnhandledFailures()
    before = delayed_calls()
    globalLogPublisher.addObserver(failures)
    try:
        yield failures
        unhandled = failures.flush()
    finally:
        globalLogPublisher.removeObserver(failures)
    left = [call for call in delayed_calls() if call not in before]
    for call in left:
        call.cancel()
    problems = [f"delayed call left behind: {call}" for call in left]
    problems += [f"unhandled failure in a Deferred: {text}" for text in unhandled]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
