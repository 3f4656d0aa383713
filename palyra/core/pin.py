"""PIN codes as people see and type them: ``N-dddddd``, the nameplate and the PIN.

The nameplate is public and is sent; the PIN is a secret of twenty bits and never is.  Nameplate 1
is not written: the usual code is six digits.
"""

from __future__ import annotations

import re
from collections.abc import Container

import attrs

from palyra.core.identifiers import Entropy
from palyra.errors import Malformed

PIN_DIGITS = 6
MAX_NAMEPLATES = 20
_IGNORED = re.compile(r"[\s-]+")
_DIGITS = re.compile(rf"[0-9]{{{PIN_DIGITS},{PIN_DIGITS + 2}}}\Z", re.ASCII)


@attrs.frozen
class PinCode:
    """A nameplate (1 to 20) and a PIN of six digits.  ``str()`` is the code itself, a secret."""

    nameplate: int
    pin: str = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> PinCode:
        """The code a person typed; blanks and dashes are ignored.  Nothing of it is echoed.

        :raises Malformed: it is not six digits, after a nameplate of at most two.
        """
        digits = _IGNORED.sub("", text[:64])
        if not _DIGITS.match(digits):
            raise Malformed("PIN", "must be six digits, as the gateway shows them")
        nameplate = int(digits[:-PIN_DIGITS] or 1)
        if not 1 <= nameplate <= MAX_NAMEPLATES:
            raise Malformed("PIN", "must be six digits, as the gateway shows them")
        return cls(nameplate, digits[-PIN_DIGITS:])

    def __str__(self) -> str:
        return self.pin if self.nameplate == 1 else f"{self.nameplate}-{self.pin}"


def draw_pin(entropy: Entropy) -> str:
    """Six random digits, each of the million equally likely."""
    space = 10**PIN_DIGITS
    ceiling = 2**32 - 2**32 % space
    while (number := int.from_bytes(entropy(4), "big")) >= ceiling:
        pass  # the last, incomplete million would make small numbers likelier
    return f"{number % space:0{PIN_DIGITS}}"


def free_nameplate(taken: Container[int]) -> int | None:
    """The lowest nameplate that no active PIN has; None where all are taken."""
    return next((number for number in range(1, MAX_NAMEPLATES + 1) if number not in taken), None)
