"""Promises of the snapshot document."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import Revocation, RevokedCertificate, Risk
from palyra.core.identifiers import DeviceId, Fingerprint, sha256_hex
from palyra.core.jobs import Attempt, Job, JobState
from palyra.core.pairing import CodeMethod
from palyra.errors import StoreCorrupt
from palyra.store.snapshot import (
    SUMMARY_LENGTH,
    StoreContent,
    build_snapshot,
    import_snapshot,
    newest_jobs,
    redacted,
)
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_job,
    a_request,
    dispatch,
    succeed,
    ulid,
)

CODE = a_code()
PIN = a_code("pin", digest="", method=CodeMethod.PIN, nameplate=4, sealed_pin=b"sealed pin")
REQUEST = a_request("lab-7", CODE, pake_confirm=b"confirmation", sealed_key=b"sealed key")
DEVICE = attrs.evolve(
    a_device(REQUEST),
    grant_risk=Risk.MEDIUM,
    withheld=frozenset({"acme.b", "acme.a"}),
    rotate_asked_at_ms=NOW_MS + 4,
    rotate_asked_by="operator:ana",
)
TOMBSTONE = Revocation(
    DeviceId(ulid("x")),
    Fingerprint("f"),
    (RevokedCertificate(Fingerprint("c"), NOW_MS + 5, "0a", Fingerprint("ca")),),
    NOW_MS,
    "ana",
    "lost",
    device_name="lab-9",
    removed_at_ms=NOW_MS + 6,
    removed_by="bo",
    allowed_at_ms=NOW_MS + 7,
)


def content(*jobs: Job) -> StoreContent:
    return StoreContent(
        gateway_id=ulid("gateway"),
        store_epoch="ab" * 16,
        codes=[CODE, PIN],
        requests=[REQUEST],
        devices=[DEVICE],
        certificates=[a_certificate(REQUEST, issuer=sha256_hex(b"ca"), made_key=True)],
        revocations=[TOMBSTONE],
        jobs=jobs,
    )


def test_it_holds_no_secret() -> None:
    """Neither code digest, session digest, CSR, input nor output is in the document."""
    job = succeed(dispatch(a_job("j", DEVICE.device_id)))
    document = build_snapshot(content(job), NOW_MS).decode()
    assert CODE.digest not in document
    assert REQUEST.session_digest not in document
    for absent in ("input_json", "output_json", "csr_der", "session_digest", "digest"):
        assert f'"{absent}"' not in document.replace('"digest": ""', "")
    for secret in (PIN.sealed_pin, REQUEST.pake_confirm, REQUEST.sealed_key):
        assert base64.b64encode(secret).decode() not in document
    for absent in ("sealed", "pake"):
        assert absent not in document


def test_its_shape_is_stable() -> None:
    """Other programs read it: schema_version and the names of its parts."""
    document = json.loads(build_snapshot(content(a_job("j", DEVICE.device_id)), NOW_MS))
    assert document["schema_version"] == 1
    assert sorted(document) == [
        "capability_requests",
        "certificates",
        "gateway_id",
        "generated_at_ms",
        "nodes",
        "pairing_codes",
        "pairing_requests",
        "revocations",
        "schema_version",
        "store_epoch",
    ]
    assert document["nodes"][0]["name"] == "lab-7"
    assert document["pairing_codes"][0]["code_id"] == CODE.code_id
    assert [each["nameplate"] for each in document["pairing_codes"]] == [None, 4]
    assert document["capability_requests"][0]["state"] == "queued"


def test_what_is_written_can_be_imported() -> None:
    """Devices, certificates, revocations and final jobs come back; others become unknown."""
    queued, done = a_job("q", DEVICE.device_id), succeed(dispatch(a_job("d", DEVICE.device_id)))
    written = content(queued, done)
    state = import_snapshot(build_snapshot(written, NOW_MS), now_ms=NOW_MS + 9)
    assert (state.gateway_id, state.generated_at_ms) == (written.gateway_id, NOW_MS)
    assert state.devices == (DEVICE,)
    assert state.certificates == tuple(written.certificates)
    assert state.revocations == tuple(written.revocations)
    unknown, kept = state.jobs
    assert (unknown.state, unknown.finished_at_ms) == (JobState.OUTCOME_UNKNOWN, NOW_MS + 9)
    assert unknown.effect_possible
    assert kept.attempt == done.attempt
    assert (kept.state, kept.finished_at_ms, kept.took_ms) == (JobState.SUCCEEDED, NOW_MS + 30, 4)


def test_what_older_versions_wrote_can_be_imported() -> None:
    """A document of a gateway without queues and fan-outs."""
    times: dict[str, Any] = {"queue_expires_at_ms": NOW_MS + 7, "fanout_id": ulid("f")}
    job = a_job("j", DEVICE.device_id, **times)
    job.retry_at_ms = NOW_MS + 8
    job.cancel_requested_at_ms, job.cancel_requested_by = NOW_MS + 9, "ana"
    job.cancel_reason = "token=abc leaked"
    written = json.loads(build_snapshot(content(job), NOW_MS))
    (entry,) = written["capability_requests"]
    assert times.items() <= entry.items() and entry["retry_at_ms"] == NOW_MS + 8
    (kept,) = import_snapshot(json.dumps(written).encode(), now_ms=NOW_MS).jobs
    assert (kept.call.queue_expires_at_ms, kept.call.fanout_id) == tuple(times.values())
    assert (kept.cancel_requested_at_ms, kept.cancel_requested_by) == (NOW_MS + 9, "ana")
    assert kept.cancel_reason == "token=[redacted] leaked"
    cancel = "cancel_requested_at_ms", "cancel_requested_by", "cancel_reason"
    for name in (*times, "retry_at_ms", *cancel):
        del entry[name]
    (kept,) = import_snapshot(json.dumps(written).encode(), now_ms=NOW_MS).jobs
    assert kept.call.fanout_id is None


def test_what_older_versions_wrote_of_devices_can_be_imported() -> None:
    """A document without grants by risk, issuers and tombstones, of pairs for certificates."""
    written = json.loads(build_snapshot(content(), NOW_MS))
    (node,), (certificate,), (revocation,) = (
        written[part] for part in ("nodes", "certificates", "revocations")
    )
    for name in ("grant_risk", "withheld", "rotate_asked_at_ms", "rotate_asked_by"):
        del node[name]
    del certificate["issuer"], certificate["made_key"]
    for name in ("device_name", "removed_at_ms", "removed_by", "allowed_at_ms"):
        del revocation[name]
    revocation["certificates"] = [["c", NOW_MS + 5]]
    for code in written["pairing_codes"]:
        del code["nameplate"]
    state = import_snapshot(json.dumps(written).encode(), now_ms=NOW_MS)
    assert state.devices == (a_device(REQUEST),)
    assert state.certificates == (a_certificate(REQUEST),)
    (kept,) = state.revocations
    assert kept.certificates == (RevokedCertificate(Fingerprint("c"), NOW_MS + 5),)
    assert (kept.device_name, kept.removed_at_ms, kept.allowed_at_ms) == ("", None, None)


def test_newest_jobs_come_first() -> None:
    """Unfinished and final jobs are one list."""
    jobs = [a_job("j", DEVICE.device_id, NOW_MS + n) for n in range(3)]
    assert newest_jobs(jobs[1:2], [jobs[0], jobs[2]]) == jobs[::-1]


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\xff\xfe", b"[]", b'{"schema_version": 1}', b'{"schema_version": 2}'],
)
def test_a_damaged_document_is_refused(damaged: bytes) -> None:
    """The error names the file that was given."""
    with pytest.raises(StoreCorrupt) as caught:
        import_snapshot(damaged, now_ms=NOW_MS, file="/srv/node-runtime.v1.json")
    assert caught.value.file == "/srv/node-runtime.v1.json"


def test_a_document_that_contradicts_itself_is_refused() -> None:
    """Entries that are there twice and certificates of no device are damage."""
    job = dispatch(a_job("j", DEVICE.device_id))
    assert isinstance(job.attempt, Attempt)
    other = attrs.evolve(a_job("k", DEVICE.device_id), attempt=job.attempt)
    good = content(job)
    for bad in (
        attrs.evolve(good, devices=[DEVICE, DEVICE]),
        attrs.evolve(good, devices=[]),
        attrs.evolve(good, certificates=[*good.certificates, *good.certificates]),
        attrs.evolve(good, revocations=[*good.revocations, *good.revocations]),
        content(job, job),
        content(job, other),
    ):
        with pytest.raises(StoreCorrupt):
            import_snapshot(build_snapshot(bad, NOW_MS), now_ms=NOW_MS)


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=4000), st.binary(min_size=1, max_size=4))
def test_no_damage_breaks_the_import(position: int, damage: bytes) -> None:
    """Any bytes either import or are a StoreCorrupt."""
    document = bytearray(build_snapshot(content(a_job("j", DEVICE.device_id)), NOW_MS))
    document[position : position + len(damage)] = damage
    try:
        import_snapshot(bytes(document), now_ms=NOW_MS)
    except StoreCorrupt as error:
        assert error.file == "node-runtime.v1.json"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no route to host", "no route to host"),
        ("password=hunter2 was wrong", "password=[redacted] was wrong"),
        ("api_key: 'abc def', retry", "api_key: [redacted], retry"),
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ('{"db_password": "x y"}', '{"db_password": [redacted]}'),
        ("got " + "a1" * 20, "got [redacted]"),
        ("-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----", "[redacted]"),
        ("-----BEGIN PRIVATE KEY-----\nxx", "[redacted]"),
        (r'{"token": "a\" b", "c": 1}', '{"token": [redacted], "c": 1}'),
        ('{"token": "no end', '{"token": [redacted]'),
        ("{'token': 'no end\\", "{'token': [redacted]"),
    ],
)
def test_summaries_are_redacted(text: str, shown: str) -> None:
    """What looks like a secret is not in the snapshot."""
    assert redacted(text) == shown


@pytest.mark.parametrize("quote", ['"', "'"])
def test_what_is_cut_hides_as_much_as_the_whole(quote: str) -> None:
    """Wherever a text is cut: no secret, and no beginning of one, is shown."""
    named, long, key = "HIDDEN\\" + quote + " HIDDEN", "HIDDEN" * 6, "HIDDEN\n" * 3
    text = (
        f"{{{quote}password{quote}: {quote}{named}{quote}, {quote}x{quote}: {quote}{long}{quote}, "
        f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----, api_key=HIDDEN, end}}"
    )
    for length in range(len(text)):
        shown = redacted(text[:length], cut=True)
        assert "H" not in shown and "ID" not in shown, (length, shown)
    assert "HIDDEN" not in redacted(text)


def test_the_end_of_a_longer_text_is_not_trusted() -> None:
    """Texts of megabytes are looked at from their beginning only; what is cut there is hidden."""
    text = "k" * 40 + " "
    shown = redacted(text * 93 + "s" * 40 + " more")
    assert "ss" not in shown and shown.endswith("…")


def test_summaries_are_short() -> None:
    """They are cut at 240 characters."""
    assert len(redacted("word " * 100_000)) == SUMMARY_LENGTH
