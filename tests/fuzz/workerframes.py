"""The readers of what a node host and the worker of a plugin say to each other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from palyra.capability import frames
from palyra.core.descriptors import Descriptor

from .messages import MessageReader

_NOTHING = msgspec.Raw(b"null")
_DEVICE = frames.Facts("01M80NKQCNX4K7QM2ZT9B3FVHD", "f", "https://home:7444", 5, 9, "pi")
_SAID = Descriptor(
    api=1,
    name="acme.print",
    version="1",
    distribution="acme",
    description="Prints.",
    risk="low",
    needs_mediation=False,
    idempotent=True,
    timeout_ms=9,
    max_concurrency=1,
    input_schema={"type": "object"},
    output_schema={},
)
_FROM_HOST = (
    frames.Hello(frames.VERSION, frames.Limits(9, 9, 9, 9)),
    frames.Run(1, "j", "acme.print", _NOTHING, _NOTHING, 9, 9, _DEVICE),
    frames.Cancel(1),
    frames.Stop(),
)
_FROM_WORKER = (
    frames.Ready(frames.VERSION, (_SAID,), (frames.PluginFault("acme.b", "It is broken."),)),
    frames.Started(1),
    frames.Progress(1, 0.5, "half"),
    frames.Result(1, "failed", error_code="handler_failed", error="ValueError"),
)


def _seeds(told: Sequence[frames.FromHost | frames.FromWorker]) -> tuple[bytes, ...]:
    return tuple(frames.encode_frame(each)[frames.HEAD_BYTES :] for each in told)


WORKER_FRAMES = (
    MessageReader("from-the-host", frames.decode_from_host, _seeds(_FROM_HOST)),
    MessageReader("from-a-worker", frames.decode_from_worker, _seeds(_FROM_WORKER)),
)
"""Both directions of the pipes."""
