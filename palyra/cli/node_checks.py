"""What ``palyra doctor`` can find out about the node host on a state root."""

from __future__ import annotations

from pathlib import Path

from palyra.cli import words
from palyra.cli.nodehost import NodeHost
from palyra.config.nodepolicy import load_node_policy
from palyra.console.models import Check
from palyra.errors import ConfigInvalid, NodeHostNotRunning, PalyraError
from palyra.node.controlwords import Status, StatusAnswer
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
    where = str(files.control)
    try:
        status = NodeHost(root).ask(Status(), StatusAnswer).value
    except NodeHostNotRunning:
        return [Check("warn", NAME, "no node host runs here", where, "palyra node run")]
    except PalyraError as error:
        return [Check("FAIL", NAME, error.sentence.rstrip("."), where, error.hint)]
    finding = f"{status.name} is {status.state}, pid {status.pid}"
    verdict = "ok" if status.state == "online" else "warn"
    hint = "" if status.state == "online" else "on the gateway: palyra doctor"
    return [Check(verdict, NAME, finding, where, hint), _plugins(status)]


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
