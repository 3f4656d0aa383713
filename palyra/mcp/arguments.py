"""The arguments of the tools: what a client may say, and its types.

What a client sends is untrusted: everything is bounded here, or by the gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from palyra.errors import Malformed

MAX_TARGET = 128
MAX_WHERE = 2000
MAX_WAIT_S = 60
MAX_FOUND = 100
USUAL_FOUND = 25
MAX_TIMEOUT_S = 86_400

Target = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TARGET)]
JobRef = Annotated[str, msgspec.Meta(min_length=6, max_length=26)]
T = TypeVar("T", bound=msgspec.Struct)


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of a capability's tool."""

    target: Target
    input: Any = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None

    @property
    def timeout_ms(self) -> int | None:
        """The run time in milliseconds, where it was said."""
        return None if self.timeout_s is None else max(1, round(self.timeout_s * 1000))


class FindDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``find_devices``."""

    where: Annotated[str, msgspec.Meta(max_length=MAX_WHERE)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_FOUND)] = USUAL_FOUND


class JobGet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``job_get``; ``offset`` is in bytes of the output's text."""

    job_id: JobRef
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)] = 0
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0


class JobCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``job_cancel``."""

    job_id: JobRef


def read(arguments: dict[str, Any] | None, kind: type[T]) -> T:
    """The arguments as ``kind``.

    :raises Malformed: they are not that, with what is wrong.
    """
    try:
        return msgspec.convert(arguments or {}, kind)
    except msgspec.ValidationError as error:
        raise Malformed("arguments", f"{error}"[:300]) from error
