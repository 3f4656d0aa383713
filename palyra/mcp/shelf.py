"""What is on offer now: read from the gateway, and again when it changes there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from palyra.console.models import (
    CallerAnswer,
    CallerItem,
    CapabilityCatalogue,
    CapabilityDescription,
    FeedEvent,
    NodeList,
)
from palyra.core.devices import clean_text
from palyra.core.operators import LOCAL, Right
from palyra.errors import McpOperatorRefused, PalyraError
from palyra.mcp.gatewayclient import GatewayClient
from palyra.mcp.names import ToolNames
from palyra.mcp.offers import Offer, Shown, granted, offers
from palyra.mcp.tools import CANCEL, FIND, GET, MAX_TOOLS, ToolBox, box

AGAIN_S = (0.5, 2.0, 15.0)
"""Before a gateway whose events cannot be followed is tried again."""
FOLLOW_S = 3600.0
"""How long one stream is followed: the next one, and all that is asked then, renews the certificate
when that is due."""
SETTLE_S = 1.0
"""What changes together is looked at once."""
MAX_KNOWN = 1_000
MAX_TRIED = 2 * MAX_TOOLS
"""Capabilities whose descriptors are asked for: some have none."""
_log = logging.getLogger(__name__)


def check_caller(caller: CallerItem) -> CallerItem:
    """Who asks, if AI clients may be served as them.

    :raises McpOperatorRefused: they decide, administer, or own the gateway's machine: a client
        could approve what it asks for.
    """
    widening = {Right.DECIDE.value, Right.ADMINISTER.value} & set(caller.rights)
    if widening or caller.operator_id.startswith(LOCAL):
        raise McpOperatorRefused(clean_text(caller.name, 64), clean_text(caller.role, 32))
    return caller


class Shelf:
    """The tools of one operator.  :meth:`load` once, then :meth:`watch` for as long as it serves.

    ``where`` narrows which devices count for the list of tools; it is no permission.  ``changed``
    is awaited after another list of tools was read.
    """

    def __init__(self, gateway: GatewayClient, *, where: str = "") -> None:
        self._gateway = gateway
        self._where = where
        self._names = ToolNames((FIND, GET, CANCEL))
        self._known: dict[str, CapabilityDescription] = {}
        self._seen: dict[str, frozenset[tuple[str, str, str]]] = {}
        self._submits = False
        self._current = False
        self.box = ToolBox()
        self.changed: Callable[[], Awaitable[None]] | None = None

    async def check(self) -> None:
        """Before a call: a role that changes ends the stream, and is then asked for.

        :raises McpOperatorRefused: the operator was given a role that is not served.
        :raises PalyraError: as :meth:`load`.
        """
        if not self._current:
            await self._caller()

    async def load(self) -> None:
        """Read who asks, and what is granted.

        :raises McpOperatorRefused: nobody to serve AI clients as.
        :raises PalyraError: the gateway cannot be reached, or refuses.
        """
        caller = await self._caller()
        seen = {}
        query = {"where": self._where, "trust": "trusted"}
        async for page in self._gateway.pages("nodes", NodeList, lambda list_: list_.page, **query):
            seen.update({node.device_id: granted(node) for node in page.nodes})
        self._seen = seen
        self._submits = Right.SUBMIT.value in caller.rights
        await self._show()

    async def _show(self) -> None:
        """The tools of what is granted now."""
        found = offers(self._seen.values())
        shown = await self._described(found[:MAX_TRIED])
        more = max(0, len(found) - MAX_TRIED)
        await self._put(box(shown, self._names, submits=self._submits, more=more))

    async def _caller(self) -> CallerItem:
        try:
            return check_caller((await self._gateway.get("auth/self", CallerAnswer)).caller)
        except McpOperatorRefused:
            await self._put(ToolBox())
            raise

    async def _described(self, found: list[Offer]) -> list[Shown]:
        """Those whose descriptor the gateway knows."""
        shown: list[Shown] = []
        for offer in found:
            if offer.digest not in self._known:
                await self._learn(offer.digest)
            said = self._known.get(offer.digest)
            if said is not None and said.name == offer.capability:
                shown.append(Shown(offer, said))
        return shown

    async def _learn(self, digest: str) -> None:
        answer = await self._gateway.get(
            "capabilities", CapabilityCatalogue, 0, limit=1, digest=digest
        )
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.update({each.digest: each for each in answer.capabilities})

    async def _put(self, made: ToolBox) -> None:
        old, self.box = self.box, made
        if made == old:
            return
        if made.left_out:
            _log.warning("%d capabilities found no room among the tools", made.left_out)
        for name in made.faults:
            _log.warning("%s is no tool: its schema cannot be shown", clean_text(name, 64))
        if self.changed is not None:
            await self.changed()

    # -- when it changes --------------------------------------------------------------------------

    async def watch(self) -> None:
        """Follow what changes at the gateway, until cancelled; it may go away and come back."""
        tries = 0
        while True:
            try:
                with anyio.move_on_after(FOLLOW_S):
                    await self._gateway.follow("events", FeedEvent, self._note, topic="devices")
            except PalyraError as error:
                tries = 0 if self._current else tries
                _log.warning("the gateway is not followed: %s", clean_text(str(error), 300))
            self._current = False
            await anyio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
            tries += 1

    async def _note(self, event: FeedEvent) -> bool:
        """Look again where an event says that the tools may be others.  Never the last one.

        One device that changes all the time must not have the gateway list all of them each time.
        """
        if not self._current:
            await self.load()
            self._current = True
        elif self._matters(event):
            await anyio.sleep(SETTLE_S)
            if event.kind == "gap" or self._where:
                await self.load()
            else:
                self._seen[event.device_id] = _granted_by(event)
                await self._show()
        return False

    def _matters(self, event: FeedEvent) -> bool:
        if event.kind == "gap":
            return True
        if event.kind != "node":
            return False
        if self._where:
            return True  # which devices it fits is known to the gateway only
        return _granted_by(event) != self._seen.get(event.device_id, frozenset())


def _granted_by(event: FeedEvent) -> frozenset[tuple[str, str, str]]:
    """What is granted on the device of an event; on one that was removed: nothing."""
    return granted(event.node) if event.node is not None else frozenset()
