"""What a yes that outlives its call is for: one capability as it is now, and the scope shown.

The scope is the origin of a web address where the input is nothing but one, under the name it has
there, and else exactly that input; of high risk always the latter.
"""

from __future__ import annotations

import hashlib

import attrs

from palyra.core.calldigest import ExactInput
from palyra.core.transcript import lp
from palyra.core.urlprefix import Url

EXACTLY = "exactly this"
"""How a scope is shown that is the input itself."""
MAX_ORIGIN = 300
"""Characters of an origin that a person can be shown: of more than any host can have."""
MAX_MEMBER = 128
_WEB = frozenset({"http", "https"})


@attrs.frozen
class Scope:
    """``key`` is compared; ``shown`` is what a person sees of it."""

    key: str
    shown: str

    @property
    def exact(self) -> bool:
        """Whether it is the input itself."""
        return self.shown == EXACTLY


def scope_of(given: ExactInput, *, risk: str, opens: str = "") -> Scope:
    """The scope of a call's input; ``opens`` is the URL or path that it turned out to mean, which
    may be another one next time (a link in the file system)."""
    member, origin = _origin(given.value) if risk != "high" else ("", "")
    if origin:
        return Scope(f"origin {origin} {member}", origin)
    digest = hashlib.sha256(lp(b"palyra-consent-v1", given.json, opens.encode("utf-8", "replace")))
    return Scope(f"input {digest.hexdigest()}", EXACTLY)


def _origin(value: object) -> tuple[str, str]:
    """The origin of the one web address that is all of an input, after the name it has there; empty
    where there is more, or a name or an origin that nobody has."""
    if not isinstance(value, dict) or len(value) != 1:
        return "", ""
    ((member, text),) = value.items()
    url = Url.parse(text) if isinstance(text, str) else None
    if url is None or url.scheme not in _WEB or not url.host:
        return "", ""
    fits = len(url.origin) <= MAX_ORIGIN and len(member) <= MAX_MEMBER
    return (member, url.origin) if fits else ("", "")
