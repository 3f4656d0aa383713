"""Tests of :mod:`palyra.supervision.taskxml`."""

from __future__ import annotations

import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import OptionInvalid
from palyra.supervision.service import Service
from palyra.supervision.taskxml import (
    MAX_CHARACTERS,
    NAMESPACE,
    RESTARTS,
    Task,
    sid_in,
    task_of,
    windowless,
)

GOLDEN = Path(__file__).parent / "golden" / "palyra-node.xml"
SID = "S-1-5-21-1004336348-1177238915-682003330-1001"
SERVICE = Service(
    state_root=Path(r"C:\Users\Zoë & Co\palyra"),
    python=r"C:\Program Files\Palyra\Scripts\python.exe",
    environment={"LANG": "cs CZ"},
)
ORDER = {
    "Task": ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"],
    "RegistrationInfo": ["Description", "URI", "Documentation"],
    "LogonTrigger": ["Enabled", "UserId"],
    "Principal": ["UserId", "LogonType", "RunLevel"],
    "RestartOnFailure": ["Interval", "Count"],
    "Exec": ["Command", "Arguments", "WorkingDirectory"],
}
"""Of what is a sequence in the schema, and of the rest as Windows itself writes it."""


def test_the_golden_file() -> None:
    """What is written is what was read over, in UTF-16 with its mark, as schtasks wants it."""
    data = task_of(SERVICE, SID)
    assert data.startswith((b"\xff\xfe", b"\xfe\xff"))
    assert data.decode("utf-16") == GOLDEN.read_text(encoding="utf-8")


def test_the_schema() -> None:
    """The order of its sequences, and the bounds of its numbers."""
    task = ET.fromstring(task_of(SERVICE, SID))
    for name, children in ORDER.items():
        (found,) = task.iter(f"{{{NAMESPACE}}}{name}")
        assert [each.tag.partition("}")[2] for each in found] == children
    assert 1 <= RESTARTS <= 255  # an unsigned byte
    (exec_,) = task.iter(f"{{{NAMESPACE}}}Exec")
    assert [each.text for each in exec_] == [
        r"C:\Program Files\Palyra\Scripts\pythonw.exe",
        subprocess.list2cmdline(
            SERVICE.command(journal=False, environment={"LANG": "cs CZ", "PALYRA_MANAGER": "task"})[
                1:
            ]
        ),
        r"C:\Users\Zoë & Co\palyra",
    ]


@given(name=st.text(min_size=1, max_size=40).filter(lambda text: "/" not in text))
@settings(max_examples=100)
def test_any_path(name: str) -> None:
    """Reads back as it was, or is refused."""
    service = Service(state_root=Path("/srv") / name, python="/usr/bin/python3")
    try:
        data = task_of(service, SID)
    except OptionInvalid:
        odd = any(unicodedata.category(each) in ("Cc", "Cs", "Cn") for each in name)
        assert odd or "%" in name or "$(" in name
        return
    assert Task.read(data.decode("utf-16")) == Task(service.state_root, True)


@pytest.mark.parametrize("name", ["a%TEMP%b", "100%", "$(Arg0)", "a\nb", "\udc80"])
def test_what_would_become_something_else(name: str) -> None:
    """Is refused."""
    with pytest.raises(OptionInvalid):
        task_of(Service(state_root=Path("/srv") / name), SID)
    task_of(Service(state_root=Path("/srv/$5 (a) ^&")), SID)


def test_letters_that_the_console_lacks() -> None:
    """Do not make another state root of it."""
    text = task_of(SERVICE, SID).decode("utf-16").encode("ascii", "replace").decode()
    assert Task.read(text).state_root == SERVICE.state_root


def test_one_that_is_disabled() -> None:
    """As a whole, or only at sign-in."""
    text = task_of(SERVICE, SID).decode("utf-16")
    on = "<Enabled>true</Enabled>"
    head, middle, rest = text.split(on)
    off = "<Enabled>False</Enabled>"
    assert Task.read(text).enabled
    assert not Task.read(head + off + middle + on + rest).enabled
    assert not Task.read(head + on + middle + off + rest).enabled


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))


@given(
    text=st.text(max_size=60)
    | st.sampled_from(
        [
            "",
            "<a/>",
            "<?xml version='1.0'?><a/>",
            f'<Task xmlns="{NAMESPACE}"/>',
            f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l8;</a>',
            f"<a>{'x' * MAX_CHARACTERS}</a>",
            "<a>" * 5_000,
        ]
    )
)
@settings(max_examples=100)
def test_what_is_no_task_of_ours(text: str) -> None:
    """Is read without an error, and has no state root."""
    assert Task.read(text).state_root is None


@pytest.mark.parametrize(
    ("python", "quiet"),
    [
        (r"C:\Python311\python.exe", r"C:\Python311\pythonw.exe"),
        (r"C:\x\python3.11.exe", r"C:\x\pythonw3.11.exe"),
        (r"C:\x\Python.EXE", r"C:\x\pythonw.exe"),
        (r"C:\x\pythonw.exe", r"C:\x\pythonw.exe"),
        (r"C:\python.exe\other.exe", r"C:\python.exe\other.exe"),
        ("python.exe", "pythonw.exe"),
        ("/usr/bin/python3", "/usr/bin/python3"),
    ],
)
def test_an_interpreter_without_a_window(python: str, quiet: str) -> None:
    """Is the one beside it."""
    assert windowless(python) == quiet


def test_who_it_is() -> None:
    """By number: names are in any letters."""
    assert sid_in(f'"d\\zo\ufffd","{SID}"\n') == SID
    assert sid_in("S-1-") == sid_in("nobody") == ""
