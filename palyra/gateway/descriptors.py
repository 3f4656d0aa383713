"""The descriptors that the gateway knows: those of the capabilities that come with it.

A device says only the digest of each descriptor.  Where it is one of these, a page can ask for the
input field by field.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache

from twisted.internet.defer import Deferred, execute

from palyra.capability.descriptor import OWNER
from palyra.capability.hookspecs import ENTRY_POINT_GROUP
from palyra.capability.registry import Registered, Registry
from palyra.console import models
from palyra.gateway.views import CONTRACT


class DescriptorControl:
    """What operators ask about capabilities, whoever offers them."""

    def capabilities(self) -> Deferred[models.CapabilityCatalogue]:
        return execute(lambda: models.CapabilityCatalogue(CONTRACT, list(known())))


@cache
def known() -> tuple[models.CapabilityDescription, ...]:
    """The descriptors of this installation's own capabilities, by name.

    Nobody else's plugin is imported: the gateway runs no code that devices offer.
    """
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    own = [point for point in points if point.dist is not None and point.dist.name == OWNER]
    return tuple(map(_description, Registry.load(own).capabilities.values()))


def _description(item: Registered) -> models.CapabilityDescription:
    capability = item.capability
    return models.CapabilityDescription(
        digest=capability.digest(),
        name=capability.name,
        version=capability.version or item.version,
        distribution=item.distribution,
        description=capability.description,
        risk=capability.risk.value,
        needs_mediation=capability.needs_mediation,
        idempotent=capability.idempotent,
        timeout_ms=round(capability.timeout_s * 1000),
        input_schema=capability.input_schema(),
        output_schema=capability.output_schema(),
    )
