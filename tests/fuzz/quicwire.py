"""What comes from a peer of the QUIC listener, down to the bytes of its packets.

Each reader gives what became of its input.  None may raise anything of its own, and when all time
has passed nothing of the input is left.
"""

from __future__ import annotations

import random

from palyra.core.frames import Hello, NodeEvent
from palyra.core.identifiers import DeviceId
from palyra.errors import Malformed, PalyraError
from palyra.transport import quicframes, refusals
from palyra.wire.registration import write_hello
from palyra.wire.session import write_event
from tests.fuzz.quicpeers import DEVICE_ID, INITIAL_BYTES, Device, Served, faults, initial

TRIES = 25
"""So many streams one connection has in turn."""


# -- strangers --------------------------------------------------------------------------------


def read_datagram(data: bytes) -> int:
    """Anything at all on the port, and again: how much is answered, not more than three times."""
    served = Served()
    answered = 0
    with faults() as seen:
        for datagram in (data, data):
            answered += sum(map(len, served.hear(datagram)))
    assert not seen, seen[0]
    assert answered <= 6 * len(data), "it makes more of what a stranger sends"
    served.outlive()
    return answered


def read_initial(data: bytes) -> int:
    """What a stranger can say in a first packet: frames, and the first words of TLS in them."""
    return read_datagram(initial(data))


# -- devices ----------------------------------------------------------------------------------


class _Devices:
    """One device after the other, each for a while: a handshake is most of what a try costs."""

    def __init__(self) -> None:
        self._device: Device | None = None
        self._left = 0

    def one(self) -> Device:
        """A device whose connection lives."""
        if self._device is None:
            self._device, self._left = Device(), TRIES
        return self._device

    def used(self, *, whole: bool) -> None:
        """It was used; ``whole``: it can be used again."""
        device, self._left = self._device, self._left - 1
        if device is not None and (self._left <= 0 or not whole):
            self._device = None
            device.leave()


_devices = _Devices()


def read_stream(data: bytes) -> list[str]:
    """What a device says on a stream: answered or refused, and other streams go on.

    :raises PalyraError: the refusal, as a device reads it.
    """
    device, whole = _devices.one(), False
    try:
        with faults() as seen:
            answer, ended = device.ask(data)
            assert ended, "the stream is not answered to its end"
            healthy, _ = device.ask(quicframes.write_request(quicframes.HEALTH))
        assert not seen, seen[0]
        assert quicframes.read_answer(frames_of(healthy)[0]) == quicframes.Health(True)
        whole = True
    finally:
        _devices.used(whole=whole)
    answers = frames_of(answer)
    if answers and quicframes.is_json(answers[-1]):
        said = quicframes.read_answer(answers[-1])
        if isinstance(said, quicframes.Error):
            raise refusals.error_of(quicframes.refusal_in(said))
    return [each[:20].hex() for each in answers]


def read_packet(data: bytes) -> int | None:
    """Any frames of QUIC from a device that was admitted: what it was told at the end, if any."""
    device = Device()
    with faults() as seen:
        device.send_packet(data[: INITIAL_BYTES - 100].ljust(4, b"\0"))
        device.talk(lambda: False)
    assert not seen, seen[0]
    device.served.outlive()
    told = device.quic._close_event
    return None if told is None else told.error_code


# -- what stands on streams -------------------------------------------------------------------


def frames_of(data: bytes) -> list[bytes]:
    """Its complete frames."""
    reader = quicframes.FrameReader()
    reader.feed(data)
    return list(iter(reader.next, None))


def read_frames(data: bytes) -> list[bytes]:
    """Frames, cut into pieces that the first bytes choose: the cuts make no difference."""
    draw, rest = random.Random(data[:2]), data[2:]
    reader, found = quicframes.FrameReader(), []
    failed: Malformed | None = None
    try:
        while rest:
            size = draw.randint(1, max(1, min(len(rest), draw.choice((1, 3, 64, 5_000)))))
            reader.feed(rest[:size])
            rest = rest[size:]
            found += list(iter(reader.next, None))
    except Malformed as error:
        failed = error
    try:
        whole = frames_of(data[2:])
    except Malformed as error:
        assert str(error) == str(failed)
        raise
    assert found == whole and failed is None
    return whole


def read_phrase(data: bytes) -> PalyraError | None:
    """The reason phrase of a CONNECTION_CLOSE."""
    return quicframes.error_in(data.decode(errors="replace"))


def session(*events_said: NodeEvent) -> bytes:
    """The frames of a device that opens a session and says these."""
    hello = write_hello(Hello(DeviceId(DEVICE_ID), "linux", (), extended=True))
    said = [hello.SerializeToString()]
    said += [write_event(each, DEVICE_ID).SerializeToString() for each in events_said]
    frames = b"".join(map(quicframes.encode_frame, said))
    return quicframes.write_request(quicframes.SESSION) + frames
