"""Where output goes and how it looks: one :class:`Screen` for each command.

Results go to stdout; hints, notes, progress and errors to stderr.  Without a terminal there is no
colour, padding, prompt or spinner; with ``--json`` stdout gets one line and errors are one JSON
object.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import msgspec

from palyra.cli.tables import GAP, Column, Row, fitted, narrowed, tabbed, visible, widths
from palyra.cli.words import escaped, escaped_lines
from palyra.console.models import Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.status import Status
    from rich.text import Text

SPINNER_AFTER_S = 0.3
Parts = Sequence[tuple[str, str]]
"""A line as (text, style) parts."""

_INDENT = " " * len("error: ")


@attrs.frozen(kw_only=True)
class Screen:
    """``tty`` is about stdout, ``err_tty`` about stderr, ``interactive`` about asking a person."""

    out: TextIO
    err: TextIO
    tty: bool = False
    err_tty: bool = False
    interactive: bool = False
    colour: bool = False
    as_json: bool = False
    width: int = 80
    height: int = 24
    now: Callable[[], int] = lambda: int(time.time() * 1000)

    @classmethod
    def current(cls, *, as_json: bool) -> Screen:
        """The screen of this process, by its streams and environment."""
        tty, err_tty = sys.stdout.isatty(), sys.stderr.isatty()
        columns, lines = shutil.get_terminal_size()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(
            out=sys.stdout,
            err=sys.stderr,
            tty=tty and not as_json,
            err_tty=err_tty and not as_json,
            interactive=tty and sys.stdin.isatty() and not as_json,
            colour=not plain,
            as_json=as_json,
            width=columns,
            height=lines,
        )

    def line(self, text: str, style: str = "") -> None:
        """One line of result; never wrapped, ``style`` only on a terminal."""
        self._write(self.out, self.tty, [(text, style)])

    def parts(self, *parts: tuple[str, str]) -> None:
        """One line of result made of (text, style) parts."""
        self._write(self.out, self.tty, parts)

    def aside(self, text: str, style: str = "") -> None:
        """One line that is not the result: a summary, a note."""
        self.aside_parts((text, style))

    def aside_parts(self, *parts: tuple[str, str]) -> None:
        """As :meth:`aside`, made of (text, style) parts."""
        if not self.as_json:
            self._write(self.err, self.err_tty, parts)

    def hint(self, command: str, label: str = "hint  ") -> None:
        """The one command that comes next."""
        if not self.as_json:
            self._write(self.err, self.err_tty, [(label, ""), (command, "bold")])

    def ask(self, question: str) -> str:
        """A person's answer, without the blanks around it; the question goes to stderr."""
        self.err.write(question)
        self.err.flush()
        return sys.stdin.readline().strip()

    def agreed(self, question: str) -> bool:
        """Whether a person said yes; everything else is a no."""
        return self.ask(f"{question} [y/N] ").lower() in ("y", "yes")

    def json(self, document: bytes) -> None:
        """A JSON document on one line, unchanged in meaning."""
        self.out.write(json_text(document, indent=-1) + "\n")
        self.out.flush()

    def document(self, document: bytes) -> None:
        """JSON as a result: compact for scripts, on one line or indented for people."""
        if not self.tty:
            self.json(document)
            return
        text = json_text(document, indent=0)
        self.line(text if len(text) <= self.width else json_text(document, indent=2))

    def pair(self, key: str, value: str) -> None:
        """A fact for scripts: ``key<TAB>value``."""
        self.out.write(f"{key}\t{escaped(value)}\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Row], header: bool = True) -> None:
        """A table, as :mod:`palyra.cli.tables` says."""
        if not self.tty:
            self.out.write(tabbed(rows))
            return
        from rich.table import Table
        from rich.text import Text

        shown, cells = visible(columns, self.width), narrowed(columns, rows, self.width)
        wide = widths(shown, cells, self.width)
        table = Table(
            box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", show_header=header
        )
        for column in shown:
            side: Any = "right" if column.right else "left"
            table.add_column(Text(column.title), justify=side, no_wrap=True)
        for row in cells:
            texts = zip(shown, row, wide, strict=True)
            table.add_row(*(Text(fitted(c, each.shown, w), each.style) for c, each, w in texts))
        # Cells are cut already; rich must neither cut nor wrap what could not be.
        self._rich(self.out, self.width + sum(wide) + GAP * len(wide)).print(table)

    def problem(self, problem: Problem, below: Sequence[str] = ()) -> None:
        """An error: a sentence, what stands ``below`` it, and a hint; or one JSON object."""
        if self.as_json:
            self.err.write(json_text(msgspec.json.encode(problem), indent=-1) + "\n")
            return
        first, *others = _sentences(problem)
        self._write(self.err, self.err_tty, [("error:", "red"), (f" {first}", "")])
        for line in (*(f"{_INDENT}{line}" for line in others), *below):
            self._write(self.err, self.err_tty, [(line, "")])
        if problem.hint:
            self._write(self.err, self.err_tty, [("hint:  ", ""), (escaped(problem.hint), "bold")])

    @property
    def moves(self) -> bool:
        """Whether a line may be drawn again and again: on a terminal that can do it."""
        return self.err_tty and self.colour

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner on a terminal from 300 ms on; the value given changes its text."""
        if not self.moves:
            yield lambda _: None
            return
        from rich.text import Text

        status = self._rich(self.err, self.width).status(Text(text), spinner="line")
        with _after_a_moment(status):
            yield lambda changed: status.update(Text(changed))

    @contextlib.contextmanager
    def moving(self, line: Callable[[], Parts]) -> Iterator[None]:
        """A line on a terminal from 300 ms on, made anew several times a second; then it is gone.

        ``line`` is called on another thread.
        """
        if not self.moves:
            yield
            return
        from rich.live import Live

        live = Live(
            console=self._rich(self.err, self.width),
            get_renderable=lambda: self._one_line(line()),
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with _after_a_moment(live):
            yield

    def _one_line(self, parts: Parts) -> Text:
        from rich.text import Text

        safe = [(escaped(text), style) for text, style in parts]
        return Text.assemble(*safe, no_wrap=True, overflow="crop")

    def _write(self, stream: TextIO, tty: bool, parts: Sequence[tuple[str, str]]) -> None:
        safe = [(escaped_lines(text), style) for text, style in parts]
        if not tty or not self.colour:
            stream.write("".join(text for text, _ in safe) + "\n")
            stream.flush()
            return
        from rich.text import Text

        self._rich(stream, self.width).print(Text.assemble(*safe), soft_wrap=True)

    def _rich(self, stream: TextIO, width: int) -> Console:
        from rich.console import Console

        return Console(
            file=stream,
            width=width,
            force_terminal=True,
            color_system="standard" if self.colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )


@contextlib.contextmanager
def _after_a_moment(shown: Live | Status) -> Iterator[None]:
    """Begin to show something after 300 ms; what is quicker than that shows nothing."""
    timer = threading.Timer(SPINNER_AFTER_S, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        shown.stop()


def _sentences(problem: Problem) -> list[str]:
    """What is wrong: one line, or one for each of several fields."""
    each = problem.validation_errors
    if len(each) < 2:
        return [escaped(problem.error)]
    return [escaped(f"{wrong.get('field')}: {wrong.get('problem')}.") for wrong in each]


def json_text(document: bytes, indent: int) -> str:
    """JSON written anew: -1 compact, 0 on one line with blanks, 2 indented."""
    return escaped_lines(msgspec.json.format(document, indent=indent).decode())
