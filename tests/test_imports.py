"""Tests of what importing does, each in a process of its own, because imports cannot be undone."""

from __future__ import annotations

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys
from importlib.util import find_spec
for root in ("palyra", "palyra_capabilities"):
    package = importlib.import_module(root)
    for found in pkgutil.walk_packages(package.__path__, root + "."):
        if found.name == "palyra.store.migrations.env":  # runs inside alembic only
            continue
        if found.name.startswith("palyra.mcp.") and not find_spec("mcp"):  # tox -e mcp has it
            continue
        importlib.import_module(found.name)
        if "twisted.internet.reactor" in sys.modules:
            sys.exit(found.name + " installs a reactor")
"""

IMPORT_PLUGIN = """
import sys
import twisted.plugins.palyra_plugins
ours = [name for name in sys.modules if name.split(".")[0] == "palyra"]
if ours or "twisted.internet.reactor" in sys.modules:
    sys.exit(f"the plugin imports {ours or 'a reactor'}")
"""

PLUGINS = """
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
made = {maker.tapname: maker.module for maker in getPlugins(IServiceMaker)}
print(made.get("palyra"), made.get("palyra-node"))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


def test_no_module_installs_a_reactor() -> None:
    """Importing any module of ours leaves the choice of the reactor open."""
    done = python(IMPORT_ALL)
    assert done.returncode == 0, done.stderr


def test_the_twistd_plugin_imports_nothing_of_ours() -> None:
    """Every ``twistd`` command reads the plugin file: it costs no import and chooses no reactor."""
    done = python(IMPORT_PLUGIN)
    assert done.returncode == 0, done.stderr


def test_twistd_finds_both_commands() -> None:
    """``twistd palyra`` and ``twistd palyra-node`` are known and lead to their tap modules."""
    done = python(PLUGINS)
    assert done.stdout.split() == ["palyra.gateway.tap", "palyra.node.tap"], done.stderr
