"""``python -m palyra.node`` as the Task Scheduler of Windows runs it, as far as Linux can show it.

No standard streams, no UNIX sockets, and twistd's face for Windows, which neither forks nor knows a
pidfile.  What is left out is what only Windows has: its files, its processes, its selector.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import palyra._ownersocket

palyra._ownersocket.AVAILABLE = False  # before anybody has read it

from twisted.scripts import _twistw, twistd  # noqa: E402

import palyra._daemon  # noqa: E402
from palyra.node.__main__ import main  # noqa: E402

nowhere = os.open(os.devnull, os.O_RDWR)
for descriptor in range(3):
    os.dup2(nowhere, descriptor)
for name in ("stdin", "stdout", "stderr"):
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
face: Any = twistd
face._SomeApplicationRunner = _twistw.WindowsApplicationRunner
face.ServerOptions = _twistw.ServerOptions
for function in (palyra._daemon.prepare, palyra._daemon.CleanFailure.__init__):
    defaults: dict[str, Any] = function.__kwdefaults__  # type: ignore[attr-defined]
    defaults["posix"] = False
main(posix=False)
