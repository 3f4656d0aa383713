"""The page's modules that need no browser, tested where Node.js is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import palyra.console

STATIC = Path(palyra.console.__file__).parent / "static"
TESTS = Path(__file__).parent / "page"
NODE = shutil.which("node")
LIMIT_S = 120


def _modern() -> bool:
    """Whether Node.js knows what browsers know since 2023: ``URL.canParse``, ``node --test``."""
    if NODE is None:
        return False
    asked = [NODE, "-e", "process.exit(URL.canParse('a:b') ? 0 : 1)"]
    return subprocess.run(asked, capture_output=True, timeout=LIMIT_S, check=False).returncode == 0


@pytest.mark.skipif(not _modern(), reason="Node.js 20 or newer is not installed")
@pytest.mark.parametrize("test", sorted(TESTS.glob("*.test.mjs")), ids=lambda each: each.stem)
def test_what_a_module_promises(test: Path, tmp_path: Path) -> None:
    """Forms, JSON and words are what the page says they are."""
    assert NODE is not None
    for module in STATIC.glob("*.js"):
        shutil.copy(module, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    shutil.copy(test, tmp_path)
    run = [NODE, "--test", test.name]
    done = subprocess.run(
        run, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
