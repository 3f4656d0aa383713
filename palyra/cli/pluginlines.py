"""This installation's capabilities, as lines for people and scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import msgspec

from palyra.capability.catalogue import Catalogue, Fault, Offer
from palyra.capability.settings import SECRET_MARK
from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.present import Screen, json_text
from palyra.cli.tables import Cell, Column, cell
from palyra.core.descriptors import Descriptor, Schema
from palyra.errors import PluginFailed
from palyra.plugins.discovery import Wishes

OK, ASKS, DISABLED, FAILED = "ok", "asks on device", "disabled", "failed"
_STYLES = {OK: "green", ASKS: "green", DISABLED: "dim", FAILED: "red"}
_COLUMNS = (
    Column("NAME", cut="middle", floor=16),
    Column("VERSION"),
    Column("RISK"),
    Column("STATE", cut="end", floor=14),
    Column("FROM", cut="end", floor=12, wide=True),
    Column("TIMEOUT", right=True, wide=True),
    Column("IDEMPOTENT", wide=True),
)
_MOST_SECONDS_MS = 120_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One capability of this installation, or a plugin that brought none, as ``list`` says it.

    ``state`` is ok, asks on device, disabled or failed; ``here``: it runs in the node host itself.
    What is not known of a plugin that failed is empty or null.
    """

    name: str
    state: str
    distribution: str
    distribution_version: str = ""
    fault: str = ""
    version: str = ""
    risk: str = ""
    asks: bool | None = None
    idempotent: bool | None = None
    timeout_ms: int | None = None
    max_concurrency: int | None = None
    here: bool | None = None
    digest: str = ""


class Setting(msgspec.Struct, frozen=True):
    """One thing that may be configured; never its value."""

    name: str
    type: str
    required: bool
    secret: bool
    configured: bool


class Whole(Entry, frozen=True, kw_only=True):
    """As :class:`Entry`, with everything that ``show`` says besides."""

    description: str = ""
    settings: tuple[Setting, ...] = ()
    input_schema: Schema | None = None
    output_schema: Schema | None = None


class Listed(msgspec.Struct, frozen=True):
    """What ``capability list --json`` prints."""

    capabilities: tuple[Entry, ...]


class Several(msgspec.Struct, frozen=True):
    """What ``capability show --json`` prints where one name is offered more than once."""

    capabilities: tuple[Whole, ...]


@attrs.frozen
class Plugins:
    """What is installed, and what the owner wants of it; ``asks`` is whether a person at the device
    may be asked before that capability runs."""

    catalogue: Catalogue
    wishes: Wishes
    asks: Callable[[Descriptor], bool]

    def entries(self) -> list[Whole]:
        """All of them, by name."""
        offered = [self._offered(each) for each in self.catalogue.offers.values()]
        broken = [self._broken(each) for each in self.catalogue.faults]
        return sorted([*offered, *broken], key=lambda each: (each.name, each.distribution))

    def named(self, name: str) -> list[Whole]:
        """Those of that name: two where distributions fight about it."""
        return [each for each in self.entries() if each.name == name]

    def _offered(self, offer: Offer) -> Whole:
        state = ASKS if self.asks(offer.descriptor) else OK
        return self._described(offer, state)

    def _broken(self, fault: Fault) -> Whole:
        state = DISABLED if fault.by_owner else FAILED
        said = "" if fault.by_owner else fault.sentence
        if fault.offer is not None:
            return self._described(fault.offer, state, said)
        return Whole(
            name=fault.name,
            state=state,
            distribution=fault.distribution,
            distribution_version=fault.version,
            fault=said,
        )

    def _described(self, offer: Offer, state: str, fault: str = "") -> Whole:
        said = offer.descriptor
        return Whole(
            name=said.name,
            state=state,
            distribution=said.distribution,
            fault=fault,
            version=said.version,
            risk=said.risk,
            asks=self.asks(said),
            idempotent=said.idempotent,
            timeout_ms=said.timeout_ms,
            max_concurrency=said.max_concurrency,
            here=self.wishes.runs_here(said.name),
            digest=offer.digest,
            description=said.description,
            settings=tuple(
                _settings(said.settings_schema, self.wishes.settings.get(said.name, {}))
            ),
            input_schema=said.input_schema,
            output_schema=said.output_schema,
        )


def show_all(screen: Screen, entries: list[Whole]) -> None:
    """The table of ``capability list``."""
    if screen.as_json:
        brief = [_brief(each) for each in entries]
        return screen.json(msgspec.json.encode(Listed(tuple(brief))))
    screen.table(_COLUMNS, [_row(each) for each in entries])
    failed = [each.name for each in entries if each.state == FAILED]
    if failed and screen.tty:
        screen.hint(f"palyra capability show {words.escaped(failed[0])}")
    return None


def show(screen: Screen, entries: list[Whole]) -> None:
    """Everything about what has one name: two where distributions fight about it."""
    if screen.as_json:
        document = entries[0] if len(entries) == 1 else Several(tuple(entries))
        return screen.json(msgspec.json.encode(document))
    for entry in entries:
        _show_one(screen, entry)
    failed = [each for each in entries if each.state == FAILED]
    if failed and screen.tty:
        entry = failed[0]
        error = PluginFailed(entry.distribution, entry.distribution_version, entry.fault)
        screen.hint(error.hint)
    return None


def _show_one(screen: Screen, entry: Whole) -> None:
    if screen.tty:
        screen.parts((words.escaped(entry.name), "bold"), (f"  {words.escaped(entry.version)}", ""))
    else:
        screen.pair("name", entry.name)
        screen.pair("version", entry.version)
    facts.show(screen, list(_facts(entry)))
    for title, schema in (("input", entry.input_schema), ("output", entry.output_schema)):
        if schema is not None:
            _show_schema(screen, title, schema)


def _brief(entry: Whole) -> Entry:
    return Entry(**{field: getattr(entry, field) for field in Entry.__struct_fields__})


def _row(entry: Entry) -> list[Cell]:
    return [
        cell(entry.name),
        cell(entry.version),
        cell(entry.risk),
        _state(entry),
        cell(entry.distribution),
        cell(_timeout(entry.timeout_ms), str(entry.timeout_ms or "")),
        cell(_yes(entry.idempotent)),
    ]


def _state(entry: Entry) -> Cell:
    text = f"{entry.state}: {entry.fault.rstrip('.')}" if entry.fault else entry.state
    mark = "!! " if entry.state == FAILED else ""
    return cell(mark + text, text, _STYLES[entry.state])


def _facts(entry: Whole) -> Iterator[Fact]:
    state = _state(entry)
    yield Fact("state", state.shown, state.raw, state.style)
    if entry.description:
        yield Fact.same("description", words.escaped(entry.description))
    origin = f"{entry.distribution} {entry.distribution_version}".strip() or words.NOTHING
    yield Fact.same("from", words.escaped(origin))
    if entry.timeout_ms is None:
        return
    yield Fact.same("risk", entry.risk)
    yield Fact.same("mediation", ASKS if entry.asks else "not needed")
    yield Fact.same("idempotent", _yes(entry.idempotent))
    yield Fact("timeout", _timeout(entry.timeout_ms), str(entry.timeout_ms))
    yield Fact.same("at once", str(entry.max_concurrency))
    yield Fact.same("runs in", "the node host" if entry.here else "a process of its own")
    if entry.settings:
        lines = [words.escaped(_setting(each)) for each in entry.settings]
        yield Fact("settings", "\n".join(lines), "; ".join(lines))


def _setting(each: Setting) -> str:
    kind = "secret, { file = ... }" if each.secret else each.type
    needed = "required" if each.required else "optional"
    return f"{each.name}: {kind}, {needed}, {'set' if each.configured else 'not set'}"


def _show_schema(screen: Screen, title: str, schema: Schema) -> None:
    document = msgspec.json.encode(schema)
    if not screen.tty:
        screen.pair(title, document.decode())
        return
    screen.line(title, "dim")
    screen.line(json_text(document, 2))


def _timeout(timeout_ms: int | None) -> str:
    if timeout_ms is None:
        return ""
    if timeout_ms % 1000 == 0 and timeout_ms <= _MOST_SECONDS_MS:
        return f"{timeout_ms // 1000}s"
    return words.duration(timeout_ms)


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


# -- settings -----------------------------------------------------------------------------------


def _settings(schema: Schema | None, configured: Mapping[str, Any]) -> Iterator[Setting]:
    """What may be configured, in the order of the plugin."""
    if schema is None:
        return
    meant = _meant(schema, schema)
    required = [name for each in meant for name in each.get("required", ())]
    for each in meant:
        for name, said in each.get("properties", {}).items():
            parts = _meant(said, schema)
            secret = any(part.get(SECRET_MARK) is True for part in parts)
            kind = " or ".join(dict.fromkeys(_kinds(parts))) or "any value"
            yield Setting(name, kind, name in required, secret, name in configured)


def _meant(said: Any, root: Schema) -> list[dict[str, Any]]:
    """A schema with what it refers to, and its alternatives."""
    if not isinstance(said, dict):
        return []
    found = [said]
    reference = said.get("$ref")
    if isinstance(reference, str):
        found += _meant(root.get("$defs", {}).get(reference.removeprefix("#/$defs/")), root)
    for each in said.get("anyOf", ()):
        found += _meant(each, root)
    return found


def _kinds(parts: list[dict[str, Any]]) -> Iterator[str]:
    for part in parts:
        kind = part.get("type")
        if isinstance(kind, str):
            yield kind
        if "enum" in part:
            yield " or ".join(msgspec.json.encode(each).decode() for each in part["enum"][:8])
