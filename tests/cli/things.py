"""The devices, requests and jobs that the tests of the command line show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from palyra.cli.present import Screen
from palyra.console.models import (
    NULL,
    CaAnswer,
    CaItem,
    CapabilityItem,
    CodeItem,
    Contract,
    FailedTries,
    FanoutAnswer,
    FanoutItem,
    InvokeAnswer,
    JobAnswer,
    JobEvent,
    JobItem,
    JobList,
    MintedCode,
    NodeAnswer,
    NodeItem,
    NodeList,
    Page,
    PairingAnswer,
    PairingItem,
    PairingList,
    Problem,
    SeenBefore,
)

NOW = int(datetime(2026, 11, 22, 3, 44, 14, tzinfo=UTC).timestamp() * 1000)
S, M, H, D = 1000, 60_000, 3_600_000, 86_400_000
CONTRACT = Contract()
KEY = "7d4c19e203abf58e" + "0123456789abcdef" * 3
OTHER_KEY = "02be19e203abf58e" + "0123456789abcdef" * 3
PI = "01M80NKQCNX4K7QM2ZT9B3FVHD"
NAS = "01M80NKQCN9TQ0HC2ZT9B3FVHD"
OLD = "01M80NKQCNM2V8RD2ZT9B3FVHD"
REQUEST = "01M80NKQCNT6MW3K2ZT9B3FVHD"
FANOUT = "01M80NKQCNF0S7GE2ZT9B3FVHD"
JOB = "01M80NKQCNB8Q2ZN2ZT9B3FVHD"


def screen(width: int = 80, *, tty: bool = True, **changes: Any) -> Screen:
    """A screen that keeps what is written to it: plain, at a known time."""
    given: dict[str, Any] = {
        "out": io.StringIO(),
        "err": io.StringIO(),
        "tty": tty,
        "err_tty": tty,
        "width": width,
        "now": lambda: NOW,
    }
    return Screen(**{**given, **changes})


def shown(made: Screen) -> str:
    """What was written to stdout, without blanks at the ends of lines."""
    assert isinstance(made.out, io.StringIO)
    return "".join(line.rstrip() + "\n" for line in made.out.getvalue().splitlines())


def told(made: Screen) -> str:
    """What was written to stderr."""
    assert isinstance(made.err, io.StringIO)
    return made.err.getvalue()


def capability(name: str, risk: str = "low", **changes: Any) -> CapabilityItem:
    """A capability that works and is granted."""
    item = CapabilityItem(name, True, True, "0.1.0", risk, risk != "low", True, "")
    return msgspec.structs.replace(item, **changes)


FIVE = [capability(name) for name in ("echo", "system.health", "system.identity")] + [
    capability("desktop.open_url", "medium"),
    capability("desktop.open_path", "high"),
]


def node(**changes: Any) -> NodeItem:
    """The device pi, online."""
    item = NodeItem(
        device_id=PI,
        name="pi",
        client_kind="node",
        presence="online",
        trust="trusted",
        platform="linux arm64",
        version="0.1.0",
        capabilities=FIVE,
        jobs_running=1,
        last_heard_unix_ms=NOW - 4 * S,
        transport="quic",
        address="192.168.1.23",
        certificate_expires_unix_ms=NOW + 23 * H,
        labels={"site": "prague", "rack": "2"},
        identity_fingerprint=KEY,
        approved_by="ana",
        paired_at_unix_ms=NOW - M,
    )
    return msgspec.structs.replace(item, **changes)


def nas(**changes: Any) -> NodeItem:
    """The device nas, stale, with a faulty capability."""
    four = [*FIVE[:3], capability("printer.print", fault="No module named 'cups'")]
    given: dict[str, Any] = {
        "device_id": NAS,
        "name": "nas",
        "presence": "stale",
        "platform": "linux amd64",
        "capabilities": four,
        "jobs_running": 0,
        "last_heard_unix_ms": NOW - 2 * M,
        "transport": "grpc",
        "certificate_expires_unix_ms": NOW + 40 * M,
        "version": "0.0.9",
        "version_skew": "older",
        "labels": {"site": "brno"},
    }
    return node(**{**given, **changes})


def old_laptop() -> NodeItem:
    """A device that is offline for a month."""
    return node(
        device_id=OLD,
        name="old-laptop",
        presence="offline",
        platform="macos arm64",
        jobs_running=0,
        last_heard_unix_ms=NOW - 31 * D,
        transport="",
        certificate_expires_unix_ms=None,
        labels={},
    )


def page(returned: int, cursor: str | None = None) -> Page:
    """Where a list stands."""
    return Page(limit=200, returned=returned, has_more=cursor is not None, next_cursor=cursor)


def node_list(*nodes: NodeItem, waiting: int = 0, cursor: str | None = None) -> NodeList:
    """GET nodes."""
    return NodeList(CONTRACT, page(len(nodes), cursor), list(nodes), waiting)


def node_answer(item: NodeItem | None = None) -> NodeAnswer:
    """GET nodes/{id}."""
    return NodeAnswer(CONTRACT, item or node())


def request(**changes: Any) -> PairingItem:
    """The device pi asks to be paired."""
    item = PairingItem(
        request_id=REQUEST,
        state="pending_approval",
        device_id=PI,
        name="pi",
        client_kind="node",
        platform="linux arm64",
        version="0.1.0",
        source="192.168.1.23",
        identity_fingerprint=KEY,
        capabilities=FIVE,
        labels={"site": "prague"},
        method="qr",
        issued_by="ana",
        issued_at_unix_ms=NOW - 2 * M,
        created_at_unix_ms=NOW - M,
        expires_at_unix_ms=NOW + 8 * M + 12 * S,
        seen_before=SeenBefore("never"),
        decided_by="",
        reason="",
        approval_id=REQUEST,
    )
    return msgspec.structs.replace(item, **changes)


def another_key() -> SeenBefore:
    """The device was here with another key."""
    return SeenBefore("another_key", "pi", NOW - 200 * D, OTHER_KEY)


def burnt(**changes: Any) -> CodeItem:
    """A PIN that five wrong tries have burnt."""
    item = CodeItem(REQUEST, "pin", "ana", NOW - 5 * M, NOW + 5 * M, {}, "", 5, "burnt", 1)
    return msgspec.structs.replace(item, **changes)


def request_list(
    *requests: PairingItem, tries: int = 0, codes: Sequence[CodeItem] = (), **changes: Any
) -> PairingList:
    """GET pairing/requests."""
    failed = [FailedTries("192.168.1.40", tries)] if tries else []
    listed = PairingList(CONTRACT, page(len(requests)), list(requests), list(codes), failed)
    return msgspec.structs.replace(listed, **changes)


def request_answer(**changes: Any) -> PairingAnswer:
    """GET pairing/requests/{id}, and the answer to a decision."""
    return PairingAnswer(CONTRACT, request(**changes))


def minted(loopback: bool = False) -> MintedCode:
    """POST pairing/requests/code."""
    code = CodeItem(REQUEST, "qr", "ana", NOW, NOW + 10 * M, {"site": "prague"}, "", 0)
    uri = f"palyra://home.example.org:7443/?ca={'m' * 43}&t={'Z' * 22}"
    return MintedCode(CONTRACT, code, uri, "home.example.org:7443", loopback)


def minted_pin(pin: str = "418207", **changes: Any) -> MintedCode:
    """POST pairing/requests/code, of a PIN."""
    code = CodeItem(REQUEST, "pin", "ana", NOW, NOW + 10 * M, {"site": "prague"}, "", 0)
    item = MintedCode(CONTRACT, code, "", "home.example.org:7443", False, pin)
    return msgspec.structs.replace(item, **changes)


OLD_CA = CaItem(OTHER_KEY, False, True, NOW + 300 * D)
NEW_CA = CaItem(KEY, True, False, NOW + 3650 * D)


def ca_answer(**changes: Any) -> CaAnswer:
    """GET ca, in the middle of a rotation."""
    answer = CaAnswer(
        contract=CONTRACT,
        phase="overlap",
        cas=[NEW_CA, OLD_CA],
        started_unix_ms=NOW - 2 * D,
        next_step_unix_ms=NOW + 20 * D,
        left=[nas(), old_laptop()],
        left_total=2,
    )
    return msgspec.structs.replace(answer, **changes)


def steady_ca() -> CaAnswer:
    """GET ca, with one CA."""
    only = msgspec.structs.replace(NEW_CA, serves=True)
    return CaAnswer(CONTRACT, "steady", [only], None, None, [], 0)


def job(**changes: Any) -> JobItem:
    """A job that succeeded."""
    item = JobItem(
        job_id=JOB,
        device_id=PI,
        device_name="pi",
        capability="echo",
        state="succeeded",
        submitted_at_unix_ms=NOW - 12 * S,
        finished_at_unix_ms=NOW - 11 * S,
        took_ms=14,
        requested_by="ana",
        attempts=1,
        waiting_for="",
        error_code="",
        note="",
        effect_possible=False,
    )
    return msgspec.structs.replace(item, **changes)


def job_list(*jobs: JobItem, cursor: str | None = None) -> JobList:
    """GET jobs."""
    return JobList(CONTRACT, page(len(jobs), cursor), list(jobs))


OUTPUT = msgspec.Raw(b'{"echo":{"text":"hello"},"device_id":"' + PI.encode() + b'"}')


def job_answer(
    output: msgspec.Raw | None = OUTPUT, error: str | None = None, **changes: Any
) -> JobAnswer:
    """GET jobs/{id}."""
    given = msgspec.Raw(b'{"text":"hello"}')
    return JobAnswer(CONTRACT, job(**changes), given, output or NULL, error)


FOUR = [
    job(
        job_id="01M80NKQCNB8Q2ZN2ZT9B3FVHD",
        took_ms=9,
        note='{"cpu":7,"memory":41,"disk":63,"load":1}',
    ),
    job(
        job_id="01M80NKQCNK1D9WA2ZT9B3FVHD",
        device_name="pi-2",
        took_ms=11,
        note='{"cpu":3,"memory":22,"disk":12,"load":0}',
    ),
    job(
        job_id="01M80NKQCN4M0Q7T2ZT9B3FVHD",
        device_id=NAS,
        device_name="nas",
        state="timed_out",
        took_ms=30_000,
        effect_possible=True,
        error_code="timed_out",
        note="Timed out after 30s; it may still have taken effect: check nas before repeating.",
    ),
    job(
        job_id="01M80NKQCN7ZC1XH2ZT9B3FVHD",
        device_id=OLD,
        device_name="old",
        state="rejected",
        took_ms=None,
        attempts=0,
        error_code="device_offline",
        note="old is offline, last heard 31d ago; nothing was queued.",
    ),
]
"""The rows of a fan-out to four devices."""
RUNNING = {"succeeded": 1, "timed_out": 1, "rejected": 1, "dispatched": 1}
ENDED = {"succeeded": 2, "timed_out": 1, "rejected": 1}


def fanout_item(**changes: Any) -> FanoutItem:
    """A fan-out to four devices that has ended."""
    item = FanoutItem(
        fanout_id=FANOUT,
        capability="system.health",
        expression="label.site = prague",
        requested_by="ana",
        submitted_at_unix_ms=NOW - 30 * S,
        targets=4,
        batch=None,
        max_failures=None,
        counts=ENDED,
        finished=True,
        stopped=False,
    )
    return msgspec.structs.replace(item, **changes)


def running(**changes: Any) -> FanoutItem:
    """The same fan-out while one row is running."""
    return fanout_item(counts=RUNNING, finished=False, **changes)


def fanout_answer(
    item: FanoutItem | None = None, rows: list[JobItem] | None = None, cursor: str | None = None
) -> FanoutAnswer:
    """GET fanouts/{id}."""
    given = FOUR if rows is None else rows
    return FanoutAnswer(CONTRACT, page(len(given), cursor), item or fanout_item(), given)


def event_of_job(item: JobItem, progress: float | None = None, text: str = "") -> JobEvent:
    """How far a job is."""
    return JobEvent("job", job=item, progress=progress, progress_text=text)


def event_of_fanout(item: FanoutItem) -> JobEvent:
    """How far a fan-out is."""
    return JobEvent("fanout", fanout=item)


END = JobEvent("end")


def invoke_answer(**changes: Any) -> InvokeAnswer:
    """POST nodes/{id}/invoke, succeeded."""
    answer = InvokeAnswer(
        contract=CONTRACT,
        device_id=PI,
        capability="echo",
        success=True,
        job_id=JOB,
        state="succeeded",
        output_json=OUTPUT,
        error=None,
        error_code=None,
        effect_possible=False,
        took_ms=14,
    )
    return msgspec.structs.replace(answer, **changes)


def still(state: str) -> InvokeAnswer:
    """The job goes on."""
    return invoke_answer(success=False, state=state, output_json=None, took_ms=None)


def problem(code: str = "device_offline") -> Problem:
    """A refusal."""
    error = "pi is offline, last heard 3h ago; nothing was queued."
    return Problem(error, code, "palyra nodes show pi", "precondition", True)
