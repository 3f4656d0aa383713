"""``palyra node``: the node host on this device."""

from __future__ import annotations

from typing import Any

import click

from palyra.cli import nodecontrol, nodeservice
from palyra.cli.nodeinstall import install
from palyra.cli.nodeleave import uninstall
from palyra.cli.nodelogs import logs
from palyra.cli.nodepairing import Asked, pairing_options
from palyra.cli.nodestatus import status
from palyra.cli.options import Call, VerbGroup, pass_call


@click.group(cls=VerbGroup)
def node() -> None:
    """Run the node host on this device; say what may run there."""


@node.command()
@pairing_options
@pass_call
def run(call: Call, /, **given: Any) -> int:
    """Run the node host until Ctrl-C, and pair it first if told to.

    It is paired where a gateway or a pairing line is given.
    """
    options = Asked(**given).options(call.state_root)
    from palyra.node.foreground import run as run_node

    code = run_node(options)
    from palyra.node.files import NodeFiles
    from palyra.node.pairing import unfinished

    if unfinished(NodeFiles(call.state_root)) is not None:
        call.screen.aside("note  the pairing still waits for an operator")
        call.screen.hint("palyra node run")
    return code


for _verb in (install, *nodeservice.VERBS, status, logs, uninstall, *nodecontrol.VERBS):
    node.add_command(_verb)
