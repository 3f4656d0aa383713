"""``palyra doctor``: what can be checked here, then what only the gateway can check."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from palyra.cli import console_checks, key_checks, local_checks, node_checks, words
from palyra.cli.client import SOCKET_NAME, Console
from palyra.cli.noderoot import node_state_root
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.cli.tables import GAP, WIDE, Column, cell, style_of
from palyra.console.models import Check, Contract, Health
from palyra.errors import GatewayNotRunning, PalyraError

_LEAST_WHERE = 12
_VERDICT = 6
_ORDER = ("ok", "warn", "FAIL")
_COLUMNS = (Column("VERDICT"), Column("CHECK"), Column("FINDING"), Column("WHERE", wide=True))


class Report(msgspec.Struct, frozen=True):
    """``palyra doctor --json``; ``gateway`` is its own answer, None where none runs."""

    contract: Contract
    state_root: str
    gateway: Health | None
    checks: list[Check]


@click.command(cls=Verb)
@pass_call
def doctor(call: Call) -> int:
    """Check the state root, the files, the clock, the ports and the gateway; exit 1 on a FAIL."""
    root = call.state_root
    afar = call.afar
    gateway, socket = _gateway(call.console, str(root / SOCKET_NAME) if afar is None else afar.url)
    checks = [socket]
    if afar is None:
        checks = _local(root, socket, running=gateway is not None)
        checks += node_checks.checks(node_state_root(call))
    if gateway is not None:
        checks += gateway.checks
    if call.screen.as_json:
        report = Report(Contract(), str(root), gateway, checks)
        call.screen.json(msgspec.json.encode(report))
    else:
        show(call.screen, checks)
    return 1 if any(check.verdict == "FAIL" for check in checks) else 0


def show(screen: Screen, checks: Sequence[Check]) -> None:
    """One line a check, its hint below, then the counts."""
    if not screen.tty:
        rows = [
            [cell(c.verdict), cell(c.name), cell(c.finding), cell(c.where), cell(c.hint)]
            for c in checks
        ]
        screen.table((*_COLUMNS, Column("HINT")), rows)
        return
    name = max(len(check.name) for check in checks)
    room = screen.width - _VERDICT - name - GAP
    lengths = [len(words.escaped(check.finding)) for check in checks]
    # One long finding takes a line of its own length, not the last column from all of them.
    fitting = (length for length in lengths if length + GAP + _LEAST_WHERE <= room)
    finding = max(fitting, default=room)
    for check in checks:
        _show_check(screen, check, name, finding)
    screen.line(_counts(checks))


def _show_check(screen: Screen, check: Check, name: int, finding: int) -> None:
    indent = _VERDICT + name + GAP
    found = words.escaped(check.finding)
    first, *more = _wrapped(found, screen.width - indent)
    parts = [(check.verdict.ljust(_VERDICT), style_of(check.verdict))]
    parts.append((f"{words.escaped(check.name).ljust(name + GAP)}{first}", ""))
    room = screen.width - indent - finding - GAP
    if screen.width >= WIDE and check.where and len(found) <= finding and room >= _LEAST_WHERE:
        where = words.cut_start(words.escaped(check.where), room)
        parts.append((" " * (finding - len(found) + GAP) + where, "dim"))
    screen.parts(*parts)
    for line in more:
        screen.line(" " * indent + line)
    if check.hint:
        screen.parts((" " * indent + "hint: ", ""), (words.escaped(check.hint), "bold"))


def _wrapped(text: str, room: int) -> list[str]:
    """The lines of a finding; paths and addresses stay whole."""
    wrapper = textwrap.TextWrapper(
        max(room, _LEAST_WHERE), break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text) or [""]


def _counts(checks: Sequence[Check]) -> str:
    found = Counter(check.verdict for check in checks)
    counts = ", ".join(f"{found[verdict]} {verdict}" for verdict in _ORDER if found[verdict])
    return f"{words.counted(len(checks), 'check')}: {counts}"


def _gateway(console: Console, where: str) -> tuple[Health | None, Check]:
    try:
        health = console.get("doctor", Health).value
    except GatewayNotRunning as error:
        return None, Check("warn", "gateway", "no gateway runs here", where, error.hint)
    except PalyraError as error:
        return None, Check("FAIL", "gateway", error.sentence.rstrip("."), where, error.hint)
    finding = f"palyra {health.version}, pid {health.pid}, {Path(where).name} answers"
    return health, Check("ok", "gateway", finding, where)


def _local(root: Path, gateway: Check, *, running: bool) -> list[Check]:
    checks = [local_checks.state_root(root)]
    if not root.is_dir():
        return [*checks, gateway]
    configured, config = local_checks.configuration(root)
    database = local_checks.database(root, config.store.url, running=running)
    if not running and node_checks.is_alone(root):
        return [*checks, configured]
    checks += [configured, database, local_checks.key_files(root), gateway]
    now = local_checks.utc_now()
    checks += [local_checks.clock(root, now), *console_checks.checks(root, config, now)]
    if running:
        return checks
    return [*checks, *key_checks.sealed(root, config), *local_checks.ports(config)]
