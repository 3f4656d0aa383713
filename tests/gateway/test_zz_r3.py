from __future__ import annotations
import attrs, pytest, time
from typing import Any
from palyra.core.approval import ApprovalState as A
from palyra.core.callapprovals import *
from palyra.core.devices import *
from palyra.core.jobs import JobState as S
from palyra.core.operators import Role, Caller
from palyra.core.policy import Effect, Rules
from palyra.gateway.desk import *
from palyra.gateway.orders import client
from palyra.gateway.callapprovals import MAX_PENDING_EACH
from palyra.errors import *
from tests.gateway.asked import *
from tests.gateway.asked import rule
from tests.gateway.house import House, fired, result_of
from tests.gateway.test_fanouts import fleet, rows, submit, view, running
from tests.store.samples import ulid

@pytest.fixture
def house():
    h = asking(); yield h; h.end()

def test_standing_other_approvers(house):
    d, n = house.online()
    decide(house, approval_of(house, ask(house, d)), scope=TIMEBOXED, ttl_ms=3_600_000)
    started(n)
    # same id (by number), but now the boss must say yes
    house.policing.rules = Rules((rule(scopes=(ONCE, TIMEBOXED), approvers=("role:admin",), four_eyes=True),))
    assert ask(house, d).waiting_for == APPROVAL

def test_pending_other_approvers(house):
    d, n = house.online()
    job = ask(house, d)
    house.policing.rules = Rules((rule(approvers=("role:admin",), four_eyes=True),))
    house.dispatcher.recheck()
    decide(house, approval_of(house, job), by=attrs.evolve(BO))
    assert started(n) == [], "approver BO is none by the rules of now"

def test_client_revoked(house):
    d, n = house.online()
    agent = house.device("agent", kind=ClientKind.NODE, grants=frozenset({INVOKE_OTHERS}))
    job = house.submit(d, requested_by=client(agent.device_id))
    rev = result_of(house.store.revoke(agent.device_id, "bo", "", house.now_ms()))
    house.inventory.put(result_of(house.store.device(agent.device_id)))
    decide(house, approval_of(house, job))
    assert started(n) == []

def test_client_ungranted(house):
    d, n = house.online()
    agent = house.device("agent", kind=ClientKind.NODE, grants=frozenset({INVOKE_OTHERS}))
    job = house.submit(d, requested_by=client(agent.device_id))
    house.inventory.put(attrs.evolve(agent, grants=frozenset()))
    decide(house, approval_of(house, job))
    assert started(n) == []

def test_standing_leak(house):
    d, n = house.online()
    for i in range(20):
        decide(house, approval_of(house, ask(house, d, input_json=b'%d' % i)), scope=TIMEBOXED, ttl_ms=1000)
        n.take()
        for a in list(n.started):
            try: n.finish(a.attempt_id)
            except Exception: pass
    house.pass_time(10)
    decide(house, approval_of(house, ask(house, d, input_json=b'"last"')), scope=TIMEBOXED, ttl_ms=1000)
    assert len(house.call_approvals._standing) <= 1

def test_max_pending_concurrent(house):
    d, n = house.online()
    house.store.holding = True
    refused = 0
    for i in range(MAX_PENDING_EACH + 20):
        try: house.dispatcher.submit(house.order(d, caller=ANA))
        except LimitReached: refused += 1
    house.store.release()
    assert house.call_approvals.pending <= MAX_PENDING_EACH

def test_reload_while_accepting(house):
    d, n = house.online()
    house.store.holding = True
    done = house.dispatcher.submit(house.order(d, caller=ANA))
    house.dispatcher.recheck()
    house.store.holding = False
    house.store.release()
    job = result_of(done)
    assert (job.state, job.waiting_for) == (S.QUEUED, APPROVAL), job.error

def test_fanout_device_revoked_meanwhile(house):
    devices, nodes = fleet(house, 260)
    order_done = []
    from tests.gateway.test_fanouts import FanoutOrder
    d = house.fanouts.submit(FanoutOrder(devices=tuple(devices), capability="echo", input_json=b"{}", requested_by="ana", caller=ANA))
    d.addBoth(order_done.append)
    # first slice made; the first device is revoked before the second
    house.inventory.put(attrs.evolve(devices[0], state=DeviceState.REVOKED, revoked_at_ms=1))
    for _ in range(10): house.clock.advance(0)
    print(order_done)
    assert order_done and not hasattr(order_done[0], "value"), order_done

@pytest.mark.parametrize("count", [500, 1000, 2000, 4000])
def test_fanout_cost(count):
    house = asking()
    devices, nodes = fleet(house, count)
    made = submit(house, devices, requested_by="ana", caller=ANA)
    t=time.perf_counter()
    house.dispatcher.recheck()
    print(count, "recheck", time.perf_counter()-t, "s in one turn; per row us", 1e6*(time.perf_counter()-t)/count)
