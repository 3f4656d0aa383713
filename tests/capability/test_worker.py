"""A worker of its own: what it says, in which order, and what it refuses to be told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from palyra.capability.frames import (
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    VERSION,
    Cancel,
    FromHost,
    Hello,
    Result,
    Started,
    Stop,
)
from palyra.capability.hostpipe import EXIT_BROKEN

from .distributions import WORKER, make_capability, make_distribution
from .workers import LIMITS, PATIENCE_S, RawWorker

ECHO = "acme.echo"


@pytest.fixture
def echo(tmp_path: Path) -> str:
    return make_capability(tmp_path, ECHO, "return input")


def said_why(worker: RawWorker) -> str:
    """The one line of a worker that gave up."""
    assert worker.read() is None
    assert worker.status() == EXIT_BROKEN
    (line,) = worker.stderr().splitlines()
    assert line.startswith("palyra worker: ")
    return line.removeprefix("palyra worker: ")


# -- the order of frames --------------------------------------------------------------------------


def test_it_describes_runs_and_stops(tmp_path: Path, echo: str) -> None:
    """Hello is answered with the descriptors, a run with its start and its result, stop with 0."""
    with RawWorker(echo, tmp_path) as worker:
        ready = worker.ready()
        assert ready.v == VERSION
        assert ready.faults == ()
        (said,) = ready.descriptors
        assert (said.name, said.distribution, said.version) == (ECHO, "acme-echo", "1.0")
        for value in ({"a": [1, None]}, "text"):
            ran = worker.run(ECHO, value)
            assert ran.started
            assert ran.output == value
        worker.send(Stop())
        assert worker.read() is None
        assert worker.status() == 0
        assert worker.stderr() == ""


@pytest.mark.parametrize("spelt", ["acme-tools", "Acme.Tools", "ACME__tools"])
def test_the_name_of_a_distribution_may_be_spelt_in_any_way(tmp_path: Path, spelt: str) -> None:
    """Case, dots, dashes and underscores make no difference, as for pip."""
    make_capability(tmp_path, ECHO, "return input", distribution="Acme.tools")
    with RawWorker(spelt, tmp_path) as worker:
        (said,) = worker.ready().descriptors
        assert said.distribution == "Acme.tools"


def test_it_imports_no_other_distribution(tmp_path: Path, echo: str) -> None:
    """A worker runs the code of one distribution, whatever else is installed."""
    make_distribution(tmp_path, "other", "1", {"other": "raise SystemExit"}, {"other": "other"})
    with RawWorker(echo, tmp_path) as worker:
        assert [each.name for each in worker.ready().descriptors] == [ECHO]


def test_it_stays_small(tmp_path: Path) -> None:
    """Nothing of the host's large libraries is loaded in a worker."""
    name = make_capability(tmp_path, "acme.loaded", "return sorted(sys.modules)")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        loaded = set(worker.run("acme.loaded").output)
    # zope alone is a namespace, which an interpreter may make when it starts.
    large = {"zope.interface", "twisted", "grpc", "sqlalchemy", "aioquic", "cryptography", "click"}
    assert "palyra" in loaded
    assert not loaded & large


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\0\0\0\x02{}", "missing required field `type`"),
        (b"\0\0\0\x00", "Input data was truncated"),
        (b"GET / HTTP/1.1\r\n\r\n", f"the limit is {MAX_HELLO_BYTES}"),
        ((MAX_HELLO_BYTES + 1).to_bytes(4, "big"), f"the limit is {MAX_HELLO_BYTES}"),
    ],
)
def test_garbage_instead_of_hello(echo: str, tmp_path: Path, data: bytes, why: str) -> None:
    """What is no frame, or a too large one, ends the worker with a line that tells why."""
    with RawWorker(echo, tmp_path, greet=False) as worker:
        worker.write(data)
        assert why in said_why(worker)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Stop(), "the host said stop before hello"),
        (Cancel(1), "the host said cancel before hello"),
        (Hello(VERSION + 1, LIMITS), f"the host speaks version {VERSION + 1}, this worker 1"),
    ],
)
def test_another_frame_instead_of_hello(
    echo: str, tmp_path: Path, frame: FromHost, why: str
) -> None:
    """Nothing is imported before a hello that is understood."""
    with RawWorker(echo, tmp_path, greet=False) as worker:
        worker.send(frame)
        assert said_why(worker) == why


@pytest.mark.parametrize(
    ("frame", "word"), [(Hello(VERSION, LIMITS), "hello"), (Cancel(1), "cancel")]
)
def test_an_idle_worker_takes_run_and_stop_only(
    echo: str, tmp_path: Path, frame: FromHost, word: str
) -> None:
    """Everything else is out of turn."""
    with RawWorker(echo, tmp_path) as worker:
        worker.ready()
        worker.send(frame)
        assert said_why(worker) == f"the host said {word} out of turn"


@pytest.mark.parametrize("word", ["run", "stop", "hello", "cancel"])
def test_a_running_worker_takes_its_cancel_only(tmp_path: Path, word: str) -> None:
    """Everything else, also the cancel of another run, is out of turn, at once."""
    name = make_capability(tmp_path, "acme.long", "while True: time.sleep(0.01)")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        worker.send(worker.asked("acme.long"))
        assert isinstance(worker.read(), Started)
        frames: dict[str, FromHost] = {
            "run": worker.asked("acme.long"),
            "stop": Stop(),
            "hello": Hello(VERSION, LIMITS),
            "cancel": Cancel(99),
        }
        worker.send(frames[word])
        assert said_why(worker) == f"the host said {word} out of turn"


@pytest.mark.parametrize("word", ["run", "stop"])
def test_a_worker_that_still_imports_takes_nothing(tmp_path: Path, word: str) -> None:
    """Before ready there is nothing that could be run or stopped."""
    modules = {"slow": "import time\nwhile True: time.sleep(0.01)"}
    make_distribution(tmp_path, "slow", "1", modules, {"slow": "slow"})
    with RawWorker("slow", tmp_path) as worker:
        worker.send(worker.asked("slow.run") if word == "run" else Stop())
        assert said_why(worker) == f"the host said {word} out of turn"


def test_a_frame_above_the_limit(tmp_path: Path, echo: str) -> None:
    """It is refused by its length, before any of it is read."""
    with RawWorker(echo, tmp_path) as worker:
        worker.ready()
        worker.write((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
        assert f"the limit is {MAX_FRAME_BYTES}" in said_why(worker)


def test_a_cancel_may_cross_the_result(tmp_path: Path, echo: str) -> None:
    """A host that cancels while the result is on its way has done nothing wrong."""
    with RawWorker(echo, tmp_path) as worker:
        worker.ready()
        run = worker.asked(ECHO, 1)
        worker.send(run)
        worker.result_of(run)
        worker.send(Cancel(run.run_id))
        assert worker.run(ECHO, 2).output == 2


def test_an_unknown_capability_is_a_failure(tmp_path: Path, echo: str) -> None:
    """The distribution may have been changed since it was described; nothing was started."""
    with RawWorker(echo, tmp_path) as worker:
        worker.ready()
        ran = worker.run("acme.other")
        assert (ran.result.kind, ran.result.error_code) == ("failed", "capability_unknown")
        assert not ran.started
        worker.send(Cancel(1))
        assert worker.run(ECHO, 2).output == 2


@pytest.mark.parametrize("body", ["return input", "while True: pass"])
def test_it_ends_with_its_host(tmp_path: Path, body: str) -> None:
    """A worker whose host is gone ends by itself, even in the middle of a handler that blocks."""
    name = make_capability(tmp_path, "acme.any", body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        worker.send(worker.asked("acme.any"))
        assert isinstance(worker.read(), Started)
        worker.hang_up()
        assert worker.status() == 0


def test_without_a_name_it_says_how_it_is_used() -> None:
    """Started by hand, it does not wait for frames that nobody sends."""
    command = [sys.executable, "-I", "-m", WORKER]
    done = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"usage: ")


# -- what a handler is given ----------------------------------------------------------------------


def test_what_a_handler_knows(tmp_path: Path) -> None:
    """Job, device, time, and settings of the plugin's type are in the context."""
    name = make_capability(
        tmp_path,
        "acme.facts",
        """
        facts = context.device
        return [context.job_id, facts.device_id, facts.name, 50 < context.remaining_s() <= 60,
                context.settings.url, context.settings.token, context.cancelled]
        """,
        head="""
        import msgspec
        from palyra.capability import Secret

        class Settings(msgspec.Struct, forbid_unknown_fields=True):
            token: Secret
            url: str = "http://here"
        """,
        options="settings_type=Settings",
    )
    with RawWorker(name, tmp_path) as worker:
        (said,) = worker.ready().descriptors
        assert said.settings_schema is not None
        fields = said.settings_schema["$defs"]["Settings"]["properties"]
        assert fields["token"] == {"type": "string", "x-palyra-secret": True}
        ran = worker.run("acme.facts", settings=msgspec.Raw(b'{"token": "s3cret"}'))
        assert ran.output == ["job-1", "01D", "pi", True, "http://here", "s3cret", False]
        for settings in (b"null", b'{"token": 5}', b'{"token": "s3cret", "other": "s3cret"}'):
            refused = worker.run("acme.facts", settings=msgspec.Raw(settings)).result
            assert (refused.kind, refused.error_code) == ("failed", "settings_invalid")
            assert "s3cret" not in refused.error
            assert refused.error.startswith("The settings of acme.facts do not fit: ")


def test_input_and_output_are_typed(tmp_path: Path) -> None:
    """What does not fit the types of the plugin is refused with the field that is wrong."""
    name = make_capability(
        tmp_path,
        "acme.typed",
        "return input.pages if input.pages < 9 else 'many'",
        head="""
        import msgspec

        class Input(msgspec.Struct, forbid_unknown_fields=True):
            pages: int
        """,
        options="input_type=Input, output_type=int",
    )
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert worker.run("acme.typed", {"pages": 3}).output == 3
        refused = worker.run("acme.typed", {"pages": "x"}).result
        assert (refused.kind, refused.error_code) == ("failed", "input_invalid")
        assert "input.pages" in refused.error
        refused = worker.run("acme.typed", {"pages": 9}).result
        assert (refused.kind, refused.error_code) == ("failed", "output_invalid")


def test_results_are_json(tmp_path: Path, echo: str) -> None:
    """An output of any type is sent as the handler gave it, up to the limit of this run."""
    text = "x" * 2_000_000
    with RawWorker(echo, tmp_path) as worker:
        worker.ready()
        assert worker.run(ECHO, text, max_output_bytes=3_000_000).output == text
        refused = worker.run(ECHO, text).result
        assert refused.error_code == "payload_too_large"
        assert json.loads(bytes(refused.output)) is None


def test_the_deadline_is_kept_here_too(tmp_path: Path) -> None:
    """A handler that waits is cancelled when its time is over; one too late never begins."""
    name = make_capability(tmp_path, "acme.wait", "await asyncio.sleep(3600)")
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        late = worker.run("acme.wait", remaining_ms=300)
        assert late.started
        assert (late.result.kind, late.result.error_code) == ("timed_out", "timed_out")
        assert late.result.error == "acme.wait ran out of time."
        never = worker.run("acme.wait", remaining_ms=0)
        assert not never.started
        assert never.result.error == "acme.wait ran out of time before it began."


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(3600)",
        "while not context.cancelled: time.sleep(0.001)\nawait asyncio.sleep(3600)",
    ],
)
def test_cancel(tmp_path: Path, body: str) -> None:
    """A handler that waits is cancelled; one that blocks sees that it should end."""
    name = make_capability(tmp_path, "acme.wait", body)
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        run = worker.asked("acme.wait")
        worker.send(run)
        assert isinstance(worker.read(), Started)
        worker.send(Cancel(run.run_id))
        result = worker.read()
        assert isinstance(result, Result)
        assert (result.kind, result.error) == ("cancelled", "acme.wait was cancelled.")


def test_a_cancelled_run_ends_with_its_threads(tmp_path: Path) -> None:
    """No result says that a handler stopped while a thread of ``asyncio.to_thread`` goes on."""
    name = make_capability(
        tmp_path,
        "acme.thread",
        """
        if input == "ended":
            return await asyncio.to_thread(ENDED.copy)
        await asyncio.to_thread(work, context)
        """,
        head="""
        ENDED = []

        def work(context):
            while not context.cancelled:
                time.sleep(0.001)
            time.sleep(0.05)
            ENDED.append(True)
        """,
    )
    with RawWorker(name, tmp_path) as worker:
        worker.ready()
        assert worker.run("acme.thread", remaining_ms=300).result.kind == "timed_out"
        assert worker.run("acme.thread", "ended").output == [True]
