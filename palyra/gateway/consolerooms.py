"""The rooms behind the console, composed: operators, approvals, audit, and what is live."""

from __future__ import annotations

from typing import Any

from palyra.console.control import IAuditControl
from palyra.console.routing import Controls
from palyra.core.interfaces import IStore
from palyra.core.tracing import Tracer
from palyra.gateway.approvalcontrol import ApprovalControl
from palyra.gateway.approvals import Approvals
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.control import Control
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.feed import Feed
from palyra.gateway.inventory import Inventory
from palyra.gateway.meters import Meters
from palyra.gateway.operatorrooms import OperatorRooms


class ConsoleRooms:
    """What the console's routes ask, made of the rooms of :mod:`palyra.gateway.composition`."""

    def __init__(
        self,
        *,
        clock: Any,
        control: Control,
        meters: Meters,
        inventory: Inventory,
        dispatcher: Dispatcher,
        approvals: Approvals,
        operators: OperatorRooms,
        audit: IAuditControl,
        store: IStore,
        calls: CallApprovals,
        tracer: Tracer | None,
    ) -> None:
        self.feed = Feed(
            clock=clock,
            inventory=inventory,
            roster=control.roster,
            view=control.view,
            dispatcher=dispatcher,
            approvals=approvals,
            approval=lambda approval_id, by: self.controls.approvals.approval(approval_id, by),
            calls_waiting=lambda: calls.pending,
        )
        calls.watchers.append(self.feed.approval_changed)
        self.controls = Controls(
            gateway=control,
            operators=operators.control,
            sign_in=operators.sign_in,
            approvals=ApprovalControl(
                store=store,
                calls=calls,
                pairing=control,
                pairings_waiting=lambda: approvals.waiting,
            ),
            audit=audit,
            feed=self.feed,
            metrics=meters.metrics.exposition,
            tracer=tracer,
        )
