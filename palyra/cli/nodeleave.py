"""``palyra node uninstall``: leave the gateway, and take away what was installed and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from palyra.cli import nodeleavelines as lines
from palyra.cli import nodeservice, words
from palyra.cli.nodeleavelines import Done
from palyra.cli.nodeleaveplan import Plan, planned
from palyra.cli.noderoot import node_state_root
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.errors import NotPaired, PalyraError, StoreUnavailable
from palyra.node.belongings import belongings
from palyra.supervision import accounts, removing
from palyra.supervision.acting import acting_as
from palyra.supervision.directories import opened
from palyra.supervision.service import SYSTEM_ACCOUNT, Account

if TYPE_CHECKING:
    from palyra.node.leaving import Told

REASON = "uninstalled on the device"


@click.command(cls=Verb)
@click.option(
    "--keep-state", is_flag=True, help="Take away the service alone: the device stays paired."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def uninstall(call: Call, keep_state: bool, yes: bool) -> int:
    """Leave the gateway, and remove the service and the state of the node host.

    The gateway is told, which revokes this device there. palyra.toml stays.
    """
    screen = call.screen
    root = node_state_root(call)
    plan = planned(root, keep_state)
    if screen.interactive and not yes:
        if not _agreed(screen, plan):
            screen.aside("not uninstalled")
            return 1
        plan = planned(root, keep_state)  # a person takes their time
    done = Done()
    _stop(plan, screen, done)
    # Before what cannot be taken back: a manager may refuse, and must start nothing any more.
    if plan.manager is not None:
        done.unit = plan.manager.uninstall()
    if keep_state:
        lines.show_unit(screen, plan, done)
        _unmark(plan)
    else:
        with removing.kept_alone(plan.files.root, belongings(plan.files)):
            try:
                _tell(plan, screen, done)
            except KeyboardInterrupt:
                lines.show_unit(screen, plan, done)
                screen.hint("palyra node uninstall")  # which goes on
                raise
            lines.show_told(screen, plan, done)
            lines.show_unit(screen, plan, done)
            _remove_account(plan, screen, done)
            _remove_state(plan, screen, done)
    if screen.as_json:
        screen.json(msgspec.json.encode(lines.report(plan, done)))
    return 0


def _agreed(screen: Screen, plan: Plan) -> bool:
    host = plan.facts.host
    if plan.keep_state:
        screen.aside("Removes the service; the device stays paired.")
    elif host is not None:
        gateway = words.escaped(host.grpc_url)
        screen.aside(f"Revokes {plan.called} at {gateway}, and removes {plan.files.root}.")
    else:
        screen.aside(f"Removes {plan.files.root}.")
    return screen.agreed(f"Uninstall {plan.called}?")


def _stop(plan: Plan, screen: Screen, done: Done) -> None:
    if plan.manager is None:
        return
    if plan.facts.answer is not None:
        nodeservice.say_grace(plan.files, screen, plan.facts.answer)
    with screen.working("stopping"):
        plan.manager.stop()
    done.stopped, done.stopped_pid = plan.facts.running, plan.facts.pid


def _tell(plan: Plan, screen: Screen, done: Done) -> None:
    """Whatever the gateway makes of it: the local part is done in any case."""
    if not plan.was_paired:
        return
    try:
        with screen.working("telling the gateway"):
            done.told = tell(plan.files.state_root, plan.account)
    except NotPaired:
        pass  # its certificates are gone already, or never came
    except PalyraError as error:
        done.not_told = error
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        done.not_told = StoreUnavailable(str(error.filename or plan.files.root), cause)


def tell(state_root: Path, account: Account | None) -> Told:
    """Tell the gateway, in a reactor that runs for as long as that takes, as the user whose state
    it is; what is imported may be closed to that user.

    :raises PalyraError: it was not told.
    """
    from twisted.internet.defer import maybeDeferred
    from twisted.python.failure import Failure

    from palyra._reactor import require_asyncio_reactor, the_reactor
    from palyra.node.leaving import leave

    require_asyncio_reactor()
    reactor = the_reactor()
    kept: list[Any] = []

    def ended(result: Any) -> None:
        kept.append(result)
        reactor.stop()

    def begin() -> None:
        maybeDeferred(leave, state_root, REASON, reactor).addBoth(ended)

    reactor.callWhenRunning(begin)
    with acting_as(account):
        reactor.run()
    if not kept:
        raise KeyboardInterrupt
    if isinstance(kept[0], Failure):
        kept[0].raiseException()
    told: Told = kept[0]
    return told


def _unmark(plan: Plan) -> None:
    held = opened(plan.files.root)
    try:
        held.unlink(plan.files.installed.name)
    except FileNotFoundError:
        pass
    finally:
        held.close()


def _remove_account(plan: Plan, screen: Screen, done: Done) -> None:
    """Only the user that install makes, and under no other name: the mark is in the keeping of
    that very user."""
    mark = plan.mark
    if mark is None or not mark.account_made or mark.account != SYSTEM_ACCOUNT:
        return
    accounts.remove(mark.account)
    done.account = mark.account
    lines.ok(screen, f"user {mark.account} removed", "account", "removed", mark.account)


def _remove_state(plan: Plan, screen: Screen, done: Done) -> None:
    root = plan.files.state_root
    done.state = removing.remove(plan.files.root, belongings(plan.files), plan.owners, alone=True)
    lines.show_state(screen, done.state)
    try:
        if removing.is_private(root, plan.owners):
            root.rmdir()  # only where nothing else is in it
            done.root = root
    except OSError:
        config = root / "palyra.toml"
        if config.exists() and not screen.as_json:
            screen.aside(f"note  your configuration stays: {words.escaped(str(config))}")
