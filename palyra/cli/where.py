"""``--where``: a targeting expression, and a caret under what is wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
import click
import msgspec

from palyra.cli.client import GatewayRefused
from palyra.cli.words import escaped
from palyra.console.models import Problem

INVALID = "expression_invalid"
_INDENT = "       "

F = TypeVar("F", bound=Callable[..., Any])


@attrs.define
class ExpressionRefused(GatewayRefused):
    """The gateway cannot read the expression that was typed."""

    exit_code = 2
    text: str

    def shown(self, width: int) -> Sequence[str]:
        """The expression with a caret under the column, in lines of at most ``width``."""
        errors = self.problem.validation_errors
        column = next((each["column"] for each in errors if "column" in each), None)
        return caret(self.text, column, width) if isinstance(column, int) else ()


def given(value: str) -> str:
    """An expression as an argument; to mean every device, it has to be said."""
    if not value.strip():
        raise click.BadParameter("is empty; all means every device")
    return value


def option(help: str) -> Callable[[F], F]:
    """The option itself."""
    return click.option("--where", type=given, metavar="EXPR", help=help)


@contextlib.contextmanager
def asked(text: str | None) -> Iterator[None]:
    """Inside, a refusal of the expression is one that can show it.

    :raises ExpressionRefused: it does not parse.
    """
    try:
        yield
    except GatewayRefused as error:
        if text is None or error.problem.code != INVALID:
            raise
        raise ExpressionRefused(_as_typed(error.problem), text) from error


def _as_typed(problem: Problem) -> Problem:
    """The key of a request as the option it was typed as."""
    if not problem.error.startswith("where, "):
        return problem
    return msgspec.structs.replace(problem, error=f"--{problem.error}")


def caret(text: str, column: int, width: int) -> tuple[str, str]:
    """``text`` and, below, a caret under its ``column`` (from 1); ``~`` where it was cut."""
    from rich.cells import cell_len, set_cell_size

    room = max(8, width - len(_INDENT))
    before, after = escaped(text[: column - 1]), escaped(text[column - 1 :])
    cut = ""
    while cell_len(cut + before) > room * 2 // 3 and cell_len(before) > 1:
        before, cut = before[1:], "~"
    place = cell_len(cut + before)
    line = cut + before + after
    if cell_len(line) > room:
        line = set_cell_size(line, room - 1) + "~"
    return _INDENT + line, _INDENT + " " * place + "^"
