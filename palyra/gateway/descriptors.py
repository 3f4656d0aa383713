"""The descriptors that the gateway knows: those of the capabilities that come with it.

A device says only the digest of each descriptor.  Where it is one of these, a page can ask for the
input field by field.
"""

from __future__ import annotations

from functools import cache

from twisted.internet.defer import Deferred, execute

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.registry import load_here, own_points
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
    return tuple(map(_description, Catalogue(*load_here(own_points())).offers.values()))


def _description(offer: Offer) -> models.CapabilityDescription:
    said = offer.descriptor
    return models.CapabilityDescription(
        digest=offer.digest,
        name=said.name,
        version=said.version,
        distribution=said.distribution,
        description=said.description,
        risk=said.risk,
        needs_mediation=said.needs_mediation,
        idempotent=said.idempotent,
        timeout_ms=said.timeout_ms,
        input_schema=said.input_schema,
        output_schema=said.output_schema,
    )
