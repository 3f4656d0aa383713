"""Projects as pip handles them: built into wheels, and installed into a clean environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration import plugin
from tests.integration.processes import environment

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
_MADE = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", ".*_cache", ".venv")


def built(project: Path, where: Path) -> Path:
    """The wheel of a project, built in a copy of it and without the network."""
    before = set(where.glob("*.whl"))
    with tempfile.TemporaryDirectory() as work:
        copy = shutil.copytree(project, Path(work) / "project", ignore=_MADE)
        _run("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", where, copy)
    (wheel,) = set(where.glob("*.whl")) - before
    return wheel


def install(directory: Path, *wheels: Path) -> str:
    """Install wheels into the environment of :func:`tests.integration.plugin.interpreter`, which
    is made; that interpreter."""
    python = plugin.interpreter(directory)
    _run("install", "--no-deps", "--no-index", "--no-compile", *wheels, python=python)
    return python


def _run(verb: str, *arguments: str | Path, python: str = "") -> None:
    where = ["--python", python] if python else []
    done = subprocess.run(
        [*_PIP, *where, verb, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
