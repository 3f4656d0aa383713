"""What every store forgets of pairing, what it must not, and how keys made here are found."""

from __future__ import annotations

from typing import Any

import attrs

from palyra.core.approval import Approval
from palyra.core.identifiers import RequestId, sha256_hex
from palyra.core.interfaces import RequestQuery
from palyra.core.pairing import CodeMethod, CodeState, PairingCode, PairingRequest, RequestState
from tests.contract.ways import Ways
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_registration,
    a_request,
    an_approval,
    approved,
    ulid,
)

ENDED_MS = NOW_MS + 600_000
"""When requests and codes of the samples expire."""


class ForgettingContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def closed(
        self, name: str, state: RequestState = RequestState.EXPIRED, **changes: Any
    ) -> PairingRequest:
        """A request that came to nothing; its code has the same name."""
        request = attrs.evolve(self.opened(name, name), state=state, **changes)
        self.wait(self.store.close_request(request))
        return request

    def found(self, **query: Any) -> list[PairingRequest]:
        """The pairing requests that a query finds."""
        those: list[PairingRequest] = self.wait(self.store.requests(RequestQuery(**query)))
        return those

    def has_code(self, name: str) -> bool:
        """Whether the code of that name is kept."""
        found: PairingCode | None = self.wait(self.store.code_by_digest(sha256_hex(name.encode())))
        return found is not None

    def forgotten(self, before_ms: int, limit: int = 100) -> int:
        """How many requests and codes were forgotten."""
        count: int = self.wait(self.store.forget_requests(before_ms, limit))
        return count

    # -- requests ---------------------------------------------------------------------------------

    def test_an_expired_request_is_forgotten_by_its_end(self) -> None:
        """Not before its expiry is past; its code goes with it."""
        request = self.closed("a")
        assert self.forgotten(ENDED_MS) == 0
        assert self.found() == [request] and self.has_code("a")
        assert self.forgotten(ENDED_MS + 1) == 2
        assert self.found() == [] and not self.has_code("a")
        assert self.wait(self.store.request_by_session(request.session_digest)) is None
        assert self.forgotten(ENDED_MS + 1) == 0

    def test_a_rejected_request_is_forgotten_by_its_decision(self) -> None:
        """Whenever it would have expired; without a time of the decision, by that."""
        early = self.closed("a", RequestState.REJECTED, decided_at_ms=NOW_MS + 5)
        late = self.closed("b", RequestState.REJECTED, decided_at_ms=ENDED_MS + 9)
        unknown = self.closed("c", RequestState.REJECTED)
        assert self.forgotten(NOW_MS + 5) == 0
        assert self.forgotten(NOW_MS + 6) == 1
        assert early not in self.found() and self.has_code("a")
        assert self.forgotten(ENDED_MS + 1) == 3
        assert unknown not in self.found() and self.found() == [late]
        assert (self.has_code("a"), self.has_code("b")) == (False, True)

    def test_what_was_approved_or_still_waits_is_kept(self) -> None:
        """However old: pending, approved and completed requests, and the codes they came with."""
        waiting, granted = self.opened("a", "a"), self.opened("b", "b")
        self.approve(granted)
        paired, certificate = self.paired("c", "c")
        assert self.forgotten(ENDED_MS * 2) == 0
        assert {each.request_id for each in self.found()} == {
            each.request_id for each in (waiting, granted, paired)
        }
        assert all(self.has_code(name) for name in "abc")
        assert self.wait(self.store.add_certificate(paired, certificate)) == certificate
        again = a_certificate(granted)
        assert self.wait(self.store.add_certificate(approved(granted), again)) == again

    def test_an_approval_is_forgotten_with_its_request(self) -> None:
        """Its id is free again."""
        request = self.closed("a")
        assert self.forgotten(ENDED_MS + 1) == 2
        code = a_code("b")
        self.wait(self.store.add_code(code))
        other = a_request("b", code, approval_id=request.approval_id)
        approval: Approval = an_approval(other)
        self.wait(self.store.open_request(other, approval))
        assert self.found() == [other]

    def test_a_rejoin_that_came_to_nothing_is_forgotten(self) -> None:
        """It has no code that could go with it."""
        request = a_request("a", a_code(), code_id="", issued_by="", method=CodeMethod.REJOIN)
        self.wait(self.store.open_request(request, an_approval(request)))
        self.wait(self.store.close_request(attrs.evolve(request, state=RequestState.EXPIRED)))
        assert self.forgotten(ENDED_MS + 1) == 1

    def test_so_many_requests_are_forgotten_at_once(self) -> None:
        """The oldest first, and as many codes at most."""
        requests = []
        for number in range(3):
            opened = self.opened(
                f"d{number}", f"c{number}", request_id=RequestId(ulid("r", NOW_MS + number))
            )
            closed = attrs.evolve(opened, state=RequestState.EXPIRED)
            self.wait(self.store.close_request(closed))
            requests.append(closed)
        assert self.forgotten(ENDED_MS + 1, limit=2) == 4
        assert self.found() == [requests[2]]
        assert self.forgotten(ENDED_MS + 1, limit=2) == 2
        assert self.forgotten(ENDED_MS + 1, limit=2) == 0

    def test_many_requests_are_forgotten_at_once(self) -> None:
        """More than fit into one statement."""
        requests = [a_request(f"d{n}", a_code(), code_id="") for n in range(501)]
        for request in requests:
            self.wait(self.store.open_request(request, an_approval(request)))
            closed = attrs.evolve(request, state=RequestState.EXPIRED)
            self.wait(self.store.close_request(closed))
        assert self.forgotten(ENDED_MS + 1, limit=1000) == 501
        assert self.found() == []

    # -- codes ------------------------------------------------------------------------------------

    def test_a_code_that_nobody_used_is_forgotten(self) -> None:
        """Once its time is over, whatever became of it."""
        codes = [a_code("a"), a_code("b"), a_code("c"), a_code("d", expires_at_ms=ENDED_MS + 1)]
        for code in codes:
            self.wait(self.store.add_code(code))
        for code, state in ((codes[1], CodeState.BURNT), (codes[2], CodeState.EXPIRED)):
            self.wait(self.store.save_code(attrs.evolve(code, state=state)))
        assert self.forgotten(ENDED_MS) == 0
        assert self.forgotten(ENDED_MS + 1) == 3
        assert [self.has_code(name) for name in "abcd"] == [False, False, False, True]

    # -- keys that were made here -----------------------------------------------------------------

    def test_requests_with_a_made_key_are_found(self) -> None:
        """Until the key is erased; states, limit and cursor of the query count as well."""
        self.opened("a", "a")
        keyed = [self.opened(name, name, sealed_key=b"sealed") for name in ("b", "c")]
        newest = sorted(keyed, key=lambda each: each.request_id, reverse=True)
        assert self.found(with_key=True) == newest
        assert self.found(with_key=True, limit=1) == newest[:1]
        assert self.found(with_key=True, before=newest[0].request_id) == newest[1:]
        states = frozenset({RequestState.COMPLETED})
        assert self.found(with_key=True, states=states) == []
        self.wait(self.store.forget_key(newest[0].request_id))
        assert self.found(with_key=True) == newest[1:]
        assert len(self.found()) == 3

    def test_who_made_the_key_of_a_certificate_is_kept(self) -> None:
        """Through registration and renewal lists; false is what it is otherwise."""
        request = self.opened()
        self.approve(request)
        made = a_certificate(request, made_key=True)
        self.wait(self.store.add_certificate(approved(request), made))
        self.wait(self.store.register(a_registration(request.device_id, made.fingerprint)))
        _, other = self.paired("lab-8", "other")
        live = self.wait(self.store.live_certificates())
        assert {each.fingerprint: each.made_key for each in live} == {
            made.fingerprint: True,
            other.fingerprint: False,
        }
        assert self.wait(self.store.certificate(made.fingerprint)).made_key is True
