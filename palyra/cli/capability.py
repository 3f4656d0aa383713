"""``palyra capability``: the plugins of this installation, and new ones."""

from __future__ import annotations

import difflib

import click

from palyra.cli import capability_new, pluginlines
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.cli.pluginlines import Plugins
from palyra.errors import CapabilityNotInstalled

_SHOWN = 64


@click.group(cls=VerbGroup)
def capability() -> None:
    """See the capabilities that are installed here; write new ones."""


@capability.command("list")
@pass_call
def list_capabilities(call: Call) -> None:
    """List what the plugins of this installation offer.

    Plugins that are broken are listed too, with what is wrong.
    """
    pluginlines.show_all(call.screen, _plugins(call).entries())


@capability.command()
@click.argument("name")
@pass_call
def show(call: Call, name: str) -> None:
    """Show a capability: what it needs, its settings, its schemas.

    Settings are named, their values are never shown.
    """
    plugins = _plugins(call)
    found = plugins.named(name)
    if not found:
        known = [each.name for each in plugins.entries()]
        nearest = difflib.get_close_matches(name[:_SHOWN], known)
        raise CapabilityNotInstalled(name[:_SHOWN], tuple(nearest))
    pluginlines.show(call.screen, found)


capability.add_command(capability_new.new)


def _plugins(call: Call) -> Plugins:
    """What is installed, as the configuration of the state root has it; no node host is needed."""
    from platformdirs import user_cache_path

    from palyra.config import load
    from palyra.config.nodepolicy import load_node_policy
    from palyra.node.files import NodeFiles
    from palyra.node.finding import find_once, not_installed, wishes_of

    rules = load_node_policy(NodeFiles(call.state_root).policy)
    section = load(call.state_root / "palyra.toml").node
    with call.screen.working("asking the plugins"):
        catalogue = find_once(section, user_cache_path("palyra", False))
    for name in not_installed(section, catalogue):
        call.screen.aside(
            f"warn  palyra.toml configures {name}, which no plugin here has", "yellow"
        )
    return Plugins(
        catalogue,
        wishes_of(section),
        lambda said: rules.may_ask(said.name, risk=said.risk, needs_mediation=said.needs_mediation),
    )
