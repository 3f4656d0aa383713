"""Which capabilities are granted somewhere, and by which descriptor each is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from palyra.console.models import CapabilityDescription, CapabilityItem, NodeItem

OWN = "palyra"
"""The distribution whose capabilities are known to do what they say."""
TRUSTED = "trusted"
_RISKS = ("low", "medium", "high")


@attrs.frozen
class Offer:
    """A capability that is granted on ``devices`` devices, and the digest that most of them have.

    ``risk`` is the highest that one of them announces.
    """

    capability: str
    digest: str
    devices: int
    risk: str


@attrs.frozen
class Shown:
    """An offer with its descriptor."""

    offer: Offer
    said: CapabilityDescription

    @property
    def risk(self) -> str:
        """The higher of what the descriptor says and what a device announces."""
        return max(self.offer.risk, self.said.risk, key=_rank)

    @property
    def harmless(self) -> bool:
        """Whether a run changes nothing: only of our own capabilities is that believed."""
        low = self.risk == "low" and not self.said.needs_mediation
        return low and self.said.idempotent and self.said.distribution == OWN


def granted(node: NodeItem) -> frozenset[tuple[str, str, str]]:
    """Name, digest and risk of what is granted on a device; of one that is revoked: nothing."""
    if node.trust != TRUSTED:
        return frozenset()
    return frozenset((each.name, each.digest, each.risk) for each in node.capabilities if _on(each))


def _on(item: CapabilityItem) -> bool:
    return item.granted and item.available and bool(item.digest)


def offers(found: Iterable[frozenset[tuple[str, str, str]]]) -> list[Offer]:
    """One offer a capability, those of most devices first."""
    digests: dict[str, Counter[str]] = {}
    risks: dict[str, str] = {}
    for each in found:
        for name, digest, risk in each:
            digests.setdefault(name, Counter())[digest] += 1
            risks[name] = max(risks.get(name, risk), risk, key=_rank)
    made = [_offer(name, counted, risks[name]) for name, counted in digests.items()]
    return sorted(made, key=lambda offer: (-offer.devices, offer.capability))


def _offer(name: str, digests: Mapping[str, int], risk: str) -> Offer:
    chosen = min(digests, key=lambda digest: (-digests[digest], digest))
    return Offer(name, chosen, sum(digests.values()), risk)


def _rank(risk: Any) -> int:
    return _RISKS.index(risk) if risk in _RISKS else len(_RISKS)
