"""What every plugin must keep to, checked as a node and a gateway would find out.

Handlers are called with input that must be refused, and with the examples that are given; what a
made-up input would do nobody knows, so without an example nothing is run.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from palyra.capability.catalogue import Offer
from palyra.capability.descriptor import API
from palyra.capability.outcome import OutcomeKind
from palyra.capability.registry import refusal
from palyra.core.descriptors import decode_descriptor
from palyra.core.schemas import Checker, check_profile
from palyra.errors import Malformed, SettingsInvalid
from palyra.plugins.configured import settings_of
from palyra.testing.capabilityhost import CapabilityHost, Source, Watched
from palyra.workers.spawning import WORKER_ARGV

UNKNOWN = "palyra_unknown_field"
"""A field that no capability knows."""
_SAMPLES: tuple[Any, ...] = (None, True, 7, 0.5, "text", [], {})
_MOST_WRONG = 6


class Verdict(enum.Enum):
    """What became of a check; only ``FAIL`` is a reason not to publish."""

    OK = "ok"
    WARN = "warn"
    SKIP = "skip"
    FAIL = "FAIL"


@attrs.frozen(slots=True)
class Finding:
    """One check of one capability, or of the whole plugin; a sentence where it is not ``OK``."""

    check: str
    subject: str
    verdict: Verdict = Verdict.OK
    sentence: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict.value:<4}  {self.check:<14}  {self.subject}"
        return f"{line}: {self.sentence}" if self.sentence else line


def check_conformance(
    source: Source,
    *,
    examples: Mapping[str, Any] = {},
    settings: Mapping[str, Mapping[str, Any]] = {},
    argv: Sequence[str] = WORKER_ARGV,
) -> list[Finding]:
    """What is wrong with a plugin; nothing where it may be published.

    ``examples`` are inputs, by capability, that may be run; ``settings`` what they need.
    """
    found = examine(source, examples=examples, settings=settings, argv=argv)
    return [each for each in found if each.verdict is Verdict.FAIL]


def examine(
    source: Source,
    *,
    examples: Mapping[str, Any] = {},
    settings: Mapping[str, Mapping[str, Any]] = {},
    argv: Sequence[str] = WORKER_ARGV,
) -> Iterator[Finding]:
    """Every check of a plugin, as it is made."""
    with CapabilityHost(source, argv=argv) as host:
        subject = source if isinstance(source, str) else getattr(source, "__name__", "plugin")
        offers, said = host.look()
        yield from (
            Finding("loads", each.name, Verdict.FAIL, each.sentence) for each in said.faults
        )
        if not offers:
            if not said.faults:
                yield Finding("loads", subject, Verdict.FAIL, "It offers nothing.")
            return
        yield Finding("loads", subject)
        yield from _unmeant(offers, examples)
        yield _quiet(host, subject)
        yield _repeats(host, subject, offers)
        for offer in offers:
            yield from _described(offer)
            if _profile(offer):
                continue  # a schema that no node takes is good for no check
            yield from _configured(offer, settings.get(offer.name))
            yield from _refuses(host, offer)
            yield from _runs(host, offer, examples, settings.get(offer.name, {}))


# -- the plugin ---------------------------------------------------------------------------------


def _quiet(host: CapabilityHost, subject: str) -> Finding:
    if not isinstance(host.source, str):
        return Finding("quiet import", subject, Verdict.SKIP, "It was imported already.")
    if written := host.take_written():
        first = written.splitlines()[0][:120]
        return Finding("quiet import", subject, Verdict.WARN, f"It writes when imported: {first}")
    return Finding("quiet import", subject)


def _repeats(host: CapabilityHost, subject: str, offers: Sequence[Offer]) -> Finding:
    again, _ = host.look()
    if {each.name: each.digest for each in offers} == {each.name: each.digest for each in again}:
        return Finding("same each time", subject)
    sentence = "It describes itself otherwise each time; grants would be suspended."
    return Finding("same each time", subject, Verdict.FAIL, sentence)


def _unmeant(offers: Sequence[Offer], examples: Mapping[str, Any]) -> Iterator[Finding]:
    """Examples of what is not offered: else a slip of the pen would leave them out unseen."""
    known = {each.name for each in offers}
    for name in sorted(examples.keys() - known):
        sentence = f"It is not offered; there is {', '.join(sorted(known))}."
        yield Finding("example", name, Verdict.FAIL, sentence)


# -- a capability as it is described ------------------------------------------------------------


def _described(offer: Offer) -> Iterator[Finding]:
    said = offer.descriptor
    yield _judged("name", offer, refusal(said.name, said.api, said.distribution))
    yield _judged("profile", offer, _profile(offer))
    plain = said.description.strip()
    bare = plain == said.name or len(plain.split()) < 2
    yield _judged("description", offer, "It does not say what it does." if bare else "")
    own = "" if said.api == API else f"It was made for plugin API {said.api}."
    yield _judged("api", offer, own)


def _profile(offer: Offer) -> str:
    said = offer.descriptor
    try:
        decode_descriptor(offer.raw)
        check_profile(said.input_schema, "input_type")
        check_profile(said.output_schema, "output_type")
        if said.settings_schema is not None:
            check_profile(said.settings_schema, "settings_type")
    except Malformed as error:
        return error.sentence
    return ""


def _configured(offer: Offer, given: Mapping[str, Any] | None) -> Iterator[Finding]:
    if offer.descriptor.settings_schema is None:
        return
    try:
        settings_of(offer.descriptor, {**(given or {}), UNKNOWN: 1})
        yield _judged("settings", offer, "It takes settings that it does not know.")
    except SettingsInvalid:
        yield _judged("settings", offer, "")
    if given is None:
        return
    try:
        settings_of(offer.descriptor, given)
    except SettingsInvalid as error:
        yield _judged("given settings", offer, error.sentence)


# -- a capability as it runs --------------------------------------------------------------------


def _refuses(host: CapabilityHost, offer: Offer) -> Iterator[Finding]:
    checker = Checker(offer.descriptor.input_schema)
    if not checker.faults({UNKNOWN: 1}):
        sentence = "It takes objects of any fields."
        yield Finding("unknown field", offer.name, Verdict.SKIP, sentence)
    else:
        yield _refused(host, offer, "unknown field", [{UNKNOWN: 1}])
    wrong = list(_wrong(offer, checker))
    if not wrong:
        yield Finding("wrong types", offer.name, Verdict.SKIP, "It takes any JSON.")
    else:
        yield _refused(host, offer, "wrong types", wrong)


def _wrong(offer: Offer, checker: Checker) -> Iterator[Any]:
    """Values that the schema refuses: of another type, or with a field of one."""
    whole = [each for each in _SAMPLES if checker.faults(each)]
    yield from whole[:2]
    for name in _fields(offer)[: _MOST_WRONG - 2]:
        yield from [{name: each} for each in _SAMPLES if checker.faults({name: each})][:1]


def _fields(offer: Offer) -> list[str]:
    schema = offer.descriptor.input_schema
    reference = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    meant = schema.get("$defs", {}).get(reference, schema)
    return list(meant.get("properties", {}))


def _refused(host: CapabilityHost, offer: Offer, check: str, inputs: Sequence[Any]) -> Finding:
    for value in inputs:
        raw = msgspec.json.encode(value)
        result = host.perform(offer, raw)
        if result.error_code != "input_invalid":
            ended = result.error or result.kind.value
            return _judged(check, offer, f"It did not refuse {raw.decode()}: {ended}")
    return _judged(check, offer, "")


def _runs(
    host: CapabilityHost, offer: Offer, examples: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[Finding]:
    if offer.name not in examples:
        yield Finding("example", offer.name, Verdict.SKIP, "No example was given to run.")
        return
    example = examples[offer.name]
    try:
        result = host.run(offer.name, example, settings=settings)
    except SettingsInvalid as error:
        yield _judged("example", offer, error.sentence)
        return
    yield _judged("example", offer, "" if result.succeeded else result.error or result.kind.value)
    faults = Checker(offer.descriptor.output_schema).faults(result.output, "output")
    if result.succeeded:
        yield _judged("output", offer, "".join(f"{e.field} {e.problem}. " for e in faults).strip())
    configured = attrs.evolve(offer, settings=settings_of(offer.descriptor, settings))
    yield _cancelled(host, configured, msgspec.json.encode(example))


def _cancelled(host: CapabilityHost, offer: Offer, raw: bytes) -> Finding:
    asked: list[float] = []

    def at_once(watched: Watched) -> None:
        watched.began()
        asked.append(time.monotonic())

    result = host.perform(offer, raw, cancel=at_once)
    took_s = time.monotonic() - asked[0]
    if result.kind is OutcomeKind.CANCELLED and result.stopped and took_s < host.grace_s:
        return Finding("cancel", offer.name)
    if result.succeeded:
        sentence = "It ended before it could be cancelled."
        return Finding("cancel", offer.name, Verdict.SKIP, sentence)
    if result.kind is OutcomeKind.CANCELLED:
        sentence = f"It did not end within {host.grace_s:g} s of a cancel."
        return _judged("cancel", offer, sentence)
    return _judged("cancel", offer, f"It failed when it was cancelled: {result.error}")


def _judged(check: str, offer: Offer, problem: str) -> Finding:
    return Finding(check, offer.name, Verdict.FAIL if problem else Verdict.OK, problem)
