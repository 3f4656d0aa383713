"""Pairing: codes take five tries whatever the interleaving, and requests are decided once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from palyra.core.devices import ClientKind, Risk
from palyra.core.identifiers import DeviceId, Fingerprint, RequestId
from palyra.core.pairing import (
    MAX_FAILED_ATTEMPTS,
    CodeInputs,
    CodeMethod,
    CodeState,
    PairingCode,
    PairingRequest,
    RequestInputs,
    RequestState,
    attempt_failed,
    code_machine,
    release_attempt,
    request_machine,
    reserve_attempt,
)

from .machines import check_pair, every_pair, input_names

C, R = CodeState, RequestState
CODE_ARGUMENTS: dict[str, tuple[object, ...]] = {
    "attempt_failed": (),
    "burnt": (),
    "used": (),
    "time_passed": (),
    "withdrawn": (),
}
CODE_LEGAL = {
    (C.ACTIVE, "attempt_failed"): C.ACTIVE,
    (C.USED, "attempt_failed"): C.USED,
    (C.BURNT, "attempt_failed"): C.BURNT,
    (C.EXPIRED, "attempt_failed"): C.EXPIRED,
    (C.WITHDRAWN, "attempt_failed"): C.WITHDRAWN,
    (C.ACTIVE, "burnt"): C.BURNT,
    (C.ACTIVE, "used"): C.USED,
    (C.ACTIVE, "time_passed"): C.EXPIRED,
    (C.ACTIVE, "withdrawn"): C.WITHDRAWN,
}
REQUEST_ARGUMENTS: dict[str, tuple[object, ...]] = {
    "approved": ("anna", "known", frozenset({"echo"}), Risk.MEDIUM, 5),
    "rejected": ("anna", "unknown", 5),
    "time_passed": (),
    "picked_up": (),
}
REQUEST_LEGAL = {
    (R.PENDING, "approved"): R.APPROVED,
    (R.PENDING, "rejected"): R.REJECTED,
    (R.PENDING, "time_passed"): R.EXPIRED,
    (R.APPROVED, "picked_up"): R.COMPLETED,
    (R.COMPLETED, "picked_up"): R.COMPLETED,
}
EXPIRES_MS = 1_000


def a_code(state: CodeState = C.ACTIVE) -> PairingCode:
    return PairingCode("c", CodeMethod.PIN, "", "anna", 0, EXPIRES_MS, nameplate=1, state=state)


def a_request(state: RequestState = R.PENDING) -> PairingRequest:
    return PairingRequest(
        request_id=RequestId("r"),
        session_digest="s",
        device_id=DeviceId("d"),
        client_kind=ClientKind.NODE,
        name="a",
        platform="",
        version="",
        source="127.0.0.1",
        identity_public=b"",
        csr_der=b"",
        capabilities=(),
        transcript_hash="t",
        digest="d",
        code_id="c",
        method=CodeMethod.PIN,
        issued_by="anna",
        issued_at_ms=0,
        labels={},
        approval_id="a",
        created_at_ms=0,
        expires_at_ms=600_000,
        identity_fingerprint=Fingerprint("f"),
        state=state,
    )


def test_the_tables_are_complete() -> None:
    """Every input of codes and requests is in its table."""
    assert set(CODE_ARGUMENTS) == input_names(CodeInputs)
    assert set(REQUEST_ARGUMENTS) == input_names(RequestInputs)


@pytest.mark.parametrize(("state", "name"), every_pair(CodeState, CodeInputs))
def test_every_pair_of_a_code(state: CodeState, name: str) -> None:
    """Each input takes a code where the table says, or is illegal in that state."""
    check_pair(a_code(state), code_machine, name, CODE_ARGUMENTS[name], CODE_LEGAL)


@pytest.mark.parametrize(("state", "name"), every_pair(RequestState, RequestInputs))
def test_every_pair_of_a_request(state: RequestState, name: str) -> None:
    """Each input takes a request where the table says, or is illegal in that state."""
    check_pair(a_request(state), request_machine, name, REQUEST_ARGUMENTS[name], REQUEST_LEGAL)


def test_an_approval_keeps_what_was_granted() -> None:
    """Who approved which capabilities is kept with the request, and so is who refused."""
    approved, rejected = a_request(), a_request()
    request_machine(approved).approved("anna", "", frozenset({"echo"}), Risk.HIGH, 5)
    request_machine(rejected).rejected("ben", "never seen", 6)
    assert (approved.decided_by, approved.grants) == ("anna", frozenset({"echo"}))
    assert (approved.grant_risk, rejected.grant_risk) == (Risk.HIGH, Risk.LOW)
    assert (rejected.decided_by, rejected.reason) == ("ben", "never seen")


def test_secrets_are_not_shown() -> None:
    """Neither a sealed PIN nor a sealed key is in what a log would print."""
    code, request = a_code(), a_request()
    code.sealed_pin, request.sealed_key = b"SECRET", b"SECRET"
    assert "SECRET" not in repr(code) + repr(request)


def test_the_fifth_failure_burns() -> None:
    """Five failed tries burn a code, and a burnt one takes no more."""
    code = a_code()
    for _ in range(MAX_FAILED_ATTEMPTS):
        assert code.state is C.ACTIVE
        assert reserve_attempt(code, 0)
        attempt_failed(code)
    assert code.state is C.BURNT
    assert not reserve_attempt(code, 0)


def test_an_expired_code_takes_no_try() -> None:
    """A code is over at the very millisecond it expires."""
    assert reserve_attempt(a_code(), EXPIRES_MS - 1)
    assert not reserve_attempt(a_code(), EXPIRES_MS)


def test_a_failure_beside_a_success_is_counted_quietly() -> None:
    """A try that fails after another one, verified at the same time, used the code is no error."""
    code = a_code()
    assert reserve_attempt(code, 0)
    assert reserve_attempt(code, 0)
    release_attempt(code)
    code_machine(code).used()
    attempt_failed(code)
    assert (code.state, code.failed, code.reserved) == (C.USED, 1, 0)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["reserve", "fail", "release"]), max_size=60))
def test_no_interleaving_gives_a_sixth_guess(steps: list[str]) -> None:
    """However tries overlap, those verified and those in verification never exceed five."""
    code, pending, guesses = a_code(), 0, 0
    for step in steps:
        if step == "reserve":
            pending += reserve_attempt(code, 0)
        elif pending:
            pending -= 1
            guesses += step == "fail"
            (attempt_failed if step == "fail" else release_attempt)(code)
        assert guesses + pending <= MAX_FAILED_ATTEMPTS
        assert code.reserved == pending
        assert (code.state is C.BURNT) == (guesses == MAX_FAILED_ATTEMPTS)


class CodesAndSessions(RuleBasedStateMachine):
    """A gateway with several codes, on which devices open sessions and complete them."""

    codes = Bundle("codes")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.known: list[PairingCode] = []
        self.requests: Counter[int] = Counter()
        self.guesses: Counter[int] = Counter()
        self.pending: Counter[int] = Counter()
        self.ended: dict[int, CodeState] = {}

    @rule(target=codes, ttl_ms=st.integers(1, 50))
    def mint(self, ttl_ms: int) -> PairingCode:
        code = a_code()
        code.expires_at_ms = self.now_ms + ttl_ms
        self.known.append(code)
        return code

    @rule(target=attempts, code=codes)
    def complete_arrives(self, code: PairingCode) -> list[PairingCode]:
        if not reserve_attempt(code, self.now_ms):
            return []
        self.pending[id(code)] += 1
        return [code]

    @rule(attempt=attempts)
    def proof_fails(self, attempt: list[PairingCode]) -> None:
        while attempt:
            code = attempt.pop()
            self.pending[id(code)] -= 1
            self.guesses[id(code)] += 1
            attempt_failed(code)

    @rule(attempt=attempts)
    def proof_holds(self, attempt: list[PairingCode]) -> None:
        while attempt:
            code = attempt.pop()
            self.pending[id(code)] -= 1
            release_attempt(code)
            if code.state is C.ACTIVE:
                code_machine(code).used()
                self.requests[id(code)] += 1

    @rule(step_ms=st.integers(1, 20))
    def time_passes(self, step_ms: int) -> None:
        self.now_ms += step_ms
        for code in self.known:
            if code.state is C.ACTIVE and self.now_ms >= code.expires_at_ms:
                code_machine(code).time_passed()

    @invariant()
    def every_code_keeps_its_promises(self) -> None:
        for code in self.known:
            key = id(code)
            assert self.requests[key] <= 1
            assert self.guesses[key] + self.pending[key] <= MAX_FAILED_ATTEMPTS
            assert (code.state is C.USED) == (self.requests[key] == 1)
            assert code.state is self.ended.setdefault(key, code.state) or (
                self.ended[key] is C.ACTIVE
            )
            self.ended[key] = code.state


CodesAndSessions.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestCodesAndSessions = CodesAndSessions.TestCase
