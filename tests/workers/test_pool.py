"""Tests of :mod:`palyra.workers.pool` with real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from palyra.capability.catalogue import Offer
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.errors import Malformed
from palyra.workers.pool import PoolSettings, WorkerPool
from tests.capability.distributions import make_capability, make_distribution

from .pools import LIMITS, PATIENCE_S, Host, hosting, lives, pid_in, until

PID = "return os.getpid()"
WAIT = "await asyncio.Event().wait()"
BLOCK = "time.sleep(600)"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and exit statuses of POSIX")


def waiting(file: Path, then: str = WAIT) -> str:
    """The body of a handler that says that it began, and then does something."""
    return f"open({str(file)!r}, 'w').write(f'{{os.getpid()}}\\n')\n{then}"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host with a pool of four workers."""
    with hosting(tmp_path) as each:
        yield each


def test_describe(host: Host) -> None:
    """A worker says what its distribution offers, and ends."""
    offer = host.offer("acme.count", options="idempotent=True, timeout_s=3")
    said = offer.descriptor
    assert (said.distribution, said.version, said.name) == ("acme-count", "1.0", "acme.count")
    assert (said.idempotent, said.timeout_ms) == (True, 3000)
    assert host.pids() == []


def test_describe_names_what_is_wrong(host: Host, tmp_path: Path) -> None:
    """A plugin that cannot be imported, and a process that dies over it, are faults."""
    make_distribution(
        tmp_path, "broken", "1.0", {"broken": "import nothing_there"}, {"b": "broken"}
    )
    make_distribution(
        tmp_path, "dying", "1.0",
        {"dying": "import os, sys; print('so long', file=sys.stderr, flush=True); os._exit(3)"},
        {"d": "dying"},
    )  # fmt: skip
    said = host.pool.describe("broken")
    assert said.descriptors == ()
    assert "nothing_there" in said.faults[0].sentence
    said = host.pool.describe("dying")
    assert [each.name for each in said.faults] == ["dying"]
    assert "it exited with status 3; its last line: so long." in said.faults[0].sentence


def test_describe_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A plugin that never ends its import is a fault, and nothing of it is left."""
    make_distribution(
        tmp_path, "slow", "1.0", {"slow": "import time; time.sleep(600)"}, {"s": "slow"}
    )
    with hosting(tmp_path, start_s=0.5) as host:
        said = host.pool.describe("slow")
        assert "it was not ready in 0.5 s" in said.faults[0].sentence


def test_describe_without_an_interpreter(tmp_path: Path) -> None:
    """A worker that cannot be started is a fault with the system's words."""
    with hosting(tmp_path, argv=[str(tmp_path / "none")]) as host:
        said = host.pool.describe("any")
        assert "it could not be started: No such file or directory" in said.faults[0].sentence


def test_run(host: Host) -> None:
    """A run brings what its handler returns, and its progress, from another thread."""
    offer = host.offer("acme.echo", "context.progress(0.5, 'half')\nreturn input")
    threads = []

    def done(outcome: Outcome) -> None:
        threads.append(threading.current_thread())
        host.outcomes.put(outcome)

    host.start(offer, b'{"a": [1, 2]}', on_done=done)
    assert host.outcome() == Outcome(OutcomeKind.SUCCEEDED, b'{"a":[1,2]}')
    assert host.progress == [(0.5, "half")]
    assert threads[0] is not threading.current_thread()


def test_a_large_input_and_output(host: Host) -> None:
    """What does not fit a pipe at once gets through whole, in both directions."""
    offer = host.offer("acme.echo")
    raw = b'"' + b"x" * 2_000_000 + b'"'
    assert host.run(offer, raw, max_output_bytes=3_000_000).output == raw


def test_workers_are_kept(host: Host) -> None:
    """One run after the other is worked on by the same process."""
    offer = host.offer("acme.pid", PID)
    assert len({host.run(offer).output for _ in range(5)}) == 1


def test_errors_keep_their_words(host: Host) -> None:
    """An exception of a handler is a failure with one line; the worker lives on."""
    offer = host.offer("acme.fail", "if input: raise ValueError('no\\nway')\nreturn os.getpid()")
    before = host.run(offer, b"0").output
    outcome = host.run(offer, b"1")
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "handler_failed")
    assert outcome.error_sentence == "ValueError: no"
    assert host.run(offer, b"0").output == before


@pytest.mark.parametrize("raw", [b"{", b'1,"settings":2', b'{"a":1}}', b"nul"])
def test_input_stays_input(host: Host, raw: bytes) -> None:
    """What is no JSON is refused before any worker hears of it."""
    outcome = host.run(host.offer("acme.echo"), raw)
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "input_invalid")
    assert host.pids() == []


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_tiny_limit_of_the_output_is_no_fault_of_the_worker(host: Host, limit: int) -> None:
    """A caller who wants hardly any output hears what was wrong; the worker lives on."""
    offer = host.offer("acme.fail", "if input: raise ValueError('no')\nreturn 1000")
    errors = [host.run(offer, raw, max_output_bytes=limit).error_code for raw in (b"1", b"0")]
    assert errors == ["handler_failed", "payload_too_large"]
    assert len(host.pids()) == 1


def test_settings_reach_the_handler(host: Host) -> None:
    """A handler finds what the owner configured."""
    offer = host.offer(
        "acme.set",
        "return context.settings.colour",
        head="import msgspec\n"
        "class Settings(msgspec.Struct, forbid_unknown_fields=True):\n    colour: str",
        options="settings_type=Settings",
    )
    configured = Offer(offer.descriptor, settings=b'{"colour": "red"}')
    assert host.run(configured).output == b'"red"'


def test_deadline(host: Host) -> None:
    """A handler that awaits too long is ended; the next run has a worker of its own."""
    offer = host.offer("acme.wait", f"if input: {WAIT}\nreturn os.getpid()")
    pid = host.run(offer, b"0").output
    outcome = host.run(offer, b"1", in_s=0.2)
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, True)
    assert outcome.error_sentence == "acme.wait ran out of time."
    assert not lives(int(pid))
    assert host.run(offer, b"0").kind is OutcomeKind.SUCCEEDED
    assert host.changes.empty()


def test_the_deadline_goes_on_while_the_machine_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait does not: once the machine is awake the run is soon found to be over."""
    monkeypatch.setattr("palyra.workers.pool._LONGEST_WAIT_S", 0.01)
    slept_s = [0.0]
    host = Host(tmp_path, clock=lambda: time.monotonic() + slept_s[0])
    try:
        offer = host.offer("acme.wait", waiting(tmp_path / "pid"))
        host.start(offer, in_s=3600)
        until((tmp_path / "pid").exists, "it runs")
        slept_s[0] = 7200
        outcome = host.outcome()
        assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, True)
    finally:
        host.pool.close()


def test_deadline_already_over(host: Host) -> None:
    """A run whose deadline has passed never begins."""
    outcome = host.run(host.offer("acme.echo"), in_s=-1)
    assert outcome.error_sentence == "acme.echo ran out of time before it began."


def test_cancel(host: Host, tmp_path: Path) -> None:
    """A cancelled handler is ended at once; cancelling again does nothing."""
    offer = host.offer("acme.wait", waiting(tmp_path / "pid"))
    run = host.start(offer)
    pid = pid_in(tmp_path / "pid")
    run.cancel()
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, True)
    assert outcome.error_sentence == "acme.wait was cancelled."
    run.cancel()
    assert host.outcomes.empty() and not lives(pid)


@POSIX
def test_what_a_cancelled_run_left_has_stopped_too(host: Host, tmp_path: Path) -> None:
    """``stopped`` is said when also the processes are gone that the handler has started."""
    body = (
        "child = await asyncio.create_subprocess_exec('sleep', '600')\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{child.pid}}\\n')\n"
        "await child.wait()"
    )
    run = host.start(host.offer("acme.copy", body))
    child = pid_in(tmp_path / "pid")
    run.cancel()
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, True)
    assert not lives(child)


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_does_not_stop_is_killed(host: Host, tmp_path: Path, cancelled: bool) -> None:
    """A handler that blocks is killed after the grace: it has stopped, and it is told so."""
    offer = host.offer("acme.block", waiting(tmp_path / "pid", BLOCK))
    run = host.start(offer, in_s=PATIENCE_S if cancelled else 3.0)
    pid = pid_in(tmp_path / "pid")
    if cancelled:
        run.cancel()
    outcome = host.outcome()
    kind = OutcomeKind.CANCELLED if cancelled else OutcomeKind.TIMED_OUT
    assert (outcome.kind, outcome.stopped) == (kind, True)
    assert not lives(pid)
    assert host.changes.empty()


@POSIX
@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("os._exit(3)", "it exited with status 3"),
        ("os.kill(os.getpid(), 9)", "it was killed by signal 9 (SIGKILL), out of memory perhaps"),
        ("os.kill(os.getpid(), 11)", "it was killed by signal 11 (SIGSEGV)"),
    ],
)  # fmt: skip
def test_death_in_a_run(host: Host, body: str, cause: str) -> None:
    """A worker that dies in a run: the run failed, with how it ended and its last words."""
    offer = host.offer("acme.die", f"os.write(2, b'oh dear.\\n')\n{body}")
    outcome = host.run(offer)
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "worker_died")
    assert outcome.error_sentence == (
        f"The process that ran acme.die ended: {cause}; its last line: oh dear."
    )
    assert outcome.stopped


@POSIX
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_worker_that_dies_between_two_runs(host: Host, idempotent: bool) -> None:
    """An idempotent run is given to another one; what is not is never sent twice."""
    offer = host.offer("acme.pid", PID, options=f"idempotent={idempotent}")
    pid = int(host.run(offer).output)
    psutil.Process(pid).suspend()  # it is there, but says nothing
    host.start(offer)
    until(lambda: not host.pool._placing._waiting, "the run is given to it")
    os.kill(pid, signal.SIGKILL)
    outcome = host.outcome()
    if idempotent:
        assert int(outcome.output) != pid
    else:
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "worker_died")


@POSIX
def test_too_many_deaths(host: Host) -> None:
    """The third death within a minute takes a distribution off; others go on."""
    other = host.offer("other.echo")
    offer = host.offer("acme.die", "os._exit(1)")
    assert {host.run(offer).error_code for _ in range(3)} == {"worker_died"}
    outcome = host.run(offer)
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "capability_disabled")
    assert "acme-die is not used for 10 s, until " in outcome.error_sentence
    distribution, sentence = host.changes.get(timeout=PATIENCE_S)
    assert (distribution, sentence) == ("acme-die", outcome.error_sentence)
    assert host.run(other).output == b"{}"
    host.pool.retire()
    assert host.changes.get(timeout=PATIENCE_S) == ("acme-die", None)
    assert host.run(offer).error_code == "worker_died"


def test_max_concurrency(host: Host, tmp_path: Path) -> None:
    """No more runs of a capability at once than it allows; the others wait, and can be ended."""
    offer = host.offer("acme.wait", waiting(tmp_path / "pid"), options="max_concurrency=1")
    first = host.start(offer)
    pid_in(tmp_path / "pid")
    second = host.start(offer)
    assert host.run(offer, in_s=0.05).error_sentence == (
        "acme.wait ran out of time before it began."
    )
    second.cancel()
    assert host.outcome().error_sentence == "acme.wait was cancelled before it began."
    assert len(host.pids()) == 1
    first.cancel()
    assert host.outcome().error_sentence == "acme.wait was cancelled."


def test_room_is_made(tmp_path: Path) -> None:
    """With one place, an idle worker of another distribution makes room; order is kept."""
    with hosting(tmp_path, max_workers=1) as host:
        one = host.offer("one.echo", "return 'one'")
        two = host.offer("two.echo", "return 'two'")
        for offer in (one, two, one, two):
            host.start(offer)
        outputs = [host.outcome().output for _ in range(4)]
        assert outputs == [b'"one"', b'"two"', b'"one"', b'"two"']
        assert len(host.pids()) <= 1


def test_no_more_workers_than_allowed(tmp_path: Path) -> None:
    """More runs than places wait; each gets its turn."""
    with hosting(tmp_path, max_workers=2) as host:
        offer = host.offer("acme.pid", "await asyncio.sleep(0.02)\nreturn os.getpid()")
        for _ in range(8):
            host.start(offer)
        pids = {host.outcome().output for _ in range(8)}
        assert 1 <= len(pids) <= 2


def test_idle_workers_go(tmp_path: Path) -> None:
    """A worker with nothing to do is let go after a while."""
    with hosting(tmp_path, idle_s=0.1) as host:
        offer = host.offer("acme.pid", PID)
        pid = int(host.run(offer).output)
        until(lambda: host.pids() == [], "the worker is gone")
        assert not lives(pid)
        assert host.changes.empty()


def test_workers_are_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many runs a worker is replaced."""
    monkeypatch.setattr("palyra.workers.placing.MAX_RUNS", 2)
    offer = host.offer("acme.pid", PID)
    pids = [host.run(offer).output for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_reload(host: Host, tmp_path: Path) -> None:
    """After a reload what runs is let end where it is; new runs get the new code."""
    offer = host.offer("acme.code", "return 1")
    slow = host.offer("acme.slow", waiting(tmp_path / "pid", "await asyncio.sleep(0.3)\nreturn 1"))
    assert host.run(offer).output == b"1"
    host.start(slow)
    pid_in(tmp_path / "pid")
    make_capability(tmp_path, "acme.code", "return 2 #")
    host.pool.retire()
    outputs = {host.run(offer).output, host.outcome().output}
    assert outputs == {b"1", b"2"}
    until(lambda: len(host.pids()) == 1, "the old workers are gone")


def test_another_contract_is_not_run(host: Host, tmp_path: Path) -> None:
    """What was installed meanwhile under an announced name is not what was granted: it fails."""
    offer = host.offer("acme.code", "return 1")
    make_capability(tmp_path, "acme.code", "return 2", options="risk=Risk.HIGH")
    outcome = host.run(offer)
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "plugin_failed")
    assert "does not offer the acme.code that this node host has announced" in (
        outcome.error_sentence
    )


def test_what_cannot_be_imported_any_more_says_why(host: Host, tmp_path: Path) -> None:
    """A plugin that was described once, and misses something now, fails with what it misses."""
    offer = host.offer("acme.code", "return 1")
    make_capability(tmp_path, "acme.code", "return 1", head="import nothing_there")
    sentence = host.run(offer).error_sentence
    assert "does not offer the acme.code" in sentence
    assert "No module named 'nothing_there'" in sentence


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_the_pool_outlives_a_look_that_fails(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a file to spare nobody looks after orphans; runs go on."""
    looked = threading.Event()

    def refused(self: object) -> None:
        looked.set()
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("palyra.workers.sweeping.Sweeps.tend", refused)
    monkeypatch.setattr("palyra.workers.cgroups.ControlGroups.tend", refused)
    monkeypatch.setattr("palyra.workers.pool._TEND_S", 0.05)
    offer = host.offer("acme.wait", waiting(tmp_path / "pid", "await asyncio.sleep(0)\nreturn 1"))
    assert host.run(offer).output == b"1"
    assert looked.wait(PATIENCE_S)
    assert host.run(offer).output == b"1"


def test_what_it_says_goes_into_the_log(host: Host) -> None:
    """Lines on stdout and stderr are passed on, cleaned and bounded."""
    offer = host.offer(
        "acme.talk",
        "print('one\\x1b[31m', flush=True)\nos.write(2, b'x' * 5000 + b'\\n')\n"
        "for _ in range(3000): os.write(2, b'y' * 99 + b'\\n')",
    )
    host.run(offer)
    host.pool.close()
    said = [line for distribution, line in host.lines if distribution == "acme-talk"]
    assert "one?[31m" in said
    assert max(map(len, said)) == 1000
    assert sum(map(len, said)) < 70_000
    assert "is not shown" in said[-1]


def test_close_ends_everything(tmp_path: Path) -> None:
    """close() ends what runs, what blocks and what waits, one outcome each, and takes no more."""
    with hosting(tmp_path, max_workers=2) as host:
        wait = host.offer("acme.wait", waiting(tmp_path / "one"))
        block = host.offer("acme.block", waiting(tmp_path / "two", BLOCK))
        for offer in (wait, block, wait):
            host.start(offer)
        pids = [pid_in(tmp_path / "one"), pid_in(tmp_path / "two")]
        host.pool.close(0.2)
        outcomes = [host.outcome() for _ in range(3)]
        assert {each.kind for each in outcomes} == {OutcomeKind.CANCELLED}
        assert all(each.stopped for each in outcomes)
        assert not any(map(lives, pids))
        for refused in (lambda: host.start(wait), lambda: host.pool.describe("acme-wait")):
            with pytest.raises(RuntimeError, match="closed"):
                refused()
        host.pool.close()


def test_close_while_workers_start(host: Host) -> None:
    """A pool that is closed at once leaves no worker behind."""
    offer = host.offer("acme.echo")
    host.start(offer)
    host.pool.close(0.1)
    assert host.outcome().kind is OutcomeKind.CANCELLED


def test_close_without_use() -> None:
    """A pool that never ran anything closes at once."""
    WorkerPool(PoolSettings(limits=LIMITS)).close()


def test_a_broken_listener_hurts_nobody(host: Host) -> None:
    """An on_done that raises is logged; the pool goes on."""
    offer = host.offer("acme.echo")

    def broken(outcome: Outcome) -> None:
        host.outcomes.put(outcome)
        raise ValueError

    host.start(offer, on_done=broken)
    host.outcome()
    assert host.run(offer).output == b"{}"


def test_an_unknown_user() -> None:
    """A user that workers cannot run as is refused before anything starts."""
    pool = WorkerPool(PoolSettings(limits=LIMITS, user="nobody-of-that-name"))
    with pytest.raises(Malformed, match=r"node\.worker\.user"):
        pool.open()
    pool.close()


@POSIX
@pytest.mark.parametrize("body", [WAIT, BLOCK])
def test_workers_end_with_their_host(tmp_path: Path, body: str) -> None:
    """A host that is killed leaves no worker behind, whatever its handler does."""
    make_capability(tmp_path, "acme.wait", waiting(tmp_path / "pid", body))
    code = (
        "import sys; sys.path[:] = sys.argv[1].split(':')\n"
        "from pathlib import Path\n"
        "from tests.workers.pools import Host\n"
        "from palyra.capability.catalogue import Offer\n"
        "host = Host(Path(sys.argv[2]))\n"
        "host.start(Offer(host.pool.describe('acme-wait').descriptors[0]))\n"
        "host.outcome()\n"
    )
    root = Path(__file__).resolve().parents[2]
    search = ":".join([str(root), *sys.path])
    process = subprocess.Popen([sys.executable, "-c", code, search, str(tmp_path)])
    try:
        pid = pid_in(tmp_path / "pid")
        process.kill()
        until(lambda: not lives(pid), "the worker is gone")
    finally:
        process.kill()
        process.wait()
