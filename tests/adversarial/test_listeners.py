"""What the two listeners take at all: calls, sizes, sessions and bytes that are no calls."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adversarial.detour import HOST
from tests.adversarial.device import Device
from tests.adversarial.house import Gateway, running
from tests.adversarial.wire import CALL_S, messages
from tests.integration.processes import eventually

FAILED = ("FAILED_PRECONDITION", "pairing_failed")


def split(address: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def test_each_listener_has_its_own_calls(gateway: Gateway) -> None:
    """Node calls do not exist for strangers, nor pairing calls for paired devices."""
    paired = Device(gateway, "pi").enrol()
    node_calls: list[tuple[str, Any, bool]] = [
        ("RegisterNode", paired.hello(), False),
        ("StreamNodeEvents", iter([paired.event()]), True),
        ("ExecuteCapability", messages.ExecuteCapabilityRequest(v=1), False),
        ("SubmitJobs", iter([messages.SubmitJobRequest(v=1)]), True),
        ("FollowJob", messages.FollowJobRequest(v=1), True),
        ("CancelJob", messages.CancelJobRequest(v=1), False),
        ("RotateDeviceCertificate", paired.renewal(), False),
        ("RevokeDevicePairing", messages.RevokeDevicePairingRequest(v=1), False),
    ]
    pairing_calls: list[tuple[str, Any, bool]] = [
        ("BeginPairingSession", paired.offer_token("x"), False),
        ("BeginPairingSession", paired.offer_rejoin(), False),
        ("CompletePairingSession", messages.CompletePairingSessionRequest(v=1), False),
        ("GetPairingRequestStatus", paired.status_message("0" * 32), False),
    ]
    stranger = Device(gateway)
    with gateway.unmoved():
        for way, calls in ((stranger.enrolment, node_calls), (paired.node_rpc, pairing_calls)):
            with way() as stub:
                for name, message, streams in calls:
                    call = getattr(stub, name)
                    refusal = stranger.refused(first if streams else single, call, message)
                    assert refusal.status == "UNIMPLEMENTED", (name, refusal)


def single(call: Any, message: Any) -> Any:
    """A call with one answer."""
    return call(message, timeout=CALL_S)


def first(call: Any, message: Any) -> Any:
    """The first answer of a call with several."""
    return next(call(message, timeout=CALL_S))


def test_a_message_has_64_kib(gateway: Gateway, device: Device) -> None:
    """A longer one is not parsed; an announcement of exactly 64 KiB still gets an answer."""
    token = gateway.token()
    with gateway.unmoved():
        device.announcement = b" " * 200_000
        opened = device.begin(device.offer_token(token))
        message = device.answer(opened, "pair-uri", proof=token)
        refusal = device.refused(device.complete, message)
        assert refusal.status == "RESOURCE_EXHAUSTED"
        message.enrolment.announcement = b" " * 65_537
        assert device.refused(device.complete, message).status == "INVALID_ARGUMENT"
        large = device.offer_token("x" * 100_000)
        assert device.refused(device.begin, large).status == "RESOURCE_EXHAUSTED"


def test_malformed_messages_are_invalid(gateway: Gateway) -> None:
    """Sizes and forms are checked before anything else is done with a field."""
    changes: dict[str, Callable[[Any], object]] = {
        "version 0": lambda m: setattr(m, "v", 0),
        "version 2": lambda m: setattr(m, "v", 2),
        "no id": lambda m: m.ClearField("device_id"),
        "lower case": lambda m: setattr(m.device_id, "ulid", m.device_id.ulid.lower()),
        "a path": lambda m: setattr(m.device_id, "ulid", "../../../etc/passwd"),
        "a toaster": lambda m: setattr(m, "client_kind", "toaster"),
        "a short session": lambda m: setattr(m, "session_id", m.session_id[:-1]),
        "SQL": lambda m: setattr(m, "session_id", "' OR 1=1 --"),
        "a short key": lambda m: setattr(m, "device_signing_public", bytes(31)),
        "a long x25519": lambda m: setattr(m, "device_x25519_public", bytes(33)),
        "a short signature": lambda m: setattr(m, "challenge_signature", bytes(63)),
        "no mac": lambda m: setattr(m, "transcript_mac", b""),
        "no csr": lambda m: setattr(m.enrolment, "csr_der", b""),
    }
    with gateway.unmoved_but_codes():
        for what, change in changes.items():
            device, token = Device(gateway), gateway.token()
            opened = device.begin(device.offer_token(token))
            message = device.answer(opened, "pair-uri", proof=token)
            change(message)
            refusal = device.refused(device.complete, message)
            assert refusal.status == "INVALID_ARGUMENT", (what, refusal)


def test_a_begin_says_one_thing(gateway: Gateway, device: Device) -> None:
    """No method, a PIN beside a nameplate, two methods, a rejoin with a code: all invalid."""
    empty = messages.BeginPairingSessionRequest(v=1, client_kind="node")
    with_pin = device.offer_pin()
    with_pin.method.pin_code = "418207"
    with_token = device.offer_pin()
    with_token.method.qr_token = "x"
    bare = device.offer_pin()
    bare.ClearField("method")
    other_suite = device.offer_pin()
    other_suite.pake.suite = 2
    rejoin = device.offer_rejoin()
    rejoin.method.qr_token = "x"
    both = device.offer_rejoin()
    both.pake.suite, both.pake.nameplate = 1, 1
    nobody = device.offer_rejoin()
    nobody.rejoin.device_id.ulid = "nobody"
    with gateway.unmoved():
        for message in (empty, with_pin, with_token, bare, other_suite, rejoin, both, nobody):
            refusal = device.refused(device.begin, message)
            assert refusal.status == "INVALID_ARGUMENT", (message, refusal)
    assert gateway.tries(device.source) == 0


def test_a_source_has_eight_open_sessions(gateway: Gateway, device: Device) -> None:
    """The ninth is refused, other sources go on, and finishing one makes room."""
    token = gateway.token()
    with gateway.unmoved():
        opened = [device.begin(device.offer_token(token)) for _ in range(8)]
        for offer in (device.offer_token(token), device.offer_pin(), device.offer_rejoin()):
            refusal = device.refused(device.begin, offer)
            assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
        other = Device(gateway)
        assert other.begin(other.offer_token(token)).session_id
    assert device.complete(device.answer(opened[0], "pair-uri", proof=token)).request_id
    assert device.begin(device.offer_token(gateway.token())).session_id


def test_session_ids_are_not_guessed(gateway: Gateway, device: Device) -> None:
    """128 random bits each, and a wrong one looks like one that is over."""
    token = gateway.token()
    opened = [device.begin(device.offer_token(token)) for _ in range(4)]
    assert len({each.session_id for each in opened}) == 4
    assert all(len(bytes.fromhex(each.session_id)) == 16 for each in opened)
    assert len({each.challenge for each in opened}) == 4
    assert len({each.gateway_ephemeral_public for each in opened}) == 4
    over = ("FAILED_PRECONDITION", "pairing_session_unknown")
    message = device.answer(opened[0], "pair-uri", proof=token)
    message.session_id = "0" * 32
    with gateway.unmoved():
        assert device.refused(device.complete, message).kind == over
        for session_id in ("0" * 32, opened[1].session_id):  # unknown, and not completed
            assert device.refused(device.status, session_id).kind == over


def test_the_status_is_for_the_device_that_paired(gateway: Gateway, device: Device) -> None:
    """Another key, another id, another CA, a repeated counter and no proof at all."""
    opened, answer = device.pair_by_token(gateway.token())
    session_id = opened.session_id
    thief = Device(gateway, device_id=device.device_id)
    other = Device(gateway)
    repeated = device.status_message(session_id, counter=2**40)
    lower = device.status_message(session_id, counter=2**39)
    naked = device.status_message(session_id)
    naked.ClearField("proof")
    with device.enrolment() as stub:

        def ask(message: Any) -> Any:
            return stub.GetPairingRequestStatus(message, timeout=CALL_S)

        assert ask(repeated).status == "pending_approval"
        gateway.approve(answer.request_id)
        with gateway.unmoved():
            for message in (
                repeated,
                lower,
                naked,
                thief.status_message(session_id, counter=2**41),
                other.status_message(session_id, counter=2**41),
            ):
                refusal = device.refused(ask, message)
                assert refusal.code in ("verification_failed", "pairing_session_unknown"), refusal
    device._counter = 2**42
    assert device.accept(device.status(session_id)).register().accepted


@pytest.mark.parametrize("listener", ["enrolment", "node_rpc"])
def test_garbage_and_half_open_connections_hold_nobody_up(gateway: Gateway, listener: str) -> None:
    """Random bytes, TLS without HTTP/2, HTTP/2 without a call, and wires that say nothing."""
    address = split(getattr(gateway, listener))
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    insecure.set_alpn_protocols(["h2"])
    with gateway.unmoved(), contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(socket.create_connection(address))
        for garbage in (os.urandom(4096), b"\x16\x03\x01\xff\xff" + bytes(600), b"GET / HTTP/1.1"):
            wire = held.enter_context(socket.create_connection(address))
            wire.sendall(garbage + b"\r\n\r\n")
        for said in (b"", os.urandom(4096), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)):
            raw = socket.create_connection(address)
            with contextlib.suppress(OSError):
                wire = held.enter_context(insecure.wrap_socket(raw, server_hostname=HOST))
                wire.sendall(said)
            held.callback(raw.close)
        device = Device(gateway)
        unknown = device.refused(device.begin, device.offer_token("x" * 22))
        assert unknown.kind == FAILED
        assert gateway.process.alive
    assert Device(gateway).enrol().register().accepted


def test_idle_connections_do_not_use_up_what_operators_need() -> None:
    """With the 1024 files of a usual limit, 1100 connections of a stranger leave some for others.

    Otherwise nothing could be written any more, and nobody could be revoked.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with running(files=1024) as gateway:
        for address in (gateway.enrolment, gateway.node_rpc):
            pi = Device(gateway).enrol()
            with contextlib.ExitStack() as held:
                for _ in range(1100):
                    held.enter_context(socket.create_connection(split(address)))
                await_accepted(gateway)
                gateway.revoke(pi.device_id)
                assert gateway.node(pi.device_id).trust == "revoked"
            await_accepted(gateway)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def await_accepted(gateway: Gateway) -> None:
    """Wait until the gateway has as many files open as before, five times in a row."""
    seen = []

    def settled() -> bool:
        seen.append(len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir())))
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    eventually(settled, "the gateway has accepted what it accepts")


def test_a_used_token_opens_nothing(gateway: Gateway) -> None:
    """Unknown, malformed and used tokens are told apart by nobody."""
    token = gateway.token()
    Device(gateway).pair_by_token(token)
    pin_as_token, odd = "418207", "é" * 11
    seen = set()
    with gateway.unmoved():
        for tried in (token, token[:-1] + "A", "x", pin_as_token, odd):
            device = Device(gateway)
            refusal = device.refused(device.begin, device.offer_token(tried))
            seen.add((*refusal.kind, refusal.text))
            assert gateway.tries(device.source) == 1
    assert len(seen) == 1 and next(iter(seen))[:2] == FAILED
