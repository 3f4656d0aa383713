"""Plugins that do what they should not: a worker survives it, or ends and says so."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from palyra.capability.context import PROGRESS_PER_SECOND
from palyra.capability.frames import Limits, Started
from palyra.core.descriptors import MAX_BYTES

from .distributions import make_capability, make_distribution
from .workers import MIB, RawWorker

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it in /proc")
BAD = "acme.bad"
OFFER = """\
from palyra.capability import Capability, hookimpl
async def run(input, context): return input
@hookimpl
def palyra_capabilities():
    return {answer}
"""


# -- while it is imported -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import cups_that_is_not_there", "No module named 'cups_that_is_not_there'"),
        ("import sys; sys.exit(5)", "SystemExit: 5"),
        ("def x(:", "SyntaxError: "),
        ("raise type('Rude' * 99, (BaseException,), {'__str__': None})", "RudeRude"),
        ("print('hello')", "palyra_capabilities: is missing; the plugin offers nothing"),
        (OFFER.format(answer="[1]"), "palyra_capabilities: must return Capability values, not int"),
        (OFFER.format(answer="sys.exit()"), "NameError: name 'sys' is not defined"),
        (OFFER.replace("def p", "async def p").format(answer="[]"), "palyra_capabilities: must be"),
        (
            OFFER.format(answer="[Capability(name='Bad', description='x', handler=run)]"),
            "name: must be lower-case words",
        ),
        (
            OFFER.format(answer="[Capability(name='bad.a', description='x', handler=print)]"),
            "handler: must be an async def function",
        ),
        (
            OFFER.format(answer="[Capability(name='echo', description='x', handler=run)]"),
            "The name is reserved for the distribution palyra.",
        ),
        (
            OFFER.format(answer="[Capability(name='a.b', description='x', handler=run, api=2)]"),
            "It was made for plugin API 2; this node host knows 1.",
        ),
        ("bytearray(1 << 40)", "MemoryError (the limit of this worker: 1024 MiB of memory"),
    ],
)
def test_a_plugin_that_cannot_be_used(tmp_path: Path, source: str, sentence: str) -> None:
    """It is a fault that names what is wrong; another plugin of the distribution is used."""
    good = OFFER.format(answer="[Capability(name='good.one', description='x', handler=run)]")
    modules = {"bad": source, "good": good}
    make_distribution(tmp_path, "mixed", "1", modules, {"bad": "bad", "good": "good"})
    with RawWorker("mixed", tmp_path) as worker:
        ready = worker.ready()
        assert [each.name for each in ready.descriptors] == ["good.one"]
        (fault,) = ready.faults
        assert sentence in fault.sentence
        assert worker.run("good.one", 7).output == 7


def test_a_distribution_that_is_not_there(tmp_path: Path) -> None:
    """It has nothing but a fault."""
    with RawWorker("no-such-thing", tmp_path) as worker:
        ready = worker.ready()
        assert ready.descriptors == ()
        (fault,) = ready.faults
        assert fault.sentence.startswith("no-such-thing is not installed here (")


def test_a_distribution_without_plugins(tmp_path: Path) -> None:
    """It has nothing, not even a fault."""
    make_distribution(tmp_path, "bare", "1", {"bare": ""}, {})
    with RawWorker("bare", tmp_path) as worker:
        ready = worker.ready()
        assert (ready.descriptors, ready.faults) == ((), ())


def test_what_does_not_fit_the_frame_is_a_fault(tmp_path: Path) -> None:
    """Too many capabilities, too many faults, and a version that cannot be shown."""
    names = "Capability(name=f'a.b{n}', description='x', handler=run, api=1 + n // 300)"
    many = OFFER.format(answer=f"[{names} for n in range(600)]")
    make_distribution(tmp_path, "many", "1", {"many": many}, {"many": "many"})
    with RawWorker("many", tmp_path) as worker:
        ready = worker.ready()
        assert len(ready.descriptors) == len(ready.faults) == 256
        first, last = ready.faults[0], ready.faults[-1]
        assert first.sentence == "many offers 300 capabilities; those after 256 are left."
        assert last.sentence == "46 more faults of many are not shown."
        assert worker.run("a.b255", 1).output == 1
    one = OFFER.format(answer="[Capability(name='a.b', description='x', handler=run)]")
    make_distribution(tmp_path, "odd", "1\u202e", {"odd": one}, {"odd": "odd"})
    with RawWorker("odd", tmp_path) as worker:
        (fault,) = worker.ready().faults
        assert fault.name == "a.b"
        assert "must be one line of printable characters" in fault.sentence


def test_a_descriptor_that_cannot_be_sent(tmp_path: Path) -> None:
    """Schemas of more than 64 KiB and a distribution with an endless name are faults."""
    name = make_capability(
        *(tmp_path, BAD, "return None"),
        head=f"import typing\nLarge = typing.Literal[{'x' * MAX_BYTES!r}]",
        options="input_type=Large",
    )
    with RawWorker(name, tmp_path) as worker:
        (fault,) = worker.ready().faults
        assert "64 KiB" in fault.sentence
    name = make_capability(tmp_path, BAD, "return None", distribution="l" * 150)
    with RawWorker(name, tmp_path) as worker:
        (fault,) = worker.ready().faults
        assert (fault.name, "distribution" in fault.sentence) == (BAD, True)


# -- while it runs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise ValueError('no paper')", "ValueError: no paper"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("asyncio.get_running_loop().stop(); await asyncio.sleep(9)", "RuntimeError: Event loop"),
        ("raise type('Rude' * 999, (Exception,), {})('x' * 9999)", "RudeRude"),
        ("raise Odd", "Odd"),
        ("return bytearray(1 << 40)", "MemoryError (the limit of this worker: 1024 MiB of memory"),
        ("hold = [open('/dev/null') for _ in range(999)]", "256 open files, node.worker.open_f"),
        ("open(input, 'wb').truncate(1 << 30)", "64 MiB in a file, node.worker.file_mib"),
        ("return object()", "acme.bad answered with something else"),
        ("return float", "acme.bad answered with something else"),
        ("import msgspec; return msgspec.Raw(b'1}, {')", "acme.bad answered with something else"),
    ],
)
def test_a_failure_is_one_sentence(tmp_path: Path, body: str, sentence: str) -> None:
    """Whatever it raises or returns, the run has failed with a line, and the next one is run."""
    head = """
    from palyra.errors import PalyraError

    class Odd(PalyraError):
        code = 5

        @property
        def sentence(self):
            raise SystemError
    """
    body = f"if input == 'fine': return 5\n{body}"
    name = make_capability(tmp_path, BAD, body, head=head)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        result = worker.run(BAD, str(tmp_path / "file")).result
        assert result.kind == "failed"
        assert sentence.partition("acme.bad answered")[0] in result.error
        assert len(result.error) <= 400
        assert "\n" not in result.error
        assert worker.run(BAD, "fine").output == 5


def test_where_it_failed_is_told_on_stderr(tmp_path: Path) -> None:
    """The traceback is for the log of the device, not for the caller."""
    name = make_capability(tmp_path, BAD, "raise ValueError('x' * 100_000)")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        worker.run(BAD)
        said = worker.stderr()
    assert said.startswith("acme.bad failed\n")
    assert len(said) < 20_000


def test_fifty_megabytes(tmp_path: Path) -> None:
    """An output that nobody can take is refused here, and never sent."""
    name = make_capability(tmp_path, BAD, "return 'x' * (50 << 20)")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        for limit in (64 * 1024, 1 << 40):
            refused = worker.run(BAD, max_output_bytes=limit).result
            assert refused.error_code == "payload_too_large"


def test_what_it_prints_is_no_frame(tmp_path: Path) -> None:
    """Its stdout is the log, in the order of runs, and there is nothing on its stdin."""
    name = make_capability(
        tmp_path,
        BAD,
        r"""
        print("printed", end="")
        os.write(1, b"\0\0\0\2{}")
        subprocess.run(["echo", "from a child"])
        return [sys.stdin.read(), os.read(0, 1).decode()]
        """,
        head="print('imported')",
    )
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert worker.run(BAD).output == ["", ""]
        said = worker.stderr()
        assert said.startswith("imported\n")
        assert all(text in said for text in ("printed", "from a child", "\0\0\0\2{}"))


def test_many_reports_of_progress(tmp_path: Path) -> None:
    """Ten a second are sent, however many are made."""
    name = make_capability(
        tmp_path, BAD, "for n in range(10_000): context.progress(n / 10_000, 'x' * 5000)"
    )
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        began = time.monotonic()
        ran = worker.run(BAD)
        most = 1 + PROGRESS_PER_SECOND * (time.monotonic() - began)
    assert ran.result.kind == "succeeded"
    assert 1 <= len(ran.progress) <= most
    assert len(ran.progress[0].text) == 1024


def test_what_it_leaves_behind_is_ended(tmp_path: Path) -> None:
    """A task does not wake up in the next run, and a thread's progress is nobody's."""
    name = make_capability(
        tmp_path,
        BAD,
        """
        if input == "look":
            return [CANCELLED, len(asyncio.all_tasks())]
        CANCELLED.clear()
        asyncio.create_task(forever(2))
        threading.Thread(target=report, args=(context,), daemon=True).start()
        await asyncio.sleep(0)
        """,
        head="""
        CANCELLED = []

        async def forever(more):
            try:
                await asyncio.sleep(3600)
            finally:
                CANCELLED.append(more)
                if more:
                    asyncio.create_task(forever(more - 1))
                    await asyncio.sleep(0)

        def report(context):
            while True:
                context.progress(None, "late")
                time.sleep(0.001)
        """,
    )
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        worker.run(BAD)
        assert worker.run(BAD, "look").output == [[2, 1, 0], 1]


def test_a_forked_child_does_not_speak_for_the_worker(tmp_path: Path) -> None:
    """A child that returns from the handler ends; there is one result, the worker's."""
    body = "pid = os.fork()\nif pid: os.waitpid(pid, 0)\nreturn pid > 0"
    name = make_capability(tmp_path, BAD, body, head="import warnings")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert worker.run(BAD).output is True
        assert worker.run(BAD).output is True


@LINUX
def test_children_do_not_hold_the_pipes(tmp_path: Path) -> None:
    """What a handler executes has neither of the worker's pipes to its host."""
    body = """
    listed = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)], os.listdir("
    done = subprocess.run([sys.executable, "-c", listed + "'/proc/self/fd'))"],
                          capture_output=True, close_fds=False)
    return done.stdout.decode()
    """
    name = make_capability(tmp_path, BAD, body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert "/dev/null" in (said := worker.run(BAD).output)
        assert "['0', '1', '2', '3']" in said.replace('"', "'")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.closerange(0, 256)", 70),
        ("sys.stdout = sys.stderr = None; os._exit(4)", 4),
    ],
)
def test_a_handler_that_ends_the_process(tmp_path: Path, body: str, status: int) -> None:
    """There is no result: the host sees the end of the pipe, and how it ended."""
    name = make_capability(tmp_path, BAD, body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        worker.send(worker.asked(BAD))
        assert isinstance(worker.read(), Started)
        assert worker.read() is None
        assert worker.status() == status


def test_its_streams_are_taken_away(tmp_path: Path) -> None:
    """A handler that replaces or closes its output still has a result."""
    body = "sys.stdout.close(); sys.stderr = None; raise ValueError('no output')"
    name = make_capability(tmp_path, BAD, body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        for _ in range(2):
            assert "ValueError" in worker.run(BAD).result.error


def test_a_hog_is_stopped_by_the_limit(tmp_path: Path) -> None:
    """Memory is taken until there is no more; then the run has failed, and the next one is run."""
    body = "if input: return input\nhold = []\nwhile True: hold.append(bytearray(8 << 20))"
    name = make_capability(tmp_path, BAD, body)
    limits = Limits(memory_bytes=256 * MIB, open_files=64, file_bytes=0, processes=64)
    with RawWorker(name, tmp_path, limits=limits) as worker:
        worker.ready()
        failed = worker.run(BAD).result
        assert failed.error == (
            "MemoryError (the limit of this worker: 256 MiB of memory, node.worker.memory_mib)"
        )
        assert worker.run(BAD, "fine").output == "fine"
