"""Tests of what conftest.py holds every test to."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty suite under this project's conftest.py."""
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(conftest)
    return pytester


def run(suite: pytest.Pytester, body: str) -> pytest.RunResult:
    suite.makepyfile(body)
    return suite.runpytest_subprocess("--reactor=asyncio", "-p", "no:cacheprovider")


def test_a_delayed_call_left_behind_fails_the_test(suite: pytest.Pytester) -> None:
    """A test that leaves a call in the reactor does not pass, and the next one is not blamed."""
    result = run(
        suite,
        """
        def test_leaks():
            from twisted.internet import reactor
            reactor.callLater(3600, print)

        def test_next():
            pass
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*delayed call left behind*"])


def test_an_unhandled_failure_fails_the_test(suite: pytest.Pytester) -> None:
    """A Deferred that is dropped with its failure fails the test, in a reference cycle too."""
    result = run(
        suite,
        """
        from twisted.internet import defer

        def test_drops():
            defer.fail(ValueError("nobody looked"))

        def test_drops_a_cycle():
            deferred = defer.fail(ValueError("nobody looked"))
            deferred.itself = deferred
        """,
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*unhandled failure in a Deferred*ValueError*"])


def test_an_expected_failure_can_be_flushed(suite: pytest.Pytester) -> None:
    """A test that asks for its unhandled failures may have them."""
    result = run(
        suite,
        """
        from twisted.internet import defer

        def test_expects(unhandled_failures):
            defer.fail(ValueError("somebody looks"))
            assert "ValueError" in unhandled_failures.flush()[0]
        """,
    )
    result.assert_outcomes(passed=1)


def test_awaiting_works_under_the_asyncio_reactor(suite: pytest.Pytester) -> None:
    """pytest-twisted runs coroutine tests on Twisted's asyncio reactor."""
    result = run(
        suite,
        """
        import pytest_twisted
        from twisted.internet import task
        from twisted.internet.asyncioreactor import AsyncioSelectorReactor

        @pytest_twisted.ensureDeferred
        async def test_awaits():
            from twisted.internet import reactor
            assert isinstance(reactor, AsyncioSelectorReactor)
            assert await task.deferLater(reactor, 0, lambda: 7) == 7
        """,
    )
    result.assert_outcomes(passed=1)
