"""What every command has: ``--json`` and ``--state-root``, and how values are written."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import attrs
import click

from palyra.cli.client import Console
from palyra.cli.present import Screen
from palyra.errors import Malformed

_JSON = "palyra.json"
_ROOT = "palyra.state_root"
_DURATION = re.compile(r"(?P<count>\d{1,9})(?P<unit>ms|s|m|h|d)", re.ASCII)
_BATCH = re.compile(r"(?P<count>\d{1,7})(?P<share>%?)", re.ASCII)
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@attrs.frozen
class Call:
    """How a command was called: the screen it writes to and the state root it is about."""

    screen: Screen
    named_root: Path | None

    @property
    def state_root(self) -> Path:
        """The state root that was named, else the default one."""
        if self.named_root is not None:
            return self.named_root
        from palyra.config.roots import default_state_root

        return default_state_root()

    @property
    def console(self) -> Console:
        """The gateway of that state root."""
        return Console(self.state_root)


TRANSPORT = click.Choice(["grpc", "quic", "auto"])
"""How a node reaches its gateway."""
RISK = click.Choice(["none", "low", "medium", "high"])
"""Up to which risk something is granted; ``none``: nothing is."""
USUAL_RISK = "low"

pass_call = click.make_pass_decorator(Call)


def _kept(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[_JSON if parameter.name == "as_json" else _ROOT] = value


class Verb(click.Command):
    """A command with the two options that all have; its function may ask for the :class:`Call`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--state-root"],
                type=click.Path(path_type=Path, file_okay=False, readable=False),
                metavar="DIR",
                help="State root (default: PALYRA_STATE_ROOT, or the platform's directory).",
                expose_value=False,
                callback=_kept,
            )
        )
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help="One JSON object on one line.",
                expose_value=False,
                callback=_kept,
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = call_of(ctx)
        return super().invoke(ctx)


def call_of(context: click.Context) -> Call:
    """The call as its options say; in completion the options may be missing."""
    root = context.meta.get(_ROOT)
    return Call(
        Screen.current(as_json=bool(context.meta.get(_JSON))),
        None if root is None else Path(root).expanduser().absolute(),
    )


class VerbGroup(click.Group):
    """A group of verbs; alone it prints its help."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("no_args_is_help", False)
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their definition: the order of use."""
        return list(self.commands)


@attrs.frozen
class Lazy:
    """Where a verb group lives, and its one line of help, which needs no import."""

    module: str
    help: str


class LazyGroup(VerbGroup):
    """The top group: a verb group is imported when it is used."""

    def __init__(self, *args: Any, verbs: dict[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        module = importlib.import_module(self.verbs[cmd_name].module)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.verbs.items()])


def duration(value: str) -> int:
    """``30s``, ``10m``, ``1h``, ``2d``, ``500ms`` as milliseconds."""
    found = _DURATION.fullmatch(value)
    if found is None or not int(found["count"]):
        raise click.BadParameter(f"{value!r} is not a duration such as 30s, 10m or 1h")
    return int(found["count"]) * _MS[found["unit"]]


def labels(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> Any:
    """``KEY=VALUE``, ``KEY`` (a group) and ``KEY-`` (take it away) as one change."""
    from palyra.core.devices import label_change

    try:
        return label_change(given)
    except Malformed as error:
        raise click.BadParameter(error.problem) from error


def batch(value: str) -> str:
    """``25`` devices at a time, or ``10%`` of them."""
    found = _BATCH.fullmatch(value)
    if found is None or not int(found["count"]) or (found["share"] and int(found["count"]) > 100):
        raise click.BadParameter(f"{value!r} is not a number of devices such as 25, or 10%")
    return value
