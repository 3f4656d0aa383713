"""What every command has: ``--json``, and which gateway it is about; and how values are written."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from palyra.cli.client import DEFAULT_TIMEOUT_S, SOCKET_NAME, Console
from palyra.cli.present import Screen
from palyra.errors import Malformed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from palyra.afar.contexts import Context

_JSON = "palyra.json"
_ROOT = "palyra.state_root"
_URL = "palyra.gateway_url"
_CONTEXT = "palyra.context"
GATEWAY_URL = "PALYRA_GATEWAY_URL"
_DURATION = re.compile(r"(?P<count>\d{1,9})(?P<unit>ms|s|m|h|d)", re.ASCII)
_BATCH = re.compile(r"(?P<count>\d{1,7})(?P<share>%?)", re.ASCII)
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@attrs.frozen
class Call:
    """How a command was called: the screen it writes to and the state root it is about."""

    screen: Screen
    named_root: Path | None
    gateway_url: str = ""
    context: str = ""

    @property
    def state_root(self) -> Path:
        """The state root that was named, else the default one."""
        if self.named_root is not None:
            return self.named_root
        from palyra.config.roots import default_state_root

        return default_state_root()

    @property
    def console(self) -> Console:
        """The gateway that the command is about: one from afar, or that of the state root."""
        return self.asking()

    def asking(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Console:
        """As :attr:`console`, with another time to wait for an answer."""
        context = self.afar
        if context is None:
            return Console(self.state_root, timeout_s)
        from palyra.afar.contexts import Contexts
        from palyra.cli.afar import console_of

        return console_of(context, Contexts.of_user(), timeout_s)

    @property
    def afar(self) -> Context | None:
        """The gateway from afar that is meant; None: that of the state root.

        In this order: ``--context`` or ``--gateway-url``; ``--state-root``; PALYRA_GATEWAY_URL;
        PALYRA_STATE_ROOT; a gateway that runs here; the context in use.

        :raises ContextUnknown: the one that was named is not known.
        """
        from palyra.afar.contexts import Contexts
        from palyra.config.roots import ENVIRONMENT

        contexts = Contexts.of_user()
        if self.context:
            return contexts.get(self.context)
        named_url = self.gateway_url
        if not named_url and self.named_root is None:
            named_url = os.environ.get(GATEWAY_URL, "")
        if named_url:
            return contexts.by_url(named_url)
        here = self.named_root is not None or bool(os.environ.get(ENVIRONMENT))
        if here or (self.state_root / SOCKET_NAME).exists():
            return None
        return contexts.current()


TRANSPORT = click.Choice(["grpc", "quic", "auto"])
"""How a node reaches its gateway."""
RISK = click.Choice(["none", "low", "medium", "high"])
"""Up to which risk something is granted; ``none``: nothing is."""
USUAL_RISK = "low"

pass_call = click.make_pass_decorator(Call)


_KEPT = {
    "as_json": _JSON,
    "state_root": _ROOT,
    "gateway_url": _URL,
    "context_name": _CONTEXT,
}


def _kept(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[_KEPT[parameter.name or ""]] = value


def _contexts(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from palyra.cli import completion  # here: it imports this file

    return completion.contexts(context, parameter, incomplete)


class Verb(click.Command):
    """A command with the options that all have; its function may ask for the :class:`Call`."""

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
                ["--gateway-url"],
                metavar="URL",
                help="A gateway from afar, by its address (see palyra context list).",
                expose_value=False,
                callback=_kept,
            )
        )
        self.params.append(
            click.Option(
                ["--context", "context_name"],
                metavar="NAME",
                shell_complete=_contexts,
                help="A gateway from afar, by its name.",
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
        context.meta.get(_URL) or "",
        context.meta.get(_CONTEXT) or "",
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
