"""The rooms of a gateway that jobs pass through, on fakes: a clock, a store and scripted nodes."""

from __future__ import annotations

import random
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from palyra.config.jobs import JobsSection
from palyra.core.devices import AnnouncedCapability, ClientKind, Device
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Job
from palyra.core.operators import Role
from palyra.core.policy import Effect, Rule, Rules
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import Order
from palyra.gateway.policing import Policing, local_role
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.pki.trust import ChainVerifier
from palyra.store.memory import MemoryStore
from palyra.testing.carrier import ScriptedNode
from palyra.testing.store import TroubledStore
from palyra.transport.interfaces import Peer
from tests.store.samples import (
    DAY_MS,
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_request,
    an_approval,
    approved,
)

T = TypeVar("T")
ECHO = AnnouncedCapability("echo")
SAFE = AnnouncedCapability("safe", idempotent=True)
SLOW = AnnouncedCapability("slow", timeout_ms=5_000)
ASK = AnnouncedCapability("ask", timeout_ms=5_000, needs_mediation=True)
ALL_ALLOWED = Rules((Rule(rule_id="all", number=1, effect=Effect.ALLOW),))
CAPABILITIES = (ECHO, SAFE, SLOW, ASK, AnnouncedCapability("broken", available=False))


def result_of(deferred: Deferred[T]) -> T:
    """What a Deferred has fired with; raises what it failed with."""
    kept: list[T] = []
    failed: list[BaseException] = []
    deferred.addCallbacks(kept.append, lambda failure: failed.append(failure.value))
    if failed:
        raise failed[0]
    assert kept, "it has not fired"
    return kept[0]


def fired(deferred: Deferred[Any]) -> bool:
    """Whether a Deferred has a result."""
    return bool(deferred.called)


class House:
    """A dispatcher with everything below it; time moves only by :meth:`pass_time`."""

    def __init__(
        self,
        *,
        limits: JobsSection | None = None,
        age_s: float = 3_600,
        rules: Rules = ALL_ALLOWED,
    ) -> None:
        self.rules = rules
        self.roles: dict[str, Role] = {}
        self.entropy = random.Random(7).randbytes
        self.limits = limits or JobsSection()
        self.clock = Clock()
        self.clock.rightNow = NOW_MS / 1000
        self.store = TroubledStore(MemoryStore(now_ms=self.now_ms, entropy=self.entropy))
        self.changes = 0
        self.nodes: dict[str, ScriptedNode] = {}
        self.begin()
        self.pass_time(age_s)

    def begin(self) -> None:
        """A gateway starts on the store."""
        self.inventory = Inventory(ChainVerifier([], "palyra.test"))
        self.board = PresenceBoard(
            self.clock,
            elapsed_ms=self.now_ms,
            now_ms=self.now_ms,
            silent=lambda device_id: self.sessions.silent(device_id),
        )
        self.descriptors = Descriptors(log=self.store, inventory=self.inventory)
        self.sessions = Sessions(
            clock=self.clock,
            elapsed_ms=self.now_ms,
            directory=self.store,
            inventory=self.inventory,
            descriptors=self.descriptors,
            board=self.board,
            gateway_id=self.store.gateway_id,
            store_epoch=self.store.store_epoch,
            ca_bundle_pem=self.ca_bundle_pem,
            max_in_flight=self.limits.in_flight_per_device,
        )
        self.policing = Policing(
            rules=self.rules, now_ms=self.now_ms, record=self.store.record, role_of=self.role_of
        )
        self.call_approvals = CallApprovals(
            clock=self.clock,
            entropy=self.entropy,
            store=self.store,
            inventory=self.inventory,
            policing=self.policing,
            trust_domain="palyra.test",
        )
        self.intake = Intake(
            clock=self.clock,
            entropy=self.entropy,
            inventory=self.inventory,
            board=self.board,
            limits=self.limits,
            policing=self.policing,
            known=self.descriptors.of,
        )
        self.dispatcher = Dispatcher(
            clock=self.clock,
            entropy=self.entropy,
            log=self.store,
            intake=self.intake,
            sessions=self.sessions,
            gateway_id=self.store.gateway_id,
            limits=self.limits,
            changed=self._changed,
            elapsed_ms=self.now_ms,
            approvals=self.call_approvals,
        )
        self.inventory.load(
            result_of(self.store.devices()),
            result_of(self.store.live_certificates()),
            result_of(self.store.revocations()),
        )
        result_of(Deferred.fromCoroutine(self.descriptors.load()))
        self.fanouts = Fanouts(
            clock=self.clock,
            entropy=self.entropy,
            store=self.store,
            intake=self.intake,
            dispatcher=self.dispatcher,
            limits=self.limits,
        )
        self.followers = Followers(self.limits.max_followers)
        self.dispatcher.watchers.append(self.followers)
        self.submission = Submission(
            store=self.store, dispatcher=self.dispatcher, fanouts=self.fanouts
        )
        unfinished = result_of(self.store.unfinished())
        self.dispatcher.start(unfinished)
        result_of(Deferred.fromCoroutine(self.fanouts.start(unfinished)))
        result_of(Deferred.fromCoroutine(self.call_approvals.start(unfinished)))
        self.board.start()

    def end(self) -> None:
        """The gateway's process is gone, with every connection."""
        self.fanouts.stop()
        self.call_approvals.stop()
        self.dispatcher.stop()
        self.board.stop()
        for node in self.nodes.values():
            node.hang_up()

    def restart(self) -> None:
        """The gateway is killed and starts again."""
        self.end()
        self.begin()
        for node in self.nodes.values():
            node.sessions = self.sessions

    def ca_bundle_pem(self) -> str:
        """What nodes are told to trust."""
        return "the CA"

    def _changed(self) -> None:
        self.changes += 1

    def role_of(self, operator_id: str) -> Role | None:
        """The role of an operator of the test, or of an account of this machine."""
        return self.roles.get(operator_id) or local_role(operator_id)

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def pass_time(self, seconds: float) -> None:
        """Advance the clock in steps that no deadline is too short for; living nodes beat."""
        left = seconds
        while left > 1e-9:
            step = min(left, 0.25 if seconds < 400 else seconds)
            self.clock.advance(step)
            left -= step
            for node in self.nodes.values():
                node.notice()
                if node.session is not None:
                    node.heartbeat()

    def device(
        self,
        name: str = "pi",
        capabilities: tuple[AnnouncedCapability, ...] = CAPABILITIES,
        kind: ClientKind = ClientKind.NODE,
        grants: frozenset[str] | None = None,
        **changes: Any,
    ) -> Device:
        """Pair a device, as an approval and a pick-up leave it."""
        code = a_code(f"code of {name}")
        request = a_request(name, code, capabilities=capabilities, client_kind=kind, **changes)
        result_of(self.store.add_code(code))
        result_of(self.store.open_request(request, an_approval(request)))
        granted = frozenset(each.name for each in capabilities) if grants is None else grants
        done = approved(request)
        done.grants = granted
        made = a_device(done)
        kept = attrs.evolve(made, grants=granted, client_kind=kind)
        result_of(self.store.approve_request(done, kept))
        certificate = a_certificate(done, not_after_ms=self.now_ms() + DAY_MS)
        result_of(self.store.add_certificate(done, certificate))
        device: Device | None = result_of(self.store.device(request.device_id))
        assert device is not None
        self.inventory.put(device)
        self.inventory.put_certificate(certificate)
        return device

    def peer(self, device_id: DeviceId) -> Peer:
        """The device, as it passed the trust gate."""
        certificate = self.inventory.newest_certificate(device_id)
        assert certificate is not None
        return Peer(
            device_id, certificate.fingerprint, certificate.not_after_ms, "192.0.2.7", "grpc"
        )

    def node(self, device: Device, **changes: Any) -> ScriptedNode:
        """A node host on a device, not connected."""
        peer = self.peer(device.device_id)
        capabilities = device.capabilities
        node = ScriptedNode(peer, self.sessions, capabilities, **changes)
        self.nodes[device.name] = node
        return node

    def online(self, name: str = "pi", **changes: Any) -> tuple[Device, ScriptedNode]:
        """A device that is connected."""
        device = self.device(name)
        node = self.node(device, **changes)
        result_of(node.connect())
        node.take()
        return device, node

    def order(self, device: Device, capability: str = "echo", **changes: Any) -> Order:
        given: dict[str, Any] = {"input_json": b"{}", "requested_by": "ana", **changes}
        return Order(device_id=device.device_id, capability=capability, **given)

    def submit(self, device: Device, capability: str = "echo", **changes: Any) -> Job:
        return result_of(self.dispatcher.submit(self.order(device, capability, **changes)))

    def kept(self, job: Job) -> Job:
        """The job as the store has it."""
        kept: Job | None = result_of(self.store.job(job.call.job_id))
        assert kept is not None
        return kept


def attempt_of(job: Job) -> AttemptId:
    """The id of the job's newest attempt."""
    assert job.attempt is not None
    return job.attempt.attempt_id
