"""Devices that come back after 25 hours, 40 days and 400 days, and clocks that are wrong.

The past is made while the gateway is stopped: certificates of another time, signed by its own CA,
take the place of the recorded ones.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from cryptography import x509
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from palyra.console.models import MintedCode
from tests.adversarial.device import Device, der_of, parts, sha256
from tests.adversarial.forging import DAY, HOUR, Signer, csr, fresh_key, now, pem_of
from tests.adversarial.guessing import guess
from tests.adversarial.house import Gateway, running
from tests.adversarial.wire import CALL_S
from tests.integration.processes import eventually

MINUTE = datetime.timedelta(minutes=1)
SHORT = datetime.timedelta(seconds=10)
"""What is left of a certificate that a TLS session is resumed with after its end."""
AGES = {"25 hours": 25 * HOUR, "40 days": 40 * DAY, "89 days": 89 * DAY}


@attrs.frozen
class Past:
    """Devices by how long their certificate is over, and a code that ran out."""

    devices: dict[str, Device]
    old: Device
    short: Device
    code: MintedCode
    resumption: Any


def unix_ms(moment: datetime.datetime) -> int:
    """Unix milliseconds."""
    return int(moment.timestamp() * 1000)


def redate(
    gateway: Gateway, ca: Signer, device: Device, begin: datetime.datetime, end: datetime.datetime
) -> None:
    """Put a certificate of another time into the place of the device's own."""
    certificate = ca.issue(device.key.public_key(), identity=device.device_id, begin=begin, end=end)
    pem = pem_of(certificate)
    values = (
        sha256(der_of(pem)).hex(),
        pem.decode(),
        f"{certificate.serial_number:x}",
        unix_ms(begin),
        unix_ms(end),
        unix_ms(begin),
        device.device_id,
    )
    with gateway.opened("rw") as database:
        changed = database.execute(
            "UPDATE certificates SET fingerprint = ?, pem = ?, serial = ?, not_before_ms = ?,"
            " not_after_ms = ?, issued_at_ms = ? WHERE device_id = ?",
            values,
        )
        assert changed.rowcount == 1
    device.certificate_pem = pem


@pytest.fixture(scope="module")
def gateway(past: tuple[Gateway, Past]) -> Gateway:
    """The gateway, started again after all that time."""
    return past[0]


@pytest.fixture(scope="module")
def then(past: tuple[Gateway, Past]) -> Past:
    """What there was."""
    return past[1]


@pytest.fixture(scope="module")
def past() -> Iterator[tuple[Gateway, Past]]:
    """Devices pair, the gateway stops, time passes, and it starts again."""
    with running() as gateway:
        devices = {age: Device(gateway, age.replace(" ", "-")).enrol() for age in AGES}
        old, short = Device(gateway, "old").enrol(), Device(gateway, "short").enrol()
        code = gateway.pin()
        gateway.process.terminate()
        ca = gateway.authority()
        for age, device in devices.items():
            end = now() - AGES[age]
            redate(gateway, ca, device, end - DAY, end)
        redate(gateway, ca, old, now() - 401 * DAY, now() - 400 * DAY)
        with gateway.opened("rw") as database:
            database.execute("UPDATE pairing_codes SET expires_at_ms = ?", (unix_ms(now()) - 1,))
        redate(gateway, ca, short, now() - HOUR, now() + SHORT)
        gateway.start()
        resumption = cygrpc.SSLSessionCacheLRU(4)
        assert short.register(resumption=resumption).accepted
        yield gateway, Past(devices, old, short, code, resumption)


@pytest.mark.parametrize("age", AGES)
def test_within_the_grace_a_device_comes_back_by_itself(
    gateway: Gateway, then: Past, age: str
) -> None:
    """Its certificate opens nothing any more; its identity key brings a new one at once."""
    device = then.devices[age]
    with gateway.unmoved():
        assert device.refused(device.register).status == "UNAVAILABLE"
    device.key = fresh_key()
    device.csr = csr(device.key, device.device_id)
    requests = gateway.rows("pairing_requests", "request_id")
    assert device.accept(device.rejoin()[1]).register().accepted
    assert gateway.rows("pairing_requests", "request_id") == requests, "nobody had to approve it"


def test_beyond_the_grace_an_operator_decides(gateway: Gateway, then: Past) -> None:
    """After 400 days there is no certificate before an approval, which shows the continuity."""
    device = then.old
    certificates = gateway.rows("certificates", "fingerprint, state")
    assert device.refused(device.register).status == "UNAVAILABLE"
    opened, answer = device.rejoin()
    assert not answer.paired and not answer.mtls_client_certificate_pem
    assert answer.reason == "pending_approval"
    (request,) = [r for r in gateway.pairing().requests if r.request_id == answer.request_id]
    assert request.state == "pending_approval" and request.method == "rejoin"
    assert request.seen_before.kind == "same_key"
    ended = request.seen_before.certificate_ended_unix_ms
    assert ended is not None and abs(ended - unix_ms(now() - 400 * DAY)) < 60_000
    assert device.status(opened.session_id).status == "pending_approval"
    assert gateway.rows("certificates", "fingerprint, state") == certificates
    assert device.refused(device.register).status == "UNAVAILABLE"
    assert device.pick_up(opened, answer).register().accepted


def test_a_code_that_ran_out_is_wrong_like_any_other(gateway: Gateway, then: Past) -> None:
    """The right PIN after its end: pairing_failed, charged to the source."""
    device = Device(gateway)
    with gateway.unmoved(but=then.code, guesses=0):
        refusal = guess(device, then.code.pin)
    assert refusal.kind == ("FAILED_PRECONDITION", "pairing_failed")
    assert gateway.tries(device.source) == 1
    nobody = Device(gateway)
    unknown = guess(nobody, f"18-{parts(then.code.pin)[1]}")
    assert refusal.text == unknown.text


@pytest.mark.parametrize("minutes", [-40_000, -12, -4, 4, 12, 40_000])
def test_a_wrong_clock_is_told_and_refuses_nobody(gateway: Gateway, minutes: int) -> None:
    """The node says what time it is: it is told the gateway's, and the operator is shown both."""
    device = Device(gateway, "clock").enrol()
    hello = device.hello()
    hello.hello.unix_ms = unix_ms(now() + minutes * MINUTE)
    hello.replay.timestamp_unix_ms = hello.hello.unix_ms
    with device.node_rpc() as stub:
        welcome = stub.RegisterNode(hello, timeout=CALL_S).welcome
    assert abs(welcome.gateway_unix_ms - unix_ms(now())) < 5_000
    node = gateway.node(device.device_id)
    assert node.clock_ahead_ms is not None
    assert abs(node.clock_ahead_ms - minutes * 60_000) < 5_000


def test_certificates_begin_before_they_are_issued(gateway: Gateway) -> None:
    """A device whose clock is four minutes behind believes its own certificate."""
    device = Device(gateway).enrol()
    leaf = x509.load_pem_x509_certificate(device.certificate_pem)
    assert leaf.not_valid_before_utc <= now() - 4 * MINUTE
    assert now() + 23 * HOUR < leaf.not_valid_after_utc <= now() + DAY


def test_a_resumed_tls_session_does_not_outlive_its_certificate(
    gateway: Gateway, then: Past
) -> None:
    """TLS resumes without looking at the dates: the gate looks at them on every call."""
    end = x509.load_pem_x509_certificate(then.short.certificate_pem).not_valid_after_utc
    eventually(
        lambda: datetime.datetime.now(datetime.UTC) > end + datetime.timedelta(seconds=1),
        "the certificate is over",
    )
    with gateway.unmoved():
        refusal = then.short.refused(then.short.register, resumption=then.resumption)
        fresh = then.short.refused(then.short.register)
    assert fresh.status == "UNAVAILABLE"
    # UNAVAILABLE where the TLS library does not resume: then it has looked at the dates itself.
    assert refusal.kind in (("PERMISSION_DENIED", "certificate_refused"), ("UNAVAILABLE", ""))
