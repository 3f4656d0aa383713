"""The definition of a task for the Task Scheduler of Windows, version 1.2 of its schema.

It knows no environment, and puts variables in for what stands between percent signs of a command
line, without any way to say that it should not.
"""

from __future__ import annotations

import re
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote, unquote

import attrs

from palyra.errors import OptionInvalid
from palyra.supervision.service import MANAGER, NAME, Manager, Service

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
RESTARTS = 255
"""As many as the schema has: about four hours of starting every minute."""
MAX_CHARACTERS = 64 * 1024
_REPLACED = re.compile(r"%|\$\(")
_OURS = "state-root:"
_ACTOR = "Author"
_PYTHON = re.compile(r"(?i)(^|[\\/])python([0-9][0-9.]*)?\.exe$")
_SID = re.compile(r"S-1-[0-9]{1,10}(-[0-9]{1,10}){1,14}")


def task_of(service: Service, user: str) -> bytes:
    """The task of the user with that SID: begun when they sign in, as they are, without a window,
    also on batteries, for as long as it wants, and again a minute after it failed.

    :raises OptionInvalid: a path or a value that no task can hold.
    """
    environment = {**service.environment, MANAGER: Manager.TASK.value}
    python, *arguments = service.command(journal=False, environment=environment)
    command = _checked(windowless(python))
    line = _checked(subprocess.list2cmdline(arguments))
    # Not by the directory itself: schtasks prints it in the letters that the console has.
    mark = _OURS + quote(str(service.state_root))
    task = _element(
        "Task",
        _element(
            "RegistrationInfo",
            _element("Description", text="Palyra node host"),
            _element("URI", text=f"\\{NAME}"),
            _element("Documentation", text=mark),
        ),
        _element(
            "Triggers",
            _element(
                "LogonTrigger", _element("Enabled", text="true"), _element("UserId", text=user)
            ),
        ),
        _element(
            "Principals",
            _element(
                "Principal",
                _element("UserId", text=user),
                _element("LogonType", text="InteractiveToken"),
                _element("RunLevel", text="LeastPrivilege"),
                id=_ACTOR,
            ),
        ),
        _settings(),
        _element(
            "Actions",
            _element(
                "Exec",
                _element("Command", text=command),
                _element("Arguments", text=line),
                _element("WorkingDirectory", text=_checked(str(service.state_root))),
            ),
            Context=_ACTOR,
        ),
        version="1.2",
        xmlns=NAMESPACE,
    )
    ET.indent(task)
    body = ET.tostring(task, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{body}\n'.encode("utf-16")


def _settings() -> ET.Element:
    said = {
        "MultipleInstancesPolicy": "IgnoreNew",
        "DisallowStartIfOnBatteries": "false",
        "StopIfGoingOnBatteries": "false",
        "AllowHardTerminate": "true",
        "StartWhenAvailable": "true",
        "RunOnlyIfNetworkAvailable": "false",
        "AllowStartOnDemand": "true",
        "Enabled": "true",
        "Hidden": "false",
        "RunOnlyIfIdle": "false",
        "WakeToRun": "false",
        "ExecutionTimeLimit": "PT0S",
        "Priority": "5",
    }
    again = _element(
        "RestartOnFailure",
        _element("Interval", text="PT1M"),
        _element("Count", text=str(RESTARTS)),
    )
    return _element("Settings", *(_element(name, text=said[name]) for name in said), again)


@attrs.frozen
class Task:
    """What was read of a task; ``state_root`` is None where it is none of ours."""

    state_root: Path | None
    enabled: bool

    @classmethod
    def read(cls, text: str) -> Task:
        """From what ``schtasks /Query /XML`` prints.  Nothing is expected of it."""
        body = re.sub(r"\A\ufeff?\s*<\?xml[^>]{0,200}\?>", "", text[: MAX_CHARACTERS + 1])
        try:
            if len(body) > MAX_CHARACTERS or "<!DOCTYPE" in body:
                raise ValueError
            task = ET.fromstring(body)
        except (ET.ParseError, ValueError):
            return cls(None, False)
        mark = _text(task, "RegistrationInfo", "Documentation")
        root = unquote(mark.removeprefix(_OURS)) if mark.startswith(_OURS) else ""
        off = "false" in (
            _text(task, "Settings", "Enabled").lower(),
            _text(task, "Triggers", "LogonTrigger", "Enabled").lower(),
        )
        return cls(Path(root) if root else None, not off)


def windowless(python: str) -> str:
    """The interpreter beside ``python.exe`` that opens no console window, and what it is called."""
    return _PYTHON.sub(r"\1pythonw\2.exe", python)


def sid_in(text: str) -> str:
    """The first security identifier in what ``whoami /user`` prints; empty without one."""
    found = _SID.search(text)
    return found[0] if found else ""


def _element(name: str, *children: ET.Element, text: str = "", **attributes: str) -> ET.Element:
    made = ET.Element(name, attributes)
    made.text = text or None
    made.extend(children)
    return made


def _text(task: ET.Element, *path: str) -> str:
    found = task.find("/".join(f"{{{NAMESPACE}}}{name}" for name in path))
    return "" if found is None else (found.text or "").strip()


def _checked(text: str) -> str:
    """``text``, if XML can hold it and the Task Scheduler leaves it as it is."""
    if any(unicodedata.category(each) in ("Cc", "Cs", "Cn") for each in text):
        raise OptionInvalid("--state-root", f"no control characters (got {text[:200]!a})")
    if _REPLACED.search(text):
        problem = f"the Task Scheduler would replace a part of it (got {text[:200]!r})"
        raise OptionInvalid("--state-root", problem)
    return text
