"""What operators ask about capabilities, whoever offers them."""

from __future__ import annotations

from twisted.internet.defer import Deferred, execute

from palyra.console import models
from palyra.errors import Malformed
from palyra.gateway.descriptors import Descriptors, Known
from palyra.gateway.views import CONTRACT


class CapabilityControl:
    """The descriptors that are known here, by name."""

    def __init__(self, *, descriptors: Descriptors) -> None:
        self._descriptors = descriptors

    def capabilities(
        self, limit: int, cursor: str | None, name: str = "", digest: str = ""
    ) -> Deferred[models.CapabilityCatalogue]:
        return execute(self._capabilities, limit, cursor, name, digest)

    def _capabilities(
        self, limit: int, cursor: str | None, name: str, digest: str
    ) -> models.CapabilityCatalogue:
        if digest:
            known = self._descriptors.of(digest)
            fits = known is not None and name in ("", known.descriptor.name)
            found, more = [known] if known is not None and fits else [], None
        else:
            found, more = self._listed(limit, cursor, name)
        return models.CapabilityCatalogue(
            contract=CONTRACT,
            page=models.Page(limit, len(found), more is not None, more),
            capabilities=[self._description(each) for each in found],
        )

    def _listed(self, limit: int, cursor: str | None, name: str) -> tuple[list[Known], str | None]:
        """Some of them, and where the next ones begin."""
        after = None if cursor is None else _place(cursor)
        places = self._descriptors.listed(name, after, limit + 1)
        shown = [self._descriptors.of(digest) for _, digest in places[:limit]]
        more = _cursor(places[limit - 1]) if len(places) > limit else None
        return [each for each in shown if each is not None], more

    def _description(self, known: Known) -> models.CapabilityDescription:
        said = known.descriptor
        return models.CapabilityDescription(
            digest=known.digest,
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
            devices=self._descriptors.devices(known.digest),
        )


def _cursor(place: tuple[str, str]) -> str:
    name, digest = place
    return f"{digest}{name}"


def _place(cursor: str) -> tuple[str, str]:
    """The place that a cursor names; Malformed where it is none."""
    digest, name = cursor[:64], cursor[64:]
    if len(digest) < 64 or not name:
        raise Malformed("cursor", "is not one that a list gave")
    return name, digest
