"""Distributions made on the spot, and a worker that sees them although it runs isolated.

They are never installed: a directory holds the modules and the ``.dist-info`` that pip would have
written, and the worker is started through a launcher that appends such directories to its path.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

WORKER = "palyra.capability.worker"
GROUP = "palyra.capabilities"
_LAUNCHER = (
    "import runpy, sys; sys.path += {dirs!r}; "
    f"runpy.run_module({WORKER!r}, run_name='__main__', alter_sys=True)"
)
_ONE = """\
import asyncio, os, signal, subprocess, sys, threading, time
from typing import Any

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl

{head}

async def handler(input, context):
{body}


@hookimpl
def palyra_capabilities():
    return [Capability(name={name!r}, description="Made for a test.", handler=handler, {options})]
"""


def make_distribution(
    path: Path,
    name: str,
    version: str,
    modules: Mapping[str, str],
    entry_points: Mapping[str, str],
) -> Path:
    """Write a distribution into the directory ``path`` and return that; several may share it.

    ``modules`` are sources by dotted name (one with modules below it becomes a package),
    ``entry_points`` the points of the group ``palyra.capabilities``: ``{"acme": "acme_tools"}``.
    """
    path.mkdir(parents=True, exist_ok=True)
    files = {_file_of(module, modules): source for module, source in modules.items()}
    points = "".join(f"{point} = {target}\n" for point, target in entry_points.items())
    folder = f"{re.sub(r'[-_.]+', '_', name)}-{version}.dist-info"
    files[f"{folder}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{folder}/entry_points.txt"] = f"[{GROUP}]\n{points}"
    for file, text in files.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text)
    record = "".join(_recorded(file, text) for file, text in files.items())
    (path / folder / "RECORD").write_text(f"{record}{folder}/RECORD,,\n")
    return path


def make_capability(
    path: Path,
    capability: str,
    body: str,
    *,
    distribution: str = "",
    version: str = "1.0",
    options: str = "",
    head: str = "",
) -> str:
    """Write a distribution of one capability and return the distribution's name.

    ``body`` is that of ``async def handler(input, context)``, ``options`` more arguments of the
    Capability as source, ``head`` what comes before them in the module.  Without a name the
    distribution of ``acme.print_page`` is ``acme-print-page``.
    """
    name = distribution or re.sub(r"[._]+", "-", capability)
    module = re.sub(r"[-.]+", "_", name)
    source = _ONE.format(
        head=textwrap.dedent(head),
        body=textwrap.indent(textwrap.dedent(body).strip("\n"), "    "),
        name=capability,
        options=options,
    )
    make_distribution(path, name, version, {module: source}, {capability: module})
    return name


def worker_argv(*dirs: Path) -> list[str]:
    """The command that starts a worker which sees ``dirs``; the distribution's name comes after."""
    code = _LAUNCHER.format(dirs=[str(each) for each in dirs])
    return [sys.executable, "-I", "-c", code]


def _file_of(module: str, modules: Mapping[str, str]) -> str:
    package = any(other.startswith(f"{module}.") for other in modules)
    return module.replace(".", "/") + ("/__init__.py" if package else ".py")


def _recorded(file: str, text: str) -> str:
    raw = text.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"{file},sha256={digest},{len(raw)}\n"
