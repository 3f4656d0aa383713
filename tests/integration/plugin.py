"""A capability distribution as pip would leave it, and an interpreter that has it installed.

Workers run isolated: they see what is installed and nothing that an environment variable names.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import venv
from pathlib import Path

_MODULE = '''
import asyncio
from pathlib import Path

import msgspec

from palyra.capability import Capability, hookimpl


class Slow(msgspec.Struct, forbid_unknown_fields=True):
    started: str
    release: str
    effects: str = ""


async def slow(asked: Slow, context) -> str:
    """Leave a trace, then wait until the test lets go."""
    with open(asked.started, "a") as file:
        file.write("started\\n")
    if asked.effects:
        with open(asked.effects, "a") as file:
            file.write("effect\\n")
    while not Path(asked.release).exists():
        await asyncio.sleep(0.02)
    return context.device.name


@hookimpl
def palyra_capabilities():
    return [
        Capability(
            name=name, description="Waits.", handler=slow, input_type=Slow, output_type=str,
            idempotent=idempotent, timeout_s=60.0,
        )
        for name, idempotent in (("test.slow_echo", True), ("test.slow_effect", False))
    ]
'''


def install(directory: Path, name: str = "slow", module: str = _MODULE) -> Path:
    """Put the distribution into ``directory``, which then belongs on a node's import path."""
    info = directory / f"{name}_capabilities-1.0.dist-info"
    info.mkdir(parents=True)
    (directory / f"{name}_capabilities.py").write_text(module)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}-capabilities\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(f"[palyra.capabilities]\n{name} = {name}_capabilities\n")
    return directory


def interpreter(directory: Path) -> str:
    """A Python that has what this one has, and the distributions in ``directory``."""
    home = directory / ".venv"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=False, symlinks=os.name != "nt")
        paths = {"base": str(home), "platbase": str(home)}
        packages = Path(sysconfig.get_path("purelib", "venv", paths))
        seen = [directory, *(each for each in sys.path if "site-packages" in each)]
        (packages / "installed.pth").write_text("".join(f"{each}\n" for each in seen))
    return str(python)
