"""What the machines tell their host: facts that happened, in the order they happened."""

from __future__ import annotations

import attrs

from palyra.core.devices import PresenceState
from palyra.core.identifiers import DeviceId


@attrs.frozen
class PresenceChanged:
    """A device went from one presence to another.  ``at_ms`` is on the clock the host gave."""

    device_id: DeviceId
    was: PresenceState
    now: PresenceState
    at_ms: int
