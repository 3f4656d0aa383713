"""Requesters: whether whoever asked for a job may still have it run."""

from __future__ import annotations

from palyra.core.devices import INVOKE_OTHERS
from palyra.core.jobs import Call
from palyra.core.operators import Right
from palyra.errors import RequesterGone
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import client_id, is_client
from palyra.gateway.policing import Policing


class Requesters:
    """Looks again at who asked for a job that has waited."""

    def __init__(self, inventory: Inventory, policing: Policing) -> None:
        self._inventory = inventory
        self._policing = policing

    def check(self, call: Call) -> None:
        """Refuse a job of an operator who may not submit any more, or of a client that was revoked
        or may not run on others any more.  A job that names neither has nobody to look at.

        :raises PalyraError: whoever asked may not any more.
        """
        if is_client(call.requested_by):
            self._check_client(call)
        elif call.operator_id:
            role = self._policing.role_of(call.operator_id)
            if role is None or not role.may(Right.SUBMIT):
                raise RequesterGone(call.requested_by, "submit jobs")

    def _check_client(self, call: Call) -> None:
        asking = self._inventory.paired(client_id(call.requested_by))
        if call.device_id != asking.device_id and INVOKE_OTHERS not in asking.grants:
            raise RequesterGone(asking.name, "run on other devices")
