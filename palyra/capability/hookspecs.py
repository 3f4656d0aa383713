"""The hooks a capability plugin implements (pluggy project ``palyra``); only the first one must be.

All are plain ``def``, and a plugin is told of the runs of its own capabilities only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from palyra.capability.context import DeviceFacts

if TYPE_CHECKING:
    from palyra.capability.descriptor import Capability
    from palyra.capability.outcome import Outcome

PROJECT = "palyra"
ENTRY_POINT_GROUP = "palyra.capabilities"

RUN_HOOKS = ("palyra_before_run", "palyra_after_run")

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@attrs.frozen(slots=True)
class RunFacts:
    """What a plugin is told of a run; ``remaining_s`` is the time it has left, in seconds."""

    job_id: str
    capability: str
    device: DeviceFacts
    remaining_s: float


@hookspec
def palyra_capabilities() -> list[Capability]:
    """The capabilities this plugin brings; called once, when the host loads its plugins."""
    raise NotImplementedError  # pragma: no cover - pluggy reads the signature only


@hookspec
def palyra_before_run(run: RunFacts, input: Any) -> None:
    """A handler is about to be called with ``input``, typed and checked.

    To refuse, raise: the run fails with what was raised, and the handler is not called.  It is
    called on the handler's event loop; what takes long keeps the run waiting.
    """


@hookspec
def palyra_after_run(run: RunFacts, outcome: Outcome) -> None:
    """A run ended that ``palyra_before_run`` was called for, or would have been.

    What it raises is logged and changes nothing.  A run whose process died is not told.
    """
