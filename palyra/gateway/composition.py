"""The rooms of a gateway, composed: who needs whom.  Their life is :mod:`palyra.gateway.service`.

Rooms are made in the order in which they need each other; what comes later is reached through a
callable.
"""

from __future__ import annotations

from palyra.config.policy import rules_of
from palyra.gateway.alarmrooms import AlarmRooms
from palyra.gateway.auditrooms import AuditRooms
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.carotation import CaRotator
from palyra.gateway.consolerooms import ConsoleRooms
from palyra.gateway.control import Control
from palyra.gateway.crl import CRL_NAME, RevocationLists
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.desk import EnrolmentDesk, NodeDesk
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.ground import Doors, Ground
from palyra.gateway.health import HealthCheck
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.journal import Journal
from palyra.gateway.meters import Meters
from palyra.gateway.onethread import OneThread
from palyra.gateway.operatorrooms import OperatorRooms
from palyra.gateway.pairingrooms import PairingRooms
from palyra.gateway.policing import Policing
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.rejoin import Rejoins
from palyra.gateway.renewals import Renewals
from palyra.gateway.retention import Retention
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.tracing import JobTraces
from palyra.gateway.trust import Revoker
from palyra.observe.tracing import open_tracing
from palyra.pki.trust import ChainVerifier
from palyra.store.snapshot import SNAPSHOT_NAME
from palyra.store.snapshotwriter import SnapshotWriter

IDENTITY = "identity"
TRACED_AS = "palyra"
"""The gateway's name as a service, in spans."""


class Composition:
    """Every room of one gateway."""

    def __init__(self, ground: Ground, doors: Doors) -> None:
        self._ground = ground
        self._doors = doors
        self._compose_devices()
        self._compose_jobs()
        self._compose_trust()
        self._compose_pairing()
        self._compose_desks()
        self._compose_alarms()

    # -- which devices there are ------------------------------------------------------------------

    def _compose_devices(self) -> None:
        ground = self._ground
        config, store, identity = ground.config, ground.store, ground.identity
        self.snapshot = SnapshotWriter(store, ground.state_root / SNAPSHOT_NAME, ground.reactor)
        chain = ChainVerifier(identity.roots, config.gateway.trust_domain)
        self.inventory = Inventory(chain)
        self.board = PresenceBoard(
            ground.reactor,
            elapsed_ms=ground.elapsed_ms,
            now_ms=ground.now_ms,
            silent=lambda device_id: self.sessions.silent(device_id),
        )
        self.descriptors = Descriptors(log=store, inventory=self.inventory)
        self.sessions = Sessions(
            clock=ground.reactor,
            elapsed_ms=ground.elapsed_ms,
            directory=store,
            inventory=self.inventory,
            descriptors=self.descriptors,
            board=self.board,
            gateway_id=store.gateway_id,
            store_epoch=store.store_epoch,
            ca_bundle_pem=lambda: identity.ca_bundle_pem.decode(),
            max_in_flight=config.jobs.in_flight_per_device,
            registrations_per_s=config.gateway.registrations_per_s,
        )
        self.journal = Journal(log=store, now_ms=ground.now_ms)
        self.sessions.noted = self.journal.noted

    def _compose_jobs(self) -> None:
        ground = self._ground
        clock, store, limits = ground.reactor, ground.store, ground.config.jobs
        self.policing = Policing(
            rules=rules_of(ground.config.policy),
            now_ms=ground.now_ms,
            record=store.record,
            role_of=lambda operator_id: self.operators.role_of(operator_id),
        )
        self.call_approvals = CallApprovals(
            clock=clock,
            entropy=ground.entropy,
            store=store,
            inventory=self.inventory,
            policing=self.policing,
            trust_domain=ground.config.gateway.trust_domain,
            changed=self.snapshot.touch,
        )
        intake = Intake(
            clock=clock,
            entropy=ground.entropy,
            inventory=self.inventory,
            board=self.board,
            limits=limits,
            policing=self.policing,
            known=self.descriptors.of,
        )
        intake.is_program = lambda operator_id: self.operators.is_program(operator_id)
        self.dispatcher = Dispatcher(
            clock=clock,
            entropy=ground.entropy,
            log=store,
            intake=intake,
            sessions=self.sessions,
            gateway_id=store.gateway_id,
            limits=limits,
            changed=self.snapshot.touch,
            elapsed_ms=ground.elapsed_ms,
            approvals=self.call_approvals,
        )
        self.policing.watchers.append(self.dispatcher.recheck)
        self.tracing = open_tracing(ground.config.tracing, TRACED_AS, store.gateway_id)
        if self.tracing is not None:
            self.dispatcher.trace(JobTraces(self.tracing))
        self.fanouts = Fanouts(
            clock=clock,
            entropy=ground.entropy,
            store=store,
            intake=intake,
            dispatcher=self.dispatcher,
            limits=limits,
        )
        self.followers = Followers(limits.max_followers)
        self.dispatcher.watchers.append(self.followers)
        self.submission = Submission(store=store, dispatcher=self.dispatcher, fanouts=self.fanouts)
        self.retention = Retention(clock=clock, log=store, limits=limits)

    # -- whom to trust --------------------------------------------------------------------------

    def _compose_trust(self) -> None:
        ground = self._ground
        config, store, now_ms = ground.config, ground.store, ground.now_ms
        device_life_ms = config.gateway.device_certificate_s * 1000
        grace_ms = config.enrolment.rejoin_grace_s * 1000
        self.signing_thread = OneThread(ground.reactor, "palyra-crl")
        self.lists = RevocationLists(
            ground.state_root / IDENTITY / CRL_NAME,
            identity=ground.identity,
            inventory=self.inventory,
            now_ms=now_ms,
            in_thread=self.signing_thread,
            of_operators=lambda at_ms: self.operators.registry.revoked_entries(at_ms),
        )
        self.audit = AuditRooms(
            log=store,
            sealer=ground.identity.sealer,
            section=config.audit,
            state_root=ground.state_root,
            clock=ground.reactor,
            now_ms=now_ms,
            in_thread=self.signing_thread,
        )
        self.operators = OperatorRooms(
            store=store,
            identity=ground.identity,
            config=config,
            entropy=ground.entropy,
            now_ms=now_ms,
            elapsed_ms=ground.elapsed_ms,
            place=self._doors.console,
            refused=self.audit.refusals.refused,
            published=self.lists.publish,
        )
        self.operators.control.left.append(self.call_approvals.operator_left)
        self.revoker = Revoker(
            now_ms=now_ms,
            directory=store,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            snapshot=self.snapshot.force,
            published=self.lists.publish,
        )
        self.issuer = Issuer(trust=ground.identity, life_ms=device_life_ms, now_ms=now_ms)
        self.renewals = Renewals(
            now_ms=now_ms,
            directory=store,
            inventory=self.inventory,
            issuer=self.issuer,
            sessions=self.sessions,
            limits=config.enrolment,
            changed=self.snapshot.touch,
        )
        self.rotator = CaRotator(
            identity=ground.identity,
            inventory=self.inventory,
            renewals=self.renewals,
            trust_domain=config.gateway.trust_domain,
            device_life_ms=device_life_ms,
            grace_ms=grace_ms,
            now_ms=now_ms,
            elapsed_ms=ground.elapsed_ms,
            published=self.lists.publish,
            record=store.record,
        )
        self.rejoins = Rejoins(
            directory=store,
            inventory=self.inventory,
            issuer=self.issuer,
            grace_ms=grace_ms,
            old_sessions=self.sessions.replaced,
            changed=self.snapshot.touch,
        )

    def _compose_pairing(self) -> None:
        self.pairing = PairingRooms(
            self._ground,
            self._doors,
            inventory=self.inventory,
            issuer=self.issuer,
            rejoins=self.rejoins,
            identity_replaced=self.revoker.identity_replaced,
            changed=self.snapshot.touch,
        )
        self.sessions.certificate_used = self.pairing.requests.certificate_used
        self.sessions.quic_address = self._doors.quic_address

    # -- who is told ----------------------------------------------------------------------------

    def _compose_alarms(self) -> None:
        ground = self._ground
        self.alarms = AlarmRooms(
            ground.config.webhook,
            reactor=ground.reactor,
            store=ground.store,
            entropy=ground.entropy,
            now_ms=ground.now_ms,
            inventory=self.inventory,
            board=self.board,
        )
        self.alarms.listen(
            dispatcher=self.dispatcher,
            requests=self.pairing.requests,
            calls=self.call_approvals,
            anchoring=self.audit.anchoring,
        )

    # -- who may ask ----------------------------------------------------------------------------

    def _compose_desks(self) -> None:
        ground, doors = self._ground, self._doors
        self.meters = Meters(
            now_ms=ground.now_ms,
            elapsed_s=lambda: ground.elapsed_ms() / 1000,
            inventory=self.inventory,
            board=self.board,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
        )
        ground.store.measure(self.meters.commits.committed)
        self.enrolment_desk = EnrolmentDesk(self.pairing.enrolment, self.meters.turned_away)
        self.node_desk = NodeDesk(
            now_ms=ground.now_ms,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            submission=self.submission,
            followers=self.followers,
            revoker=self.revoker,
            renewals=self.renewals,
            journal=self.journal,
            refused=self.meters.turned_away,
        )
        self.health = HealthCheck(
            state_root=ground.state_root,
            now_ms=ground.now_ms,
            rotator=self.rotator,
            listeners=doors.listeners,
            snapshot_error=lambda: self.snapshot.last_error,
            unconfirmed_since_ms=lambda: ground.store.unconfirmed_since_ms,
            inventory=self.inventory,
            sessions=self.sessions,
            clones=self.node_desk.clones,
            started_at_ms=ground.now_ms(),
        )
        self.control = Control(
            store=ground.store,
            inventory=self.inventory,
            board=self.board,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            fanouts=self.fanouts,
            followers=self.followers,
            submission=self.submission,
            codes=self.pairing.codes,
            ledger=self.pairing.ledger,
            elapsed_ms=ground.elapsed_ms,
            approvals=self.pairing.approvals,
            revoker=self.revoker,
            renewals=self.renewals,
            rotator=self.rotator,
            lists=self.lists,
            serving=doors.serving,
            health=self.health,
            descriptors=self.descriptors,
            pairing_address=doors.pairing_address,
            changed=self.snapshot.touch,
        )
        self.console = ConsoleRooms(
            clock=ground.reactor,
            control=self.control,
            meters=self.meters,
            inventory=self.inventory,
            dispatcher=self.dispatcher,
            approvals=self.pairing.approvals,
            operators=self.operators,
            audit=self.audit.control,
            store=ground.store,
            calls=self.call_approvals,
            tracer=self.tracing,
        )

    # -- their start and stop -------------------------------------------------------------------

    async def load(self) -> None:
        """Take over what is on record."""
        store = self._ground.store
        self.inventory.load(
            await store.devices(), await store.live_certificates(), await store.revocations()
        )
        await self.descriptors.load()
        await self.operators.load()
        unfinished = await store.unfinished()
        self.dispatcher.start(unfinished)
        await self.fanouts.start(unfinished)
        await self.call_approvals.start(unfinished)
        await self.pairing.start()
        self.signing_thread.start()

    def stop(self) -> None:
        """Stop what watches and waits; nothing is asked of these rooms any more."""
        self.retention.stop()
        self.audit.anchoring.stop()
        self.call_approvals.stop()
        self.dispatcher.stop()
        self.pairing.stop()
        self.board.stop()

    def stop_threads(self) -> None:
        """End the threads beside the reactor, after what they are doing."""
        self.pairing.pin_thread.stop()
        self.signing_thread.stop()
