"""Plugins that do their worst: each time the pool still answers for another distribution."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from palyra.capability.catalogue import Offer
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.workers.killing import best_containment
from tests.capability.distributions import make_distribution, worker_argv

from .pools import LEVELS, LIMITS, Host, as_root, hosting, lives, pid_in, until

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="forks, signals and limits of POSIX"
)
FAILED = OutcomeKind.FAILED


@pytest.fixture(params=["best"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """A pool that at the end answers for somebody else."""
    if request.param == "swept" and sys.platform != "linux":
        pytest.skip("the search of /proc is Linux'")
    with hosting(tmp_path, contain=LEVELS[request.param], max_workers=2) as each:
        good = each.offer("good.echo")
        yield each
        assert each.run(good, b'"still here"') == Outcome(OutcomeKind.SUCCEEDED, b'"still here"')


def died(outcome: Outcome) -> str:
    """How the worker of a failed run ended."""
    assert (outcome.kind, outcome.error_code) == (FAILED, "worker_died"), outcome
    assert outcome.stopped
    return outcome.error_sentence.partition(" ended: ")[2]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_there", "nothing_there"),
        ("raise SystemExit('no')", "SystemExit"),
        ("import os; os._exit(9)", "status 9"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("x = 1", "palyra_capabilities"),
        ("def f(:", "invalid syntax"),
        ("import sys; sys.stdout.write('Hello' * 10_000); raise ValueError('late')", "late"),
        ("import os; [os.close(fd) for fd in range(64) if fd != 2 and os.path.exists("
         "f'/proc/self/fd/{fd}')]; raise ValueError", "ended by itself|pipe|status|ValueError"),
    ],
)  # fmt: skip
def test_import(host: Host, tmp_path: Path, source: str, words: str) -> None:
    """What goes wrong while a plugin is imported is a fault that says what."""
    make_distribution(tmp_path, "acme", "1.0", {"acme_bad": source}, {"acme": "acme_bad"})
    said = host.pool.describe("acme")
    assert said.descriptors == ()
    assert any(word in said.faults[0].sentence for word in words.split("|")), said.faults


def test_wrong_types(host: Host) -> None:
    """An output that is no JSON, or of another type, fails that run and no other."""
    offer = host.offer(
        "acme.types", "return object() if input else 'text'", options="output_type=int"
    )
    for raw in (b"0", b"1"):
        outcome = host.run(offer, raw)
        assert (outcome.kind, outcome.error_code) == (FAILED, "output_invalid")
    assert len(host.pids()) == 1


@pytest.mark.parametrize("body", ["while True: pass", "import time\ntime.sleep(600)"])
def test_endless_loop(host: Host, body: str) -> None:
    """A handler that holds its loop is killed after its deadline and the grace."""
    outcome = host.run(host.offer("acme.loop", body), in_s=1.0)
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, True)
    until(lambda: host.pids() == [], "its worker is gone")


def test_cancellation_is_ignored(host: Host, tmp_path: Path) -> None:
    """A handler that swallows its cancellation is killed."""
    offer = host.offer(
        "acme.deaf",
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "while True:\n    try: await asyncio.sleep(600)\n    except asyncio.CancelledError: pass",
    )
    run = host.start(offer)
    pid = pid_in(tmp_path / "pid")
    run.cancel()
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, True)
    assert not lives(pid)


def test_memory_hog(host: Host) -> None:
    """What takes all memory meets its limit: the run fails, and the host has what it had."""
    offer = host.offer("acme.hog", "kept = []\nwhile True: kept.append(bytearray(64 * 2**20))")
    outcome = host.run(offer)
    assert outcome.kind is FAILED
    assert "memory" in outcome.error_sentence.lower()


def test_output_floods(host: Host) -> None:
    """An output that is too large is an error; so are lines without end on stdout."""
    offer = host.offer("acme.big", "return 'x' * 50_000_000")
    assert host.run(offer).error_code == "payload_too_large"
    offer = host.offer(
        "acme.noise", "for _ in range(500): os.write(1, b'x' * 10_000)\nprint('more')\nreturn 1"
    )
    assert host.run(offer).output == b"1"
    assert sum(len(line) for _, line in host.lines) < 70_000


def test_exits(host: Host) -> None:
    """A handler that ends its process fails, with its status; sys.exit only fails its run."""
    assert died(host.run(host.offer("acme.exit", "os._exit(7)"))) == "it exited with status 7."
    outcome = host.run(host.offer("acme.leave", "sys.exit(3)"))
    assert (outcome.kind, outcome.error_code) == (FAILED, "handler_failed")


def test_garbage_on_the_protocol(host: Host) -> None:
    """A handler that finds the pipe to its host and writes into it is killed."""
    body = (
        "for fd in range(3, 64):\n"
        '    try: os.write(fd, b\'{"type":"result"}\' * 9)\n'
        "    except OSError: pass\n"
        "await asyncio.Event().wait()"
    )
    assert died(host.run(host.offer("acme.forge", body))).startswith("it broke the protocol: ")


def test_every_file_is_closed(host: Host) -> None:
    """A handler that closes whatever is open loses its worker, and nothing else."""
    outcome = host.run(host.offer("acme.close", "os.closerange(0, 256)\nreturn 1"), in_s=5.0)
    assert outcome.kind in (FAILED, OutcomeKind.TIMED_OUT) and outcome.stopped


@pytest.mark.parametrize("host", ["best", "swept"], indirect=True)
@pytest.mark.parametrize("then", ["return 1", "os._exit(1)", "time.sleep(600)"])
def test_escape(host: Host, tmp_path: Path, then: str) -> None:
    """A grandchild with a session of its own does not outlive its worker."""
    body = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        print(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'))\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(.01)\n{then}"
    )
    host.run(host.offer("acme.escape", body), in_s=2.0)
    pid = pid_in(tmp_path / "pid")
    host.pool.retire()
    until(lambda: not lives(pid), "the grandchild is gone")


def test_fork_bomb(tmp_path: Path) -> None:
    """Many processes that fork and leave their session are all gone after the deadline.

    The bomb is small, and each of its processes leaves a file, so that they can be counted.
    """
    if not best_containment().level.startswith("control groups") and as_root():
        pytest.skip("root without control groups has nothing to hold a fork bomb with")
    body = (
        "for depth in range(6):\n"
        "    os.fork()\n"
        "    if depth % 2: os.setsid() if os.getpgrp() != os.getpid() else None\n"
        f"os.close(os.open({str(tmp_path)!r} + f'/bomb-{{os.getpid()}}', os.O_CREAT))\n"
        "time.sleep(600)"
    )
    with hosting(tmp_path) as host:
        good = host.offer("good.echo")
        offer = host.offer("acme.bomb", body)
        outcome = host.run(offer, in_s=2.0)
        assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, True)
        pids = [int(each.name.partition("-")[2]) for each in tmp_path.glob("bomb-*")]
        assert len(pids) > 10
        assert not any(map(lives, pids))
        assert host.run(good).output == b"{}"


@pytest.fixture
def nobody() -> Iterator[Host]:
    """A pool of root whose workers are nobody; the interpreter is one that nobody may run."""
    if not as_root():
        pytest.skip("only root can run workers as another user")
    found = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    python = next((each for each in found if _for_everybody(Path(each).resolve())), None)
    if python is None:
        pytest.skip("nobody cannot run this interpreter, nor another one of its version")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        libraries = [Path(each) for each in sys.path if each.endswith("site-packages")]
        if not all(map(_for_everybody, libraries)):
            pytest.skip("nobody cannot read the libraries of this environment")
        argv = [python, *worker_argv(path, *libraries)[1:]]
        limits = msgspec.structs.replace(LIMITS, processes=20)
        with hosting(path, argv=argv, user="nobody", limits=limits) as host:
            yield host


def _for_everybody(file: Path) -> bool:
    ways = (file, *file.parents)
    return file.exists() and all(each.stat().st_mode & 0o001 for each in ways)


def test_another_user(nobody: Host) -> None:
    """Workers of another user have no right of ours, and nothing of our environment."""
    secret = nobody.path / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    offer = nobody.offer(
        "acme.who",
        f"return [os.getuid(), os.getgroups(), os.access({str(secret)!r}, os.R_OK), "
        "sorted(os.environ), os.getcwd()]",
    )
    uid, groups, readable, names, directory = msgspec.json.decode(nobody.run(offer).output)
    assert uid not in (0, os.getuid())
    assert (groups, readable, directory) == ([], False, "/")
    assert set(names) <= {
        "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "PALYRA_WORKER", "PATH", "TMPDIR", "TZ",
    }  # fmt: skip


def test_a_fork_bomb_of_another_user(nobody: Host) -> None:
    """Another user's worker gets as many processes as it may have, and no more."""
    body = (
        "made = 0\n"
        "for _ in range(100):\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "        made += 1\n"
        "    except BlockingIOError: pass\n"
        "return made"
    )
    offer = nobody.offer("acme.bomb", body)
    made = int(nobody.run(offer).output)
    assert 0 < made <= 20


def test_memory_is_not_shared(host: Host) -> None:
    """What one distribution changes in its process no other sees."""
    one = host.offer("one.set", "sys.palyra_test = 1\nreturn 1")
    two = host.offer("two.get", "return getattr(sys, 'palyra_test', 0)")
    assert (host.run(one).output, host.run(two).output) == (b"1", b"0")


def test_an_offer_of_nobody(host: Host) -> None:
    """A distribution that is not installed any more fails its runs."""
    offer = host.offer("acme.echo")
    gone = Offer(msgspec.structs.replace(offer.descriptor, distribution="not-there"))
    assert host.run(gone).kind is FAILED
