"""Every reader of outside input, as a function of bytes, with inputs to begin from.

A reader gives a value or refuses: only an error of ours comes out, its sentence is short, and a
value is not much larger than what it was read from.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any, get_type_hints

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.afar.eventstream import EventReader
from palyra.config import root as config
from palyra.config.addresses import HostPort
from palyra.config.endpoints import read_place
from palyra.console import models, reading
from palyra.console.hosts import Hosts
from palyra.core.announcement import Announcement, decode_announcement, encode_announcement
from palyra.core.audithead import Head, anchors_in
from palyra.core.calldigest import exact_input
from palyra.core.devices import AnnouncedCapability, label_change
from palyra.core.frames import HEARTBEAT, STARTED, NodeEvent
from palyra.core.identifiers import parse_ulid
from palyra.core.operator_uri import OperatorUri
from palyra.core.pairing_uri import PairingUri
from palyra.core.pake import DevicePake, GatewayPake
from palyra.core.pin import PinCode
from palyra.core.policy import parse_where
from palyra.core.schemas import Checker, check_profile
from palyra.core.selection import parse as parse_expression
from palyra.core.tracing import checked_traceparent
from palyra.core.urlprefix import Url
from palyra.errors import DeviceRevoked, NotRegistered, PalyraError
from palyra.pki.authority import DAY_MS, Authority
from palyra.pki.certificates import parse_subject, read_certificate, read_root
from palyra.pki.csr import check_csr, make_csr
from palyra.store.snapshot import StoreContent, build_snapshot, import_snapshot
from palyra.transport import quicframes

from ..store import samples
from . import quicpeers, quicwire
from .messages import MESSAGES, MessageReader
from .workerframes import WORKER_FRAMES

LARGEST_SENTENCE = 2_048
LARGEST_VALUE = 16 * 1024
GROWTH = 256
"""How much larger than its input the shown form of a value may be."""


@attrs.frozen
class Target:
    """One reader.  ``refuses`` is what it may raise; seeds are inputs that it understands."""

    name: str
    read: Callable[[bytes], object] = attrs.field(repr=False)
    seeds: tuple[bytes, ...] = attrs.field(repr=False)
    refuses: tuple[type[Exception], ...] = (PalyraError,)

    def check(self, data: bytes) -> bool:
        """Give it an input: whether it was read.  Everything that may not happen is raised."""
        try:
            value = self.read(data)
        except self.refuses as error:
            sentence = str(error)
            assert sentence, f"{type(error).__name__} says nothing"
            assert len(sentence) <= LARGEST_SENTENCE, f"{type(error).__name__}: {sentence[:200]}"
            return False
        assert len(repr(value)) <= LARGEST_VALUE + GROWTH * len(data), "the value is out of bounds"
        return True


def of_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of text: outside input that is not UTF-8 does not come so far."""
    return lambda data: read(data.decode(errors="replace"))


@attrs.frozen
class _Request:
    """As much of a request as a body is read from."""

    content: io.BytesIO


def of_body(kind: type[Any]) -> Callable[[bytes], object]:
    """A reader of a request's body."""

    def read(data: bytes) -> object:
        return reading.body(_Request(io.BytesIO(data)), kind)  # type: ignore[arg-type]

    return read


def read_events(data: bytes) -> list[bytes]:
    """Server-sent events, cut where the first byte says: the cut makes no difference."""
    cut = data[0] if data else 0
    whole = EventReader().feed(data)
    pieces = EventReader()
    assert pieces.feed(data[:cut]) + pieces.feed(data[cut:]) == whole
    return whole


def read_share(data: bytes) -> bytes:
    """A device's share in a run of its own."""
    return GatewayPake("004217", random.Random(5).randbytes).finish(data)


def written_again(read: Callable[[str], object]) -> Callable[[str], object]:
    """A reader of something that can be written: its own writing is read as the same value."""

    def check(text: str) -> object:
        value = read(text)
        assert read(str(value)) == value
        return value

    return check


_ENTROPY = random.Random(7).randbytes
_NOW_MS = samples.NOW_MS
_DEVICE = "01M80NKQCNX4K7QM2ZT9B3FVHD"
_AUTHORITY = Authority.create(trust_domain="palyra.test", now_ms=_NOW_MS - DAY_MS, entropy=_ENTROPY)
_KEY = ec.derive_private_key(7, ec.SECP256R1())
_HOSTS = Hosts.of(["home.example"])
_OPERATOR = f"palyra://home.example:7142/operator?ca={'A' * 43}&t={'A' * 22}"
_URI = f"palyra://home.example:7443/?ca={'A' * 43}&t={'A' * 22}"
_BODIES = [
    each
    for each in vars(models).values()
    if isinstance(each, type)
    and issubclass(each, msgspec.Struct)
    and each.__struct_config__.forbid_unknown_fields
]
"""What requests may have as a body: answers take unknown fields, requests do not."""


def _document() -> bytes:
    code = samples.a_code()
    request = samples.a_request("pi", code)
    device = samples.a_device(request)
    content = StoreContent(
        gateway_id=samples.ulid("gateway"),
        store_epoch="epoch",
        codes=[code],
        requests=[request],
        devices=[device],
        certificates=[samples.a_certificate(request)],
        revocations=[],
        jobs=[samples.a_job("job", device.device_id)],
    )
    return build_snapshot(content, _NOW_MS)


def _pki_targets() -> list[Target]:
    public = _KEY.public_key()
    device = _AUTHORITY.issue_device(public, _DEVICE, _NOW_MS).pem
    gateway = _AUTHORITY.issue_gateway(public, "g1", ["home.example"], _NOW_MS).pem
    ca = _AUTHORITY.ca_certificate.public_bytes(Encoding.DER)
    uris = (f"spiffe://palyra.test/device/{_DEVICE}".encode(), b"spiffe://x/gateway/g")
    return [
        Target("csr", lambda data: check_csr(data, _DEVICE), (make_csr(_KEY, _DEVICE),)),
        Target("certificate", read_certificate, (device, gateway)),
        Target("root", read_root, (ca,)),
        Target("subject", of_text(parse_subject), uris),
    ]


def _text_targets() -> list[Target]:
    lines = (b"room=lab\nedge\nsite-", b"a=\n\n-")
    expressions = (
        b"room=lab and not (site!=brno or offline)",
        b'name~"pi-*" or has(echo) and group(edge)',
        b"all",
    )
    addresses = (b"home:7443", b"[::1]:0", b"[fe80::1%eth0]:65535")
    endpoints = (b"palyra:7142:interface=127.0.0.1", rb"palyra:0:interface=\:\:1:stateroot=/a")
    traces = (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",)
    anchors = (f"x {Head(_DEVICE, 7, bytes(32), 5, signature=bytes(64)).line}\ny".encode(),)
    return [
        Target("ulid", of_text(parse_ulid), (_DEVICE.encode(),)),
        Target("pin", of_text(written_again(PinCode.parse)), (b"004217", b"12-345678")),
        Target("pairing-uri", of_text(written_again(PairingUri.parse)), (_URI.encode(),)),
        Target("host-port", of_text(HostPort.parse), addresses),
        Target("expression", of_text(written_again(parse_expression)), expressions),
        Target("labels", of_text(lambda text: label_change(text.split("\n"))), lines),
        Target("operator-uri", of_text(written_again(OperatorUri.parse)), (_OPERATOR.encode(),)),
        Target("endpoint", of_text(lambda text: read_place(text, "console")), endpoints),
        Target("host", lambda data: _HOSTS.knows(data, 7142, secure=True), addresses),
        Target("where-of-a-rule", of_text(parse_where), (b"label.env=prod and not group(a)",)),
        Target("url", of_text(Url.parse), (b"https://a.example:8443/b/..%2fc?d#e",)),
        Target("traceparent", of_text(checked_traceparent), traces),
        Target("anchors", of_text(lambda text: list(anchors_in(text.split("\n")))), anchors),
    ]


def _document_targets() -> list[Target]:
    share = DevicePake("004217", random.Random(6).randbytes).share
    said = Announcement("pi", "linux", "0.1", (AnnouncedCapability("echo"),))
    settings = (
        b'[[policy.rule]]\neffect = "ask"\ncapability = ["a.*"]\nwhere = "label.a=b"\n',
        b'[gateway]\nnames = ["home"]\n[enrolment]\nallow_v1_codes = true\n',
        b'[listen]\nenrolment = "[::]:7443"\n[jobs]\n',
    )
    events = (b"\x05data: {}\n\n: keep\n\ndata: a\ndata: b\r\n\r\n",)
    return [
        Target("exact-input", exact_input, (b'{"b":1.0,"a":[true,null,"\\u00e9"]}', b"1e15")),
        Target("announcement", decode_announcement, (encode_announcement(said),)),
        Target("config", of_text(lambda text: config.parse(text, "palyra.toml")), settings),
        Target("snapshot", lambda data: import_snapshot(data, now_ms=_NOW_MS), (_document(),)),
        Target("events", read_events, events, (ValueError,)),
        Target("pake-share", read_share, (share,)),
    ]


def read_schema(data: bytes) -> object:
    """A schema of the profile, and what it says of itself as if it were a value."""
    schema = exact_input(data).value
    check_profile(schema, "schema")
    assert isinstance(schema, dict)
    return Checker(schema).faults(schema)


def _schema_target() -> Target:
    scan = {
        "$ref": "#/$defs/Scan",
        "$defs": {"Scan": {"properties": {"a": {"pattern": "^a+$"}}, "required": ["a"]}},
    }
    forms = {"anyOf": [{"type": "string"}, {"items": {"enum": [1, None]}}], "x-a": {"$id": "b"}}
    schemas = tuple(map(msgspec.json.encode, (scan, forms)))
    return Target("schema", read_schema, schemas)


def _quic_frame_targets() -> list[Target]:
    request = quicframes.write_request
    requests = tuple(request(method)[4:] for method in quicframes.METHODS)
    resumed = request(quicframes.EVENTS, 7)[4:]
    answers = (
        quicframes.Health(True),
        quicframes.Event(seq=3, event="paired", at_unix_ms=_NOW_MS, details={"by": "ana"}),
        quicframes.Gap(seq=2),
    )
    told = tuple(quicframes.write_answer(each)[4:] for each in answers)
    refused = quicframes.write_error(DeviceRevoked("pi", reason="stolen"))[4:]
    phrase = quicframes.phrase_of(NotRegistered()).encode()
    streams = (b"\x00\x01" + quicwire.session(), b"zz\0\0\0\1a\0\0\0\2bc")
    return [
        Target("quic-frames", quicwire.read_frames, streams),
        Target("quic-request", quicframes.read_request, (*requests, resumed)),
        Target("quic-answer", quicframes.read_answer, (*told, refused)),
        Target("quic-phrase", quicwire.read_phrase, (phrase,)),
    ]


def _quic_listener_targets() -> list[Target]:
    """The whole listener, from a stranger's noise to the streams of a device."""
    request = quicframes.write_request
    started = NodeEvent(STARTED, session_epoch=3)
    streams = (
        *map(request, quicframes.METHODS),
        quicwire.session(),
        quicwire.session(started, NodeEvent(HEARTBEAT)),
    )
    stream = b"\x0a\x00" + bytes([len(streams[0])]) + streams[0]
    credit = b"\x01\x10\x40\xff\x12\x08\x1a" + b"p" * 8
    streams_of = b"\x04\x00\x01\x00\x05\x00\x01" + stream
    ids = b"\x18\x09\x00\x08" + b"c" * 8 + b"t" * 16 + b"\x19\x01"
    packets = (credit + stream, streams_of, ids + b"\x06\x00\x01a", b"\x1c\x00\x00\x00")
    datagram = quicpeers.first_datagram()
    others = (datagram[:1] + b"\x0a\x0a\x0a\x0a" + datagram[5:], b"\x40" + bytes(40))
    return [
        Target("quic-datagram", quicwire.read_datagram, (datagram, *others)),
        Target("quic-initial", quicwire.read_initial, (quicpeers.first_frames(),)),
        Target("quic-packet", quicwire.read_packet, packets),
        Target("quic-stream", quicwire.read_stream, streams),
    ]


def _message_target(reader: MessageReader) -> Target:
    return Target(f"message-{reader.name}", reader.read, reader.seeds)


def _body_target(kind: type[Any]) -> Target:
    hints = get_type_hints(kind)
    fields = {name: _EXAMPLES[hints[name]] for name in kind.__struct_fields__}
    return Target(f"body-{kind.__name__}", of_body(kind), (msgspec.json.encode(fields),))


_EXAMPLES: dict[Any, object] = {
    str: "lab",
    str | None: "lab",
    bool: True,
    int | None: 60_000,
    msgspec.Raw: {"text": ["hi"]},
    list[str]: ["pi"],
    list[str] | None: ["pi"],
    dict[str, str]: {"room": "lab"},
}
"""What a field of that type may be in a body."""


TARGETS = {
    target.name: target
    for target in (
        *_text_targets(),
        *_document_targets(),
        _schema_target(),
        *_pki_targets(),
        *_quic_frame_targets(),
        *_quic_listener_targets(),
        *map(_message_target, (*MESSAGES, *WORKER_FRAMES)),
        *map(_body_target, _BODIES),
    )
}
"""Every target by its name."""
