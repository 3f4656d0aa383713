"""The one hook a capability plugin implements (pluggy project ``palyra``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from palyra.capability.descriptor import Capability

PROJECT = "palyra"
ENTRY_POINT_GROUP = "palyra.capabilities"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def palyra_capabilities() -> list[Capability]:
    """The capabilities this plugin brings; called once, when the host loads its plugins."""
    raise NotImplementedError  # pragma: no cover - pluggy reads the signature only
