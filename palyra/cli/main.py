"""The ``palyra`` command itself: its verb groups, and what becomes of an error."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

import click

from palyra import __version__
from palyra.cli.client import problem_of
from palyra.cli.options import Lazy, LazyGroup
from palyra.cli.present import Screen
from palyra.cli.where import ExpressionRefused
from palyra.console.models import Problem
from palyra.errors import DiskFull, PalyraError, StoreUnavailable

INTERRUPTED = 130
USAGE = 2

VERBS = {
    "quickstart": Lazy(
        "palyra.cli.quickstart", "Start a gateway and a node, pair them, ask three things."
    ),
    "pairing": Lazy("palyra.cli.pairing", "Make codes; approve and reject devices that ask."),
    "approvals": Lazy(
        "palyra.cli.approvals", "See calls and pairing requests that wait for a yes; decide them."
    ),
    "node": Lazy("palyra.cli.node", "Run the node host on this device; say what may run there."),
    "nodes": Lazy("palyra.cli.nodes", "See paired devices; use, renew, revoke and remove them."),
    "jobs": Lazy("palyra.cli.jobs", "See what was asked of devices and what became of it."),
    "capability": Lazy(
        "palyra.cli.capability", "See the capabilities that are installed here; write new ones."
    ),
    "console": Lazy("palyra.cli.console", "Sign in to the gateway's page."),
    "operators": Lazy(
        "palyra.cli.operators", "Invite operators, see them, give them roles, revoke them."
    ),
    "context": Lazy("palyra.cli.context", "Choose which gateway from afar the commands ask."),
    "mcp": Lazy("palyra.cli.mcp", "Serve paired nodes to AI clients (Model Context Protocol)."),
    "ca": Lazy("palyra.cli.ca", "See the gateway's CA; move all devices to a new one."),
    "audit": Lazy("palyra.cli.audit", "See what was done and by whom; check that record."),
    "state": Lazy("palyra.cli.state", "Back up, restore, export and import the gateway's state."),
    "doctor": Lazy("palyra.cli.doctor", "Check the gateway and say what to do for each fault."),
}


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="palyra", message="%(prog)s %(version)s")
@click.pass_context
def palyra(context: click.Context) -> None:
    """Let a server use the abilities of devices it trusts."""
    if context.invoked_subcommand is not None:
        return
    click.echo(context.get_help())
    from palyra.config.roots import default_state_root

    if not default_state_root().is_dir():
        Screen.current(as_json=False).hint("palyra quickstart")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: those of the process) and return its exit status.

    0 done, 1 refused or failed, 2 usage, 3 the gateway cannot be reached, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    _write_anything()
    try:
        status = _guarded(args)
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _guarded(args: list[str]) -> int:
    screen = Screen.current(as_json="--json" in args)
    try:
        result = palyra.main(args=args, prog_name="palyra", standalone_mode=False)
    except ExpressionRefused as error:
        screen.problem(problem_of(error), error.shown(screen.width))
        return error.exit_code
    except PalyraError as error:
        screen.problem(problem_of(error))
        return error.exit_code
    except click.UsageError as error:
        screen.problem(_usage(error))
        return USAGE
    except click.ClickException as error:
        screen.problem(Problem(_sentence(error), "failed", "palyra --help", "internal", False))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        screen.problem(problem_of(_of_file(error)))
        return 1
    return result if isinstance(result, int) else 0


def _of_file(error: OSError) -> PalyraError:
    """What the system says of a file or directory that nothing else has foreseen."""
    path = str(error.filename)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path)
    return StoreUnavailable(path, (error.strerror or str(error)).lower())


def _usage(error: click.UsageError) -> Problem:
    path = error.ctx.command_path if error.ctx is not None else "palyra"
    return Problem(_sentence(error), "usage", f"{path} --help", "invalid", False)


def _sentence(error: click.ClickException) -> str:
    return error.format_message().rstrip(".") + "."


def _write_anything() -> None:
    """A terminal without UTF-8 gets escapes instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
