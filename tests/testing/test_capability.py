"""Tests of :mod:`palyra.testing.capability`: the kit runs a plugin as a node would."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from palyra.capability import Capability, CapabilityContext, OutcomeKind, hookimpl
from palyra.errors import SettingsInvalid
from palyra.testing.capability import CapabilityHost, Progress, check_conformance, examine, main
from palyra.testing.conformance import Verdict
from tests.capability.distributions import make_distribution, worker_argv
from tests.integration.processes import eventually

SOURCE = '''
import asyncio
import time

import msgspec

from palyra.capability import Capability, Secret, hookimpl


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    times: int = 1
    deaf: bool = False


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    word: str = "ping"
    token: Secret | None = None


class Answer(msgspec.Struct):
    words: list[str]
    device: str


async def say(asked, context):
    """Says a word many times."""
    print("about to say")
    for number in range(asked.times):
        context.progress(number / asked.times, "saying")
        if asked.deaf:
            time.sleep(0.5)
        else:
            await asyncio.sleep(0)
    if asked.times > 1000:
        await asyncio.sleep(60)
    return Answer([context.settings.word] * asked.times, context.device.name)


@hookimpl
def palyra_capabilities():
    return [
        Capability(
            name="acme.say_word", description="Says a word.", handler=say, input_type=Asked,
            output_type=Answer, settings_type=Settings, timeout_s=30.0,
        )
    ]
'''
NAME = "acme.say_word"
FOREVER = {"times": 1001}
"""More than can be answered before somebody cancels it."""


class Answer(msgspec.Struct):
    """What it answers."""

    words: list[str]
    device: str


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution of that one module."""
    path = tmp_path_factory.mktemp("kit")
    make_distribution(path, "acme-say", "1.0", {"acme_say": SOURCE}, {"acme": "acme_say"})
    return path


@pytest.fixture(scope="module")
def module(installed: Path) -> Iterator[types.ModuleType]:
    """The same, imported here."""
    sys.path.append(str(installed))
    try:
        yield importlib.import_module("acme_say")
    finally:
        sys.path.remove(str(installed))
        sys.modules.pop("acme_say", None)


@pytest.fixture(scope="module", params=["thread", "process"])
def host(
    request: pytest.FixtureRequest, installed: Path, module: types.ModuleType
) -> Iterator[CapabilityHost]:
    """The plugin, in both ways of running it."""
    if request.param == "thread":
        made = CapabilityHost(module)
    else:
        made = CapabilityHost("acme-say", argv=worker_argv(installed))
    with made as open_host:
        yield open_host


def test_a_handler_is_run(host: CapabilityHost) -> None:
    """Its output, typed, and its progress are what the handler said."""
    result = host.run(NAME, {"times": 2})
    assert result.succeeded and result.stopped, result
    assert result.typed(Answer) == Answer(["ping", "ping"], "test-device")
    assert result.progress[0] == Progress(0.0, "saying")
    assert host.run(NAME).output["words"] == ["ping"], "without an input it is {}"


def test_settings_are_those_of_the_owner(host: CapabilityHost, tmp_path: Path) -> None:
    """They are checked, and their secrets read from files, as on a device."""
    secret = tmp_path / "token"
    secret.write_text("hidden")
    secret.chmod(0o600)
    settings = {"word": "pong", "token": {"file": str(secret)}}
    assert host.run(NAME, settings=settings).output["words"] == ["pong"]
    with pytest.raises(SettingsInvalid):
        host.run(NAME, settings={"token": "hidden"})
    with pytest.raises(SettingsInvalid):
        host.run(NAME, settings={"unknown": 1})


def test_wrong_input_is_refused(host: CapabilityHost) -> None:
    """Every field that is wrong is named, and the handler is not called."""
    result = host.run(NAME, {"times": "two", "loud": True})
    assert (result.kind, result.error_code) == (OutcomeKind.FAILED, "input_invalid")
    assert "input.times" in result.error and "input.loud" in result.error
    assert result.output is None and result.progress == ()
    assert host.run(NAME, b"{").error_code == "input_invalid"


def test_sizes_are_limited(host: CapabilityHost) -> None:
    """Input and output above the job's limit fail it."""
    assert host.run(NAME, {"times": 1}, max_payload_bytes=4).error_code == "payload_too_large"
    big = host.run(NAME, {"times": 100}, max_payload_bytes=200)
    assert big.error_code == "payload_too_large" and "output" in big.error


def test_the_deadline_ends_it(host: CapabilityHost) -> None:
    """It is told to end when its time is over."""
    result = host.run(NAME, FOREVER, timeout_s=0.3)
    assert result.kind is OutcomeKind.TIMED_OUT and result.stopped


def test_a_cancel_ends_it(host: CapabilityHost) -> None:
    """At its first progress, or after a time."""
    result = host.run(NAME, FOREVER, cancel_on_progress=True)
    assert result.kind is OutcomeKind.CANCELLED and result.stopped and result.progress
    assert host.run(NAME, FOREVER, cancel_after=0.0).kind is OutcomeKind.CANCELLED


def test_what_a_process_writes_is_kept(installed: Path) -> None:
    """Its stdout is no answer; both come with the results, sooner or later."""
    with CapabilityHost("acme-say", argv=worker_argv(installed)) as host:

        def look() -> bool:
            return "about to say" in host.run(NAME).stderr

        eventually(look, "what was printed is there")


def test_an_unknown_name_is_an_error_of_the_test(host: CapabilityHost) -> None:
    """It says what there is."""
    with pytest.raises(ValueError, match=NAME):
        host.run("acme.sing")


def test_a_capability_by_itself(
    capability_host: Callable[[Capability], CapabilityHost],
) -> None:
    """A value can be run without a module around it; the fixture closes what it made."""

    async def double(asked: int, context: CapabilityContext) -> int:
        return 2 * asked

    value = Capability(
        name="acme.double", description="Doubles.", handler=double, input_type=int, output_type=int
    )
    assert capability_host(value).run(value, 21).output == 42
    assert capability_host(value).run("acme.double", "x").error_code == "input_invalid"


def test_a_broken_plugin_is_told() -> None:
    """What is wrong with a plugin is said where somebody asks it for anything."""
    nothing = types.ModuleType("nothing")
    with (
        CapabilityHost(nothing) as broken,
        pytest.raises(ValueError, match="nothing: palyra_capabilities"),
    ):
        broken.run("acme.any")


# -- conformance --------------------------------------------------------------------------------


def test_a_good_plugin_conforms(installed: Path, module: types.ModuleType) -> None:
    """Every check of an installed plugin is made, and passes."""
    argv = worker_argv(installed)
    found = list(examine("acme-say", examples={NAME: FOREVER | {"times": 3}}, argv=argv))
    assert [str(each) for each in found if each.verdict is Verdict.FAIL] == []
    made = {each.check for each in found if each.verdict is Verdict.OK}
    assert made >= {
        "loads", "quiet import", "same each time", "name", "profile", "description", "api",
        "settings", "unknown field", "wrong types", "example", "output",
    }  # fmt: skip
    assert check_conformance(module) == []


def test_a_handler_that_is_deaf_does_not_conform(module: types.ModuleType) -> None:
    """One that blocks through a cancel is found out."""
    with_example = {NAME: {"times": 5, "deaf": True}}
    found = {each.check: each.sentence for each in check_conformance(module, examples=with_example)}
    assert found == {"cancel": "It did not end within 2 s of a cancel."}


class LookAhead(msgspec.Struct, forbid_unknown_fields=True):
    """Input with a pattern that is not linear."""

    text: Annotated[str, msgspec.Meta(pattern="(?=x)")]


BAD = """
import itertools
print("hello from the import")
import msgspec
from palyra.capability import Capability, hookimpl

async def handler(asked, context):
    raise OSError("no paper")

@hookimpl
def palyra_capabilities():
    import os
    return [
        Capability(name=name, description=f"Prints from {os.getpid()}.", handler=handler)
        for name in ("acme.print_page", "system.takeover")
    ]
"""


def test_a_bad_plugin_does_not_conform(tmp_path: Path) -> None:
    """Whatever is wrong with it is named."""
    make_distribution(tmp_path, "acme-bad", "1.0", {"acme_bad": BAD}, {"bad": "acme_bad"})
    found = list(examine("acme-bad", examples={"acme.print_page": {}}, argv=worker_argv(tmp_path)))
    failed = {each.check: each for each in found if each.verdict is Verdict.FAIL}
    assert set(failed) == {"loads", "same each time", "example", "cancel"}, failed
    assert "reserved" in failed["loads"].sentence and "no paper" in failed["example"].sentence
    warned = [str(each) for each in found if each.verdict is Verdict.WARN]
    assert warned == [
        "warn  quiet import    acme-bad: It writes when imported: hello from the import"
    ]


def test_an_example_of_nothing_does_not_conform(module: types.ModuleType) -> None:
    """A slip of the pen in the name of an example is told; else nothing would have been run."""
    (only,) = check_conformance(module, examples={"acme.sai": {}})
    assert (only.check, only.subject) == ("example", "acme.sai")
    assert only.sentence == f"It is not offered; there is {NAME}."


def test_a_schema_outside_of_the_profile_does_not_conform() -> None:
    """It is one line, and nothing is checked with a schema that no node takes."""

    async def answer(asked: LookAhead, context: CapabilityContext) -> None:
        raise AssertionError("it was run")

    capability = Capability(
        name="acme.look_ahead",
        description="Looks ahead.",
        handler=answer,
        input_type=LookAhead,
    )
    (only,) = check_conformance(capability, examples={"acme.look_ahead": {"text": "x"}})
    assert only.check == "profile" and "look-around" in only.sentence


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """A distribution that is not installed is one line and exit status 1."""
    assert main(["palyra-cap-that-nobody-has"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  loads") and out.endswith("\n1 check, 1 failed\n")
    assert main(["palyra-cap-any", "--example", "no.json={"]) == 2
    assert "NAME=JSON" in capsys.readouterr().err


def test_the_command_passes_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes with this program conforms; exit status 0."""
    assert main(["palyra", "--example", 'echo={"text":"hello"}']) == 0
    out = capsys.readouterr().out
    assert "ok    name            desktop.open_url\n" in out and out.endswith(" none failed\n")


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """Makes this module a plugin that offers nothing."""
    return []


def test_a_plugin_without_capabilities_does_not_conform() -> None:
    """There is nothing that a node could offer."""
    (only,) = check_conformance(sys.modules[__name__])
    assert (only.check, only.sentence) == ("loads", "It offers nothing.")
