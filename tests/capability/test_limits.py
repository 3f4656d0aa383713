"""The limits of a worker, set on itself, and the sentences that name them."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from palyra.capability.frames import Limits
from palyra.capability.limits import _tasks_of, explained, limit_of, set_limits
from palyra.errors import InputInvalid, PalyraError

from .distributions import make_capability
from .workers import MIB, RawWorker

LIMITS = Limits(memory_bytes=512 * MIB, open_files=64, file_bytes=2 * MIB, processes=32)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what there is elsewhere differs")


@LINUX
def test_they_are_set_soft_and_hard(tmp_path: Path) -> None:
    """Before a plugin is imported, so that what it does while it is imported is limited too."""
    head = """
    import resource
    NAMES = ("RLIMIT_AS", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE")
    SET = [resource.getrlimit(getattr(resource, name)) for name in NAMES]
    """
    name = make_capability(tmp_path, "acme.limits", "return SET", head=head)
    with RawWorker(name, tmp_path, limits=LIMITS) as worker:
        worker.ready()
        found = worker.run("acme.limits").output
    assert found == [[value, value] for value in (512 * MIB, 64, 2 * MIB, 0)]


class FakeResource:
    """The module, as much of it as is used; nothing of this process is limited."""

    RLIM_INFINITY = -1
    RLIMIT_AS, RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC = range(5)

    def __init__(self) -> None:
        self.set: dict[int, tuple[int, int]] = {}

    def getrlimit(self, which: int) -> tuple[int, int]:
        return (-1, 40) if which == self.RLIMIT_NOFILE else (-1, -1)

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        if which == self.RLIMIT_AS:
            raise ValueError("macOS has no such limit")
        self.set[which] = limits


@LINUX
@pytest.mark.parametrize("user", [0, 1000])
def test_what_is_lowered(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never above what it is, all but one that the system refuses, and processes not for root.

    The kernel counts all threads of a user, so those that the user has already are added.
    """
    fake = FakeResource()
    monkeypatch.setitem(sys.modules, "resource", fake)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    set_limits(LIMITS)
    processes = fake.set.pop(fake.RLIMIT_NPROC, None)
    assert fake.set == {
        fake.RLIMIT_CORE: (0, 0),
        fake.RLIMIT_FSIZE: (2 * MIB, 2 * MIB),
        fake.RLIMIT_NOFILE: (40, 40),
    }
    assert (processes is None) == (user == 0)
    assert processes is None or min(processes) > LIMITS.processes


def test_a_system_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such module: nothing is set, and nothing fails."""
    monkeypatch.setitem(sys.modules, "resource", None)
    set_limits(LIMITS)


@LINUX
def test_the_threads_of_a_user_are_counted() -> None:
    """This process is one of them; nobody runs as the other."""
    assert _tasks_of(os.getuid()) >= 1
    assert _tasks_of(2**31 - 3) == 0


@LINUX
def test_a_limit_above_what_the_host_has_changes_nothing(tmp_path: Path) -> None:
    """A worker lowers its limits and never asks for more."""
    head = "import resource\nSET = resource.getrlimit(resource.RLIMIT_NOFILE)[1]"
    name = make_capability(tmp_path, "acme.limits", "return SET", head=head)
    vast = Limits(2**63 - 1, 2**63 - 1, 2**63 - 1, 2**62)
    with RawWorker(name, tmp_path, limits=vast) as worker:
        worker.ready()
        import resource

        assert worker.run("acme.limits").output == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@LINUX
def test_it_dies_with_the_thread_that_started_it(tmp_path: Path) -> None:
    """The kernel is asked for SIGKILL, for a host that is killed itself."""
    body = """
    import ctypes
    told = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(told), 0, 0, 0)
    return told.value
    """
    name = make_capability(tmp_path, "acme.death", body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert worker.run("acme.death").output == 9


@pytest.mark.parametrize(
    ("exc", "key"),
    [
        (MemoryError(), "node.worker.memory_mib"),
        (OSError(errno.ENOMEM, "x"), "node.worker.memory_mib"),
        (ImportError("libx.so: failed to map segment from shared object"), "memory_mib"),
        (OSError(errno.EMFILE, "x"), "node.worker.open_files"),
        (OSError(errno.EFBIG, "x"), "node.worker.file_mib"),
        (RuntimeError("can't start new thread"), "node.worker.processes"),
    ],
)
def test_what_ran_into_a_limit_names_it(exc: BaseException, key: str) -> None:
    """The owner reads which setting to raise."""
    assert key in limit_of(exc, LIMITS)
    outcome = explained(exc, LIMITS)
    assert outcome.error_code == "handler_failed"
    assert outcome.error_sentence.startswith(type(exc).__name__)
    assert outcome.error_sentence.endswith(limit_of(exc, LIMITS))


@pytest.mark.parametrize("exc", [ValueError("x"), OSError(errno.ENOENT, "x"), RuntimeError("x")])
def test_other_failures_are_told_as_they_are(exc: BaseException) -> None:
    """Nothing is blamed on a limit that was not met."""
    assert limit_of(exc, LIMITS) == ""
    assert "limit" not in explained(exc, LIMITS).error_sentence


@pytest.mark.parametrize("exc", [InputInvalid("input.a", "is odd", "acme.x"), PalyraError()])
def test_our_own_errors_keep_their_code(exc: PalyraError) -> None:
    """They are told by code and sentence."""
    outcome = explained(exc, LIMITS)
    assert (outcome.error_code, outcome.error_sentence) == (exc.code, exc.sentence)
