"""What a yes that outlives its call is for: one capability as it is now, and the scope shown.

The scope is the origin of a web address where the input is nothing but one, and else exactly that
input; of high risk always the latter.
"""

from __future__ import annotations

import hashlib

import attrs

from palyra.core.calldigest import ExactInput
from palyra.core.transcript import lp
from palyra.core.urlprefix import Url

EXACTLY = "exactly this"
"""How a scope is shown that is the input itself."""
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
    origin = _origin(given.value) if risk != "high" else ""
    if origin:
        return Scope(f"origin {origin}", origin)
    digest = hashlib.sha256(lp(b"palyra-consent-v1", given.json, opens.encode("utf-8", "replace")))
    return Scope(f"input {digest.hexdigest()}", EXACTLY)


def _origin(value: object) -> str:
    """The origin of the one web address that is all of an input; empty where there is more."""
    if not isinstance(value, dict) or len(value) != 1:
        return ""
    (text,) = value.values()
    url = Url.parse(text) if isinstance(text, str) else None
    return url.origin if url is not None and url.scheme in _WEB and url.host else ""
