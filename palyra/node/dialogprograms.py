"""The programs that show a dialog: how each is asked, and what its answer means.

Text goes in as one argument of an argument list, or as JSON on standard input: never as part of a
script, never through a shell, never as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import attrs

from palyra.core.jobs import ONCE, REFUSED
from palyra.node.dialogtext import LABELS, TITLE, Shown

NOT_ANSWERED = "timeout"
"""The dialog ended by itself."""

_SPARE_S = 5
"""A dialog ends later than the question by this, so that nobody's answer is cut short by it."""

# Toolkits complain of much and show their window all the same: only these mean that there is none.
_NOT_SHOWN = re.compile(
    rb"(open|connect to) display|"
    rb"^Failed to (connect to .*bus|start transient service|find executable)",
    re.IGNORECASE | re.MULTILINE,
)
_BY_LABEL = {label: choice for choice, label in LABELS.items()}


@attrs.frozen(slots=True)
class Ended:
    """How a program ended: its exit code, and the beginning of what it wrote."""

    code: int
    out: bytes
    err: bytes = b""

    @property
    def said(self) -> str:
        """Its one line of output."""
        return self.out.decode("utf-8", "replace").strip()

    @property
    def could_not(self) -> bool:
        """Whether it complained that it has no display, or no bus to be started over."""
        return bool(_NOT_SHOWN.search(self.err))


@attrs.frozen(slots=True)
class DialogProgram:
    """A program; ``argv`` leaves out its path.

    ``read`` gives one of the choices, :data:`NOT_ANSWERED`, or None: nothing that can be
    understood.  What it gives is checked against what was offered by who asks it.
    """

    name: str
    argv: Callable[[Shown], list[str]]
    read: Callable[[Ended], str | None]
    stdin: Callable[[Shown], bytes] = lambda _: b""


# -- zenity -------------------------------------------------------------------------------------


def _zenity_argv(shown: Shown) -> list[str]:
    more = [f"--extra-button={LABELS[choice]}" for choice in shown.choices[2:]]
    ends = [] if shown.lasts_s is None else [f"--timeout={shown.lasts_s + _SPARE_S}"]
    return [
        "--question", "--no-markup", "--no-wrap", "--default-cancel",
        f"--title={TITLE}", f"--ok-label={LABELS[ONCE]}", f"--cancel-label={LABELS[REFUSED]}",
        *more, *ends, f"--text={shown.text}",
    ]  # fmt: skip


def _read_zenity(ended: Ended) -> str | None:
    """0 is its OK button, 1 every other button and the closing of the window, 5 its time-out."""
    if ended.code == 0:
        return None if ended.said else ONCE
    if ended.code == 1 and ended.said:
        return _BY_LABEL.get(ended.said)
    if ended.code == 1:
        return None if ended.could_not else REFUSED
    return NOT_ANSWERED if ended.code == 5 else None


ZENITY = DialogProgram("zenity", _zenity_argv, _read_zenity)


# -- kdialog ------------------------------------------------------------------------------------


def _kdialog_argv(shown: Shown) -> list[str]:
    """A list whose first line, no, is chosen.  kdialog reads ``\\n`` in a text as a new line."""
    text = shown.text.replace("\\", "\\\\")
    items = [
        each
        for choice in shown.choices
        for each in (choice, LABELS[choice], "on" if choice == REFUSED else "off")
    ]
    return ["--title", TITLE, "--radiolist", text, *items]


def _read_kdialog(ended: Ended) -> str | None:
    if ended.code == 0:
        return ended.said
    return REFUSED if ended.code == 1 and not ended.could_not else None


KDIALOG = DialogProgram("kdialog", _kdialog_argv, _read_kdialog)


# -- macOS --------------------------------------------------------------------------------------

_APPLESCRIPT = (
    "on run argv",
    "set theText to item 1 of argv",
    "set theTitle to item 2 of argv",
    "set theChoices to items 3 thru -1 of argv",
    "set theNo to item 1 of theChoices",
    "activate",
    "set theAnswer to choose from list theChoices with title theTitle with prompt theText"
    " default items {theNo} cancel button name theNo",
    "if theAnswer is false then return theNo",
    "return item 1 of theAnswer",
    "end run",
)


def _osascript_argv(shown: Shown) -> list[str]:
    script = [each for line in _APPLESCRIPT for each in ("-e", line)]
    return [*script, shown.text, TITLE, *(LABELS[choice] for choice in shown.choices)]


def _read_osascript(ended: Ended) -> str | None:
    return _BY_LABEL.get(ended.said) if ended.code == 0 else None


OSASCRIPT = DialogProgram("osascript", _osascript_argv, _read_osascript)


# -- Windows ------------------------------------------------------------------------------------

_POWERSHELL = """
$ErrorActionPreference = 'Stop'
$asked = [Console]::In.ReadToEnd() | ConvertFrom-Json
Add-Type -AssemblyName System.Windows.Forms, System.Drawing
$form = New-Object System.Windows.Forms.Form
$form.Text = $asked.title
$form.AutoSize = $true
$form.TopMost = $true
$form.MaximizeBox = $false
$form.StartPosition = 'CenterScreen'
$rows = New-Object System.Windows.Forms.FlowLayoutPanel
$rows.FlowDirection = 'TopDown'
$rows.AutoSize = $true
$label = New-Object System.Windows.Forms.Label
$label.UseMnemonic = $false
$label.AutoSize = $true
$label.Text = $asked.text
$rows.Controls.Add($label)
$row = New-Object System.Windows.Forms.FlowLayoutPanel
$row.AutoSize = $true
$script:answer = $asked.choices[0].choice
foreach ($each in $asked.choices) {
  $button = New-Object System.Windows.Forms.Button
  $button.AutoSize = $true
  $button.UseMnemonic = $false
  $button.Text = $each.label
  $button.Tag = $each.choice
  $button.Add_Click({ $script:answer = $this.Tag; $form.Close() })
  $row.Controls.Add($button)
  if ($null -eq $form.CancelButton) { $form.CancelButton = $button; $form.AcceptButton = $button }
}
$rows.Controls.Add($row)
$form.Controls.Add($rows)
[void]$form.ShowDialog()
[Console]::Out.Write($script:answer)
""".strip()


def _powershell_argv(shown: Shown) -> list[str]:
    return ["-NoLogo", "-NoProfile", "-STA", "-Command", _POWERSHELL]


def _powershell_stdin(shown: Shown) -> bytes:
    """Plain ASCII: the console's code page does not matter then."""
    choices = [{"choice": each, "label": LABELS[each]} for each in shown.choices]
    text = shown.text.replace("\n", "\r\n")
    return json.dumps({"title": TITLE, "text": text, "choices": choices}).encode("ascii")


def _read_powershell(ended: Ended) -> str | None:
    return ended.said if ended.code == 0 else None


POWERSHELL = DialogProgram("powershell", _powershell_argv, _read_powershell, _powershell_stdin)


def candidates(platform: str, *, kde: bool) -> tuple[DialogProgram, ...]:
    """The programs for a desktop, best first."""
    if platform == "darwin":
        return (OSASCRIPT,)
    if platform == "win32":
        return (POWERSHELL,)
    return (KDIALOG, ZENITY) if kde else (ZENITY, KDIALOG)
