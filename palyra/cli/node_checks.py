"""What ``palyra doctor`` can find out about the node host on a state root."""

from __future__ import annotations

from pathlib import Path

from palyra.cli import words
from palyra.cli.nodefacts import Facts, look
from palyra.config.nodepolicy import load_node_policy
from palyra.console.models import Check
from palyra.errors import ConfigInvalid, PalyraError
from palyra.node.controlwords import StatusAnswer
from palyra.node.files import NodeFiles

NAME = "node host"


def is_alone(root: Path) -> bool:
    """Whether a node host was here, and never a gateway."""
    return NodeFiles(root).root.is_dir() and not (root / "identity").exists()


def checks(root: Path) -> list[Check]:
    """Nothing where no node host was ever here."""
    files = NodeFiles(root)
    if not files.root.is_dir():
        return []
    return [*_host(root, files), _rules(files)]


def _host(root: Path, files: NodeFiles) -> list[Check]:
    facts = look(root)
    where = str(files.control)
    status = facts.answer
    if status is None:
        return [_silent(facts, where), *_service(facts)]
    finding, hint = f"{status.name} is {status.state}, pid {status.pid}", ""
    if status.state != "online":
        error = status.last_error
        lasts = error is not None and not error.healed_at_unix_ms
        finding = f"{finding}: {error.sentence.rstrip('.')}" if error and lasts else finding
        hint = (error.hint if error and lasts else "") or "on the gateway: palyra doctor"
    host = Check("warn" if hint else "ok", NAME, finding, where, hint)
    return [host, *_service(facts), _plugins(status)]


def _silent(facts: Facts, where: str) -> Check:
    """Nobody answers: because nobody runs, or somebody is not asked rightly."""
    if facts.silent is not None:
        return Check("FAIL", NAME, _finding(facts.silent), where, facts.silent.hint)
    if facts.running:
        return Check("warn", NAME, f"pid {facts.pid} begins", where, "palyra node status")
    command = "palyra node start" if facts.mark is not None else "palyra node run"
    return Check("warn", NAME, "no node host runs here", where, command)


def _service(facts: Facts) -> list[Check]:
    """What the manager says, where it is in its care; and what in its files cannot be read."""
    checks = [
        Check("FAIL", NAME, _finding(each), str(facts.files.root), each.hint)
        for each in facts.problems
        if each is not facts.silent
    ]
    mark, state = facts.mark, facts.service
    if mark is None or state is None:
        return checks
    finding = f"{facts.described}, {'running' if state.running else state.word or 'stopped'}"
    finding += f": {state.result}" if state.result else ""
    fine = facts.by_service and not state.result
    where = ", ".join(mark.files)
    hint = "" if fine else "palyra node status"
    return [*checks, Check("ok" if fine else "warn", "service", finding, where, hint)]


def _finding(error: PalyraError) -> str:
    return error.sentence.rstrip(".")


def _plugins(status: StatusAnswer) -> Check:
    """What is offered, and how well what others have brought is kept apart and ended."""
    count = status.capabilities
    noun = "capability" if count.count == 1 else "capabilities"
    finding = (
        f"{words.number(count.count)} {noun}, {words.counted(count.faults, 'fault')}; "
        f"processes kept by {status.containment or 'an older node host'}"
    )
    hint = "palyra capability list" if count.faults else ""
    return Check("warn" if count.faults else "ok", "plugins", finding, "", hint)


def _rules(files: NodeFiles) -> Check:
    """Whether the owner's rules can be read."""
    where = str(files.policy)
    try:
        count = len(load_node_policy(files.policy).rules)
    except ConfigInvalid as error:
        return Check("FAIL", "owner's rules", error.sentence.rstrip("."), where, error.hint)
    return Check("ok", "owner's rules", words.counted(count, "rule"), where)
