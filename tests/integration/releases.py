"""Palyra itself in other versions, as pip would install them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from palyra import __version__
from tests.integration import wheels

ROOT = Path(__file__).parents[2]
_PARTS = (
    "palyra",
    "capabilities",
    "twisted",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def neighbours() -> tuple[str, str]:
    """A version that is one minor version older than this one, and one that is newer; before 0.1
    there was nothing, so the last of 0.0 stands for it."""
    major, minor = (int(part) for part in __version__.split(".")[:2])
    older = f"{major}.{minor - 1}.9" if minor else f"{max(0, major - 1)}.9.9"
    return older, f"{major}.{minor + 1}.0"


def as_version(version: str, where: Path) -> Path:
    """The wheel of this tree, called another version."""
    project = where / f"palyra-{version}"
    project.mkdir(parents=True)
    for part in _PARTS:
        _copy(ROOT / part, project / part)
    file = project / "palyra" / "__init__.py"
    changed = re.sub(r'__version__ = "[^"]+"', f'__version__ = "{version}"', file.read_text())
    file.write_text(changed)
    return wheels.built(project, where)


def last_release(where: Path) -> Path | None:
    """The wheel of the newest tag ``vMAJOR.MINOR.PATCH`` that is not this version; None where
    there is none, or no repository."""
    git = ["git", "-C", str(ROOT)]
    tags = _said(*git, "tag", "--list", "v[0-9]*", "--sort=-version:refname").split()
    older = [tag for tag in tags if tag != f"v{__version__}"]
    if not older:
        return None
    project = where / f"palyra-{older[0]}"
    project.mkdir(parents=True)
    archive = where / "release.tar"
    _said(*git, "archive", "--format=tar", f"--output={archive}", older[0])
    shutil.unpack_archive(archive, project, filter="data")
    return wheels.built(project, where)


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
