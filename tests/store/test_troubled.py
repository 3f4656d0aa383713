"""Promises of the store with trouble."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from palyra.core.devices import RotationOrder
from palyra.core.interfaces import IStore
from palyra.store.memory import MemoryStore
from palyra.testing.store import TroubledStore
from tests.store.samples import (
    NOW_MS,
    a_code,
    a_device,
    a_registration,
    a_renewal,
    a_request,
    an_approval,
    approved,
)


def test_it_provides_the_interface() -> None:
    """Every method of IStore is there, its own or the one below."""
    assert verifyObject(IStore, TroubledStore(MemoryStore(now_ms=lambda: NOW_MS)))


def test_what_devices_may_do_waits_in_its_order() -> None:
    """Renewal, registration over it, order, revocation and removal, each when it is released."""
    store = TroubledStore(MemoryStore(now_ms=lambda: NOW_MS))
    code = a_code()
    request = a_request("lab-7", code)
    store.add_code(code)
    store.open_request(request, an_approval(request))
    store.approve_request(approved(request), a_device(request))
    store.holding = True
    renewal = a_renewal(request, "n", None)
    device_id = request.device_id
    held: list[Deferred[Any]] = [
        store.renew(renewal),
        store.register(a_registration(device_id, renewal.certificate.fingerprint)),
        store.order_rotation(RotationOrder(frozenset({device_id}), "ana", NOW_MS)),
        store.revoke(device_id, "ana", "lost", NOW_MS),
        store.remove(device_id, "ana", "", NOW_MS),
    ]
    for number, each in enumerate(held):
        assert store.waiting == len(held) - number
        assert not each.called
        store.release(1)
        assert each.called
