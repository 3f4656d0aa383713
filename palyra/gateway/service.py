"""The gateway, composed: which rooms it has, in which order they start and stop."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from palyra._lock import RootLock
from palyra._openfiles import raise_open_files
from palyra.config.root import load_policy
from palyra.core.identifiers import Entropy, grouped
from palyra.errors import Draining, PalyraError, RestoreUnconfirmed
from palyra.gateway.composition import IDENTITY, Composition
from palyra.gateway.ground import Doors, Ground
from palyra.gateway.health import moment_text
from palyra.gateway.listeners import Listeners
from palyra.gateway.settings import Settings
from palyra.pki.keypair import unreadable
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.rotation import CA_SEALED
from palyra.store.opening import EPOCH_NAME
from palyra.store.postgres import PostgresStore, database_name
from palyra.store.snapshot import SNAPSHOT_NAME
from palyra.store.sql import SqlStore
from palyra.store.sqlite import SqliteStore
from palyra.transport.asyncbridge import (
    call_from_thread,
    call_soon,
    on_hangup,
    run_now_deferred,
)

DATABASE = "palyra.sqlite3"
SAVE_HEARD_S = 10.0
REFRESH_S = 300.0
ROTATION_S = 30.0
PUBLISH_S = 86_400.0
SWEEP_S = 600.0
SIGN_IN_S = 1.0
"""How soon the streams of a session or a certificate end that is over."""
FORGET_CERTIFICATES_MS = 7 * 86_400_000
"""How long a certificate that ended is kept, beside the last one of each device."""
FORGET_AT_ONCE = 500
RETRY_AFTER_MS = 2_000
DRAIN_REASON = "the gateway is stopping"


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
        self._rooms: Composition
        self._listeners: Listeners

    def startService(self) -> None:
        """Open what is on disk, load it, bind every listener, then say so."""
        self._lock.sign()
        self._max_files = raise_open_files()
        self._open()
        try:
            self._compose()
            run_now_deferred(self._rooms.load())
            self._listeners.bind(devices=self._store.unconfirmed_since_ms is None)
        except Exception:
            run_now_deferred(self._give_up())
            raise
        self._rooms.board.start()
        self._repeat(self._save_heard, SAVE_HEARD_S)
        self._repeat(self._refresh_certificate, REFRESH_S)
        self._repeat(self._rotate, ROTATION_S)
        self._repeat(self._rooms.lists.publish, PUBLISH_S)
        self._repeat(self._sweep, SWEEP_S)
        self._rooms.alarms.webhooks.start()
        self._repeat(self._rooms.alarms.alarms.look_at_certificates, SWEEP_S)
        self._repeat(self._anchor, self._settings.config.audit.anchor_s)
        self._repeat(self._rooms.operators.sign_in.tick, SIGN_IN_S)
        lag = self._rooms.meters.lag
        self._repeat(lag.look, lag.every_s)
        self._ignore_hangups = on_hangup(self._reload)
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
        # The snapshot is written once a gateway serves: a first start that was cut is none.
        recorded = bool(config.store.url) or (root / EPOCH_NAME).exists()
        used_before = recorded and (root / SNAPSHOT_NAME).exists()
        self._store = self._open_store()
        try:
            # A lost identity must not silently become a new one, which no device knows; also
            # where the store key is kept elsewhere and is still there.
            if used_before and not (root / IDENTITY / CA_SEALED).exists():
                raise unreadable(CA_SEALED, "it is missing although this state root was used")
            self._identity = GatewayIdentity.open(
                root / IDENTITY,
                trust_domain=config.gateway.trust_domain,
                names=config.gateway.names,
                gateway_id=self._store.gateway_id,
                now_ms=self._now_ms(),
                entropy=self._entropy,
                store_key_file=_path(config.gateway.store_key_file),
                sealed_elsewhere=used_before,
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
        listeners: Listeners | None = getattr(self, "_listeners", None)
        if listeners is not None:
            await listeners.give_up()
        rooms: Composition | None = getattr(self, "_rooms", None)
        if rooms is not None:
            rooms.stop_threads()
        await self._store.close()

    def _compose(self) -> None:
        settings = self._settings
        ground = Ground(
            reactor=self._reactor,
            elapsed_ms=self._elapsed_ms,
            entropy=self._entropy,
            state_root=settings.state_root,
            config=settings.config,
            store=self._store,
            identity=self._identity,
        )
        doors = Doors(
            serving=self,
            node_rpc_address=lambda: settings.reachable(self._listeners.node_rpc.address),
            pairing_address=lambda: settings.reachable(self._listeners.enrolment.address),
            quic_address=lambda: self._listeners.quic_address,
            listeners=lambda: self._listeners.addresses(),
            console=lambda: self._listeners.door.place if self._listeners.door else None,
        )
        self._rooms = Composition(ground, doors)
        self._listeners = Listeners(
            settings,
            self._rooms,
            self._identity,
            reactor=self._reactor,
            entropy=self._entropy,
            elapsed_ms=self._elapsed_ms,
            max_files=self._max_files,
            running=lambda: bool(self.running),
        )

    # -- whether devices are served (trustcontrol.Serving) ----------------------------------------

    @property
    def serving(self) -> bool:
        """Whether the listeners of devices are open."""
        return self._listeners.devices.serving

    async def serve(self) -> None:
        """Open them: an operator has confirmed the state."""
        await self._listeners.devices.serve()

    # -- while it runs ------------------------------------------------------------------------

    def _announce(self) -> None:
        root = self._settings.state_root
        names = self._settings.config.gateway.names
        as_names = f" as {', '.join(names)}" if names else ""
        self._log.info("state root {root}{new}", root=root, new=" (new)" if self._new else "")
        self._log.info(
            "CA {made} fingerprint {fingerprint}",
            made="created," if self._new else "loaded,",
            fingerprint=grouped(self._identity.issuing.ca_hash),
        )
        self._log.info("console    {where}", where=self._listeners.console)
        self._log.info(
            "enrolment  {address}{names}",
            address=self._listeners.enrolment.address,
            names=as_names,
        )
        self._log.info("nodes      {doors}", doors=self._listeners.nodes)
        since_ms = self._store.unconfirmed_since_ms
        if since_ms is None:
            self._log.info("ready; pair a device with: palyra pairing code")
        else:
            error = RestoreUnconfirmed(moment_text(since_ms))
            self._log.warn("no device is served: {why} {hint}", why=error.sentence, hint=error.hint)
        self._rooms.snapshot.touch()
        self._rooms.lists.publish()

    def _refresh_certificate(self) -> None:
        self._rooms.inventory.forget_expired(self._now_ms())
        if self._identity.refresh(self._now_ms()):
            self._log.info("the gateway's certificate was renewed")

    def _reload(self) -> None:
        """Read the rules again."""
        file = self._settings.config_file
        if file is not None:
            self._rooms.policing.reload(partial(load_policy, file, required=True))

    def _rotate(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._rooms.rotator.tick())

    def _anchor(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._rooms.audit.tick())

    def _sweep(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._forget())

    async def _forget(self) -> None:
        """Forget what nobody needs any more: ended jobs, old audit rows, certificates and PINs,
        descriptors, keys made here."""
        await self._rooms.retention.sweep()
        await self._rooms.audit.sweep()
        await self._rooms.pairing.requests.sweep()
        await self._rooms.pairing.codes.forget_ended()
        keep_ms = int(self._settings.config.jobs.keep_for_s * 1000)
        await self._rooms.call_approvals.sweep(self._now_ms() - keep_ms)
        before_ms = self._now_ms() - FORGET_CERTIFICATES_MS
        while await self._store.forget_certificates(before_ms, FORGET_AT_ONCE):
            pass
        await self._rooms.descriptors.sweep(self._now_ms())

    async def _keep_heard(self) -> None:
        heard = self._rooms.board.take_heard()
        if heard:
            try:
                await self._store.heard(heard)
            except PalyraError:
                self._rooms.board.put_back(heard)
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

    # -- stop -------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._log.info("stopping; running jobs have {s:g}s", s=self._grace_s)
        self._ignore_hangups()
        rooms = self._rooms
        rooms.dispatcher.drain()
        rooms.fanouts.stop()
        rooms.sessions.drain_all(DRAIN_REASON, RETRY_AFTER_MS)
        idle = rooms.dispatcher.when_idle()
        idle.addTimeout(self._grace_s, self._reactor, onTimeoutCancel=lambda *_: None)
        await idle
        for call in self._repeating:
            call.stop()
        rooms.stop()
        rooms.sessions.callers.close_all(Draining())
        steps = self._listeners.stops()
        steps += [
            rooms.alarms.webhooks.stop,
            rooms.lists.when_published,
            self._anchor,
            self._end_threads,
        ]
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

    async def _end_threads(self) -> None:
        self._rooms.stop_threads()
        if self._rooms.tracing is not None:
            await deferToThread(self._rooms.tracing.close)

    def _last_snapshot(self) -> Deferred[None]:
        self._rooms.snapshot.touch()
        return self._rooms.snapshot.stop()

    @property
    def _grace_s(self) -> float:
        return self._settings.config.gateway.shutdown_grace_s

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None
