"""The gateway, composed: which rooms it has, in which order they start and stop."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from palyra._lock import RootLock
from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.console.socket import ConsoleSocket
from palyra.core.identifiers import Entropy, grouped
from palyra.errors import Draining, NamesRequired, PalyraError
from palyra.gateway.approvals import Approvals
from palyra.gateway.control import Control
from palyra.gateway.desk import EnrolmentDesk, NodeDesk
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.health import HealthCheck
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.retention import Retention
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.trust import Revoker
from palyra.pki.certificates import unix_ms
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.trust import ChainVerifier
from palyra.store.postgres import PostgresStore, database_name
from palyra.store.snapshot import SNAPSHOT_NAME
from palyra.store.snapshotwriter import SnapshotWriter
from palyra.store.sql import SqlStore
from palyra.store.sqlite import SqliteStore
from palyra.transport.asyncbridge import call_from_thread, call_soon, run_now_deferred
from palyra.transport.grpclistener import (
    ENROLMENT_OPTIONS,
    MAX_NODE_MESSAGE,
    MAX_PAIRING_MESSAGE,
    NODE_OPTIONS,
    GrpcListener,
)
from palyra.transport.grpcserver import EnrolmentServicer, NodeServicer

DATABASE = "palyra.sqlite3"
SOCKET = "console.sock"
IDENTITY = "identity"
SAVE_HEARD_S = 10.0
REFRESH_S = 3_600.0
SWEEP_S = 600.0
RETRY_AFTER_MS = 2_000
STREAMS_END_S = 0.2
DRAIN_REASON = "the gateway is stopping"


@attrs.frozen
class Settings:
    """Where a gateway lives and listens."""

    state_root: Path
    config: Config
    enrolment: HostPort
    node_rpc: HostPort

    def check(self) -> None:
        """Refuse what could never work.

        :raises NamesRequired: devices could reach it, but under no name.
        """
        for address in (self.enrolment, self.node_rpc):
            if not address.is_loopback and not self.config.gateway.names:
                raise NamesRequired(str(address))


class GatewayService(Service):
    """One gateway.  ``startService`` raises where it cannot serve; ``stopService`` drains."""

    name = "palyra"
    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        lock: RootLock,
        reactor: Any,
        entropy: Entropy = os.urandom,
        elapsed_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._reactor = reactor
        self._entropy = entropy
        self._elapsed_ms = elapsed_ms
        self._repeating: list[LoopingCall] = []
        self._bound: list[GrpcListener] = []

    def startService(self) -> None:
        """Open what is on disk, load it, bind every listener, then say so."""
        self._lock.sign()
        self._open()
        try:
            self._compose()
            run_now_deferred(self._load())
            self._listen()
        except Exception:
            run_now_deferred(self._give_up())
            raise
        self._board.start()
        self._repeat(self._save_heard, SAVE_HEARD_S)
        self._repeat(self._refresh_certificate, REFRESH_S)
        self._repeat(self._sweep, SWEEP_S)
        super().startService()
        self._announce()

    def stopService(self) -> Deferred[None]:
        """Drain: no new jobs, running ones get ``shutdown_grace_s``; then close everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    # -- start ------------------------------------------------------------------------------

    def _open(self) -> None:
        root, config = self._settings.state_root, self._settings.config
        self._new = not (root / IDENTITY).exists()
        self._store = self._open_store()
        try:
            self._identity = GatewayIdentity.open(
                root / IDENTITY,
                trust_domain=config.gateway.trust_domain,
                names=config.gateway.names,
                gateway_id=self._store.gateway_id,
                now_ms=self._now_ms(),
                entropy=self._entropy,
            )
        except Exception:
            run_now_deferred(self._give_up())
            raise

    def _open_store(self) -> SqlStore:
        root, url = self._settings.state_root, self._settings.config.store.url
        if not url:
            return SqliteStore.open(
                root / DATABASE,
                call_from_thread=call_from_thread,
                call_soon=call_soon,
                now_ms=self._now_ms,
                entropy=self._entropy,
            )
        store = PostgresStore.open(
            url,
            call_from_thread=call_from_thread,
            call_soon=call_soon,
            now_ms=self._now_ms,
            entropy=self._entropy,
            may_make=not (root / SNAPSHOT_NAME).exists(),
        )
        self._log.info("record     {name}", name=database_name(url))
        return store

    async def _give_up(self) -> None:
        """The start failed: leave the store as a clean stop would."""
        for listener in self._bound:
            await listener.stop(0)
        await self._store.close()

    def _compose(self) -> None:
        config, store, authority = self._settings.config, self._store, self._identity.authority
        self._snapshot = SnapshotWriter(
            store, self._settings.state_root / SNAPSHOT_NAME, self._reactor
        )
        chain = ChainVerifier([authority.ca_certificate], config.gateway.trust_domain)
        self._inventory = Inventory(chain)
        self._board = PresenceBoard(
            self._reactor,
            elapsed_ms=self._elapsed_ms,
            now_ms=self._now_ms,
            silent=lambda device_id: self._sessions.silent(device_id),
        )
        self._sessions = Sessions(
            clock=self._reactor,
            directory=store,
            inventory=self._inventory,
            board=self._board,
            gateway_id=store.gateway_id,
            store_epoch=store.store_epoch,
            ca_bundle_pem=authority.ca_pem.decode(),
            max_in_flight=config.jobs.in_flight_per_device,
        )
        self._compose_jobs()
        self._revoker = Revoker(
            now_ms=self._now_ms,
            directory=store,
            inventory=self._inventory,
            sessions=self._sessions,
            dispatcher=self._dispatcher,
            snapshot=self._snapshot.force,
        )
        self._approvals = Approvals(
            clock=self._reactor,
            store=store,
            inventory=self._inventory,
            identity_replaced=self._revoker.identity_replaced,
            changed=self._snapshot.touch,
        )
        self._enrolment = Enrolment(
            clock=self._reactor,
            entropy=self._entropy,
            store=store,
            inventory=self._inventory,
            authority=authority,
            limits=config.enrolment,
            node_rpc_address=lambda: str(self._reachable(self._node_listener.address)),
            elapsed_ms=self._elapsed_ms,
            approvals=self._approvals,
            changed=self._snapshot.touch,
        )
        self._listeners()
        self._console = ConsoleSocket(
            self._reactor, self._settings.state_root / SOCKET, self._control()
        )

    def _compose_jobs(self) -> None:
        clock, store, limits = self._reactor, self._store, self._settings.config.jobs
        intake = Intake(
            clock=clock,
            entropy=self._entropy,
            inventory=self._inventory,
            board=self._board,
            limits=limits,
        )
        self._dispatcher = Dispatcher(
            clock=clock,
            entropy=self._entropy,
            log=store,
            intake=intake,
            sessions=self._sessions,
            gateway_id=store.gateway_id,
            limits=limits,
            changed=self._snapshot.touch,
            elapsed_ms=self._elapsed_ms,
        )
        self._fanouts = Fanouts(
            clock=clock,
            entropy=self._entropy,
            store=store,
            intake=intake,
            dispatcher=self._dispatcher,
            limits=limits,
        )
        self._followers = Followers(limits.max_followers)
        self._dispatcher.watchers.append(self._followers)
        self._submission = Submission(
            store=store, dispatcher=self._dispatcher, fanouts=self._fanouts
        )
        self._retention = Retention(clock=clock, log=store, limits=limits)

    def _listeners(self) -> None:
        desk = NodeDesk(
            now_ms=self._now_ms,
            inventory=self._inventory,
            sessions=self._sessions,
            dispatcher=self._dispatcher,
            submission=self._submission,
            followers=self._followers,
            revoker=self._revoker,
        )
        self._enrolment_listener = GrpcListener(
            name="enrolment",
            address=self._settings.enrolment,
            servicer=EnrolmentServicer(EnrolmentDesk(self._enrolment)),
            certificate=self._certificate,
            client_ca_pem=None,
            max_message=MAX_PAIRING_MESSAGE,
            options=ENROLMENT_OPTIONS,
        )
        self._node_listener = GrpcListener(
            name="node_rpc",
            address=self._settings.node_rpc,
            servicer=NodeServicer(desk, self._entropy, self._now_ms),
            certificate=self._certificate,
            client_ca_pem=self._identity.authority.ca_pem,
            max_message=MAX_NODE_MESSAGE,
            options=NODE_OPTIONS,
        )

    def _control(self) -> Control:
        self._health = HealthCheck(
            state_root=self._settings.state_root,
            now_ms=self._now_ms,
            ca_fingerprint=self._identity.authority.ca_hash,
            ca_not_after_ms=unix_ms(self._identity.authority.ca_certificate.not_valid_after_utc),
            gateway_not_after_ms=lambda: self._identity.gateway_certificate.not_after_ms,
            listeners=self._addresses,
            snapshot_error=lambda: self._snapshot.last_error,
            imported=self._store.imported,
            inventory=self._inventory,
            sessions=self._sessions,
            started_at_ms=self._now_ms(),
        )
        return Control(
            store=self._store,
            inventory=self._inventory,
            board=self._board,
            dispatcher=self._dispatcher,
            fanouts=self._fanouts,
            followers=self._followers,
            submission=self._submission,
            enrolment=self._enrolment,
            approvals=self._approvals,
            revoker=self._revoker,
            health=self._health,
            ca_hash=self._identity.authority.ca_hash,
            pairing_address=lambda: self._reachable(self._enrolment_listener.address),
            changed=self._snapshot.touch,
        )

    async def _load(self) -> None:
        self._inventory.load(
            await self._store.devices(),
            await self._store.live_certificates(),
            await self._store.revocations(),
        )
        unfinished = await self._store.unfinished()
        self._dispatcher.start(unfinished)
        await self._fanouts.start(unfinished)
        await self._approvals.start()
        self._enrolment.start()

    def _listen(self) -> None:
        for listener in (self._enrolment_listener, self._node_listener):
            listener.bind()
            self._bound.append(listener)
        self._console.bind()

    def _announce(self) -> None:
        root = self._settings.state_root
        names = self._settings.config.gateway.names
        as_names = f" as {', '.join(names)}" if names else ""
        self._log.info("state root {root}{new}", root=root, new=" (new)" if self._new else "")
        self._log.info(
            "CA {made} fingerprint {fingerprint}",
            made="created," if self._new else "loaded,",
            fingerprint=grouped(self._identity.authority.ca_hash),
        )
        self._log.info("console    {path}", path=self._console.path)
        self._log.info(
            "enrolment  {address}{names}",
            address=self._enrolment_listener.address,
            names=as_names,
        )
        self._log.info("nodes      {address} tcp (grpc)", address=self._node_listener.address)
        if self._store.imported:
            self._log.warn("the store was made from node-runtime.v1.json; see palyra doctor")
        self._log.info("ready; pair a device with: palyra pairing code")
        self._snapshot.touch()

    # -- while it runs ------------------------------------------------------------------------

    def _certificate(self) -> tuple[bytes, bytes]:
        return self._identity.gateway_key_pem, self._identity.gateway_chain_pem

    def _refresh_certificate(self) -> None:
        self._inventory.revoked.forget_expired(self._now_ms())
        if self._identity.refresh(self._now_ms()):
            self._log.info("the gateway's certificate was renewed")

    def _sweep(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._retention.sweep())

    async def _keep_heard(self) -> None:
        heard = self._board.take_heard()
        if heard:
            try:
                await self._store.heard(heard)
            except PalyraError:
                self._board.put_back(heard)
                raise

    def _save_heard(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._keep_heard())

    def _repeat(self, act: Callable[[], Any], every_s: float) -> None:
        """Do something again and again; one failure (a full disk) does not end it."""

        def once() -> Deferred[Any]:
            done = maybeDeferred(act)
            done.addErrback(lambda failure: self._log.failure("a periodic task failed", failure))
            return done

        call = LoopingCall(once)
        call.clock = self._reactor
        call.start(every_s, now=False)
        self._repeating.append(call)

    def _reachable(self, address: HostPort) -> HostPort:
        """An address as devices reach it: under the first configured name."""
        names = self._settings.config.gateway.names
        if names:
            return HostPort(names[0], address.port)
        host = "127.0.0.1" if address.host == "localhost" else address.host
        return HostPort(host, address.port)

    def _addresses(self) -> dict[str, str]:
        return {
            "console": str(self._console.path),
            "enrolment": str(self._enrolment_listener.address),
            "nodes": str(self._node_listener.address),
        }

    # -- stop -------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._log.info("stopping; running jobs have {s:g}s", s=self._grace_s)
        self._dispatcher.drain()
        self._fanouts.stop()
        self._sessions.drain_all(DRAIN_REASON, RETRY_AFTER_MS)
        idle = self._dispatcher.when_idle()
        idle.addTimeout(self._grace_s, self._reactor, onTimeoutCancel=lambda *_: None)
        await idle
        for call in self._repeating:
            call.stop()
        self._retention.stop()
        self._dispatcher.stop()
        self._sessions.callers.close_all(Draining())
        self._enrolment.stop()
        self._approvals.stop()
        self._board.stop()
        steps: list[Callable[[], Awaitable[Any]]] = [self._console.stop]
        steps += [partial(listener.stop, STREAMS_END_S) for listener in self._bound]
        steps += [self._save_heard, self._last_snapshot, self._store.close]
        for step in steps:
            await self._closed(step)
        self._lock.release()
        self._log.info("stopped")

    async def _closed(self, close: Callable[[], Awaitable[Any]]) -> None:
        """One step of the stop; a step that fails (a full disk) does not keep the others."""
        try:
            await close()
        except Exception:
            self._log.failure("a step of the stop failed")

    def _last_snapshot(self) -> Deferred[None]:
        self._snapshot.touch()
        return self._snapshot.stop()

    @property
    def _grace_s(self) -> float:
        return self._settings.config.gateway.shutdown_grace_s

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)
