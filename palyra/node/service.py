"""The node host, composed: which rooms it has, in which order they start and stop."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra._lock import RootLock
from palyra._notify import Notifier
from palyra.capability.catalogue import Catalogue
from palyra.capability.context import DeviceFacts
from palyra.config.node import NodeSection
from palyra.config.tracing import TracingSection
from palyra.core.frames import Hello
from palyra.core.identifiers import Entropy
from palyra.core.transports import Preference
from palyra.errors import NotPaired, PalyraError
from palyra.node.announcing import announcement, greeting
from palyra.node.attempts import AttemptMemory
from palyra.node.connection import Connection
from palyra.node.controlwords import ReloadedAnswer, StatusAnswer
from palyra.node.elapsed import awake_s, elapsed_s
from palyra.node.files import HostFile, NodeFiles
from palyra.node.hangup import Hangup
from palyra.node.identity import DeviceIdentity
from palyra.node.lasterror import LastErrors
from palyra.node.mediation import IDialogs, IMediator
from palyra.node.offerrooms import OfferRooms
from palyra.node.ownerrooms import OwnerRooms
from palyra.node.proxies import proxies_of
from palyra.node.rejoin import Rejoin
from palyra.node.renewal import Renewal
from palyra.node.running import Runs
from palyra.node.serving import Serving
from palyra.node.standing import Standing
from palyra.node.supervised import Supervised
from palyra.node.surroundings import Surroundings
from palyra.node.watcher import Watcher
from palyra.node.ways import Ways
from palyra.node.whereabouts import enrolments_of
from palyra.observe.tracing import open_tracing
from palyra.transport.asyncbridge import call_from_thread
from palyra.workers.killing import containment

NO_TRACING = TracingSection()
_PREFERENCES = frozenset(each.value for each in Preference)


@attrs.define
class NodeHost:
    """What a running node host is made of."""

    files: NodeFiles
    host: HostFile
    identity: DeviceIdentity
    catalogue: Catalogue


class NodeService(Service):
    """One node host that is paired."""

    name = "palyra-node"
    _log = Logger()

    def __init__(
        self,
        node: NodeHost,
        *,
        lock: RootLock,
        config: NodeSection,
        reactor: Any,
        tracing: TracingSection = NO_TRACING,
        terminal: IMediator | None = None,
        dialogs: IDialogs | None = None,
        stop: Callable[[], object] | None = None,
        watcher: Watcher | None = None,
        config_file: Path | None = None,
        signals: bool = False,
        notifier: Notifier | None = None,
        entropy: Entropy = os.urandom,
    ) -> None:
        """``config_file`` is where ``[node]`` is read again to find out what is offered; without it
        that is what ``node`` has.  With ``signals`` SIGHUP reloads.  ``terminal`` and ``dialogs``
        are where a person can be asked; ``stop`` ends the process, by itself the reactor's.
        ``notifier`` tells whatever started it."""
        self._node = node
        self._lock = lock
        self._config = config
        self._traced = tracing
        self._reactor = reactor
        self._terminal = terminal
        self._dialogs = dialogs
        self._stop_process = stop or reactor.stop
        self._watcher = watcher or Watcher()
        self._supervised = Supervised(
            notifier or Notifier(), clock=reactor, grace_s=config.shutdown_grace_s
        )
        self._watcher.tell(self._supervised)
        self._config_file = config_file
        self._hangup = Hangup(reactor, self._hung_up, self._stop_process) if signals else None
        self._entropy = entropy
        self._found: Deferred[None] = succeed(None)
        self._connected: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Open what is remembered, start the runner, and connect.

        :raises PalyraError: it cannot run.
        """
        self._lock.sign()
        node, config = self._node, self._config
        self._serving = Serving(node.files, clock=self._reactor, now_ms=self._now_ms)
        self._serving.check()
        # What may be refused comes before the first thread: one that is left keeps a process alive.
        self._ways = self._make_ways()
        routes = self._ways.gateways()
        rejoin = self._rejoin()
        self._errors = LastErrors.open(
            node.files.last_error, now_ms=self._now_ms, elapsed_s=elapsed_s
        )
        self._owners = self._owner_rooms()
        self._offers = self._offer_rooms()
        self._tracing = open_tracing(self._traced, self.name, node.identity.device_id)
        self._memory = AttemptMemory.open(
            node.files.attempts,
            reactor=self._reactor,
            entropy=self._entropy,
            now_ms=self._now_ms(),
        )
        self._standing = self._stand()
        self._offers.open()
        self._owners.serve(
            self._reactor,
            elapsed_s=elapsed_s,
            status=self._status,
            reload=self.reload,
            stop=self._stop_process,
        )
        self._memory.start()
        self._runs = Runs(
            reactor=self._reactor,
            elapsed_s=elapsed_s,
            call_from_thread=call_from_thread,
            catalogue=node.catalogue,
            runner=self._offers,
            memory=self._memory,
            owner=self._owners.owner,
            facts=self._facts(),
            now_ms=self._now_ms,
            max_waiting=config.max_running + config.max_waiting,
            mediation_timeout_s=config.mediation_timeout_s,
            noticed=self._watcher.noticed,
            tracer=self._tracing,
        )
        self._certificate = self._renewal()
        self._connection = Connection(
            reactor=self._reactor,
            elapsed_s=elapsed_s,
            routes=routes,
            jitter=random.uniform,
            identity=node.files.identity,
            hello=self._hello,
            runs=self._runs,
            witness=self._watcher,
            first_retry_s=config.first_retry_s,
            max_retry_s=config.max_retry_s,
            renewal=self._certificate,
            rejoin=rejoin,
            look=self._ways.look,
            offers=self._offers.offering,
        )
        self._surroundings = Surroundings(
            self._reactor, stirred=self._connection.nudge, woke=self._runs.woke
        )
        self._offers.offering.watch(self._offer)
        if self._hangup is not None:
            self._hangup.open()
        super().startService()
        self._reactor.callWhenRunning(self._connect)

    def _owner_rooms(self) -> OwnerRooms:
        node = self._node
        return OwnerRooms.open(
            node.files,
            node.host.name,
            mode=self._config.mediation,
            terminal=self._terminal,
            dialogs=self._dialogs,
            now_ms=self._now_ms,
            entropy=self._entropy,
        )

    def _offer_rooms(self) -> OfferRooms:
        node = self._node
        return OfferRooms(
            node.catalogue,
            self._config,
            reactor=self._reactor,
            elapsed_s=elapsed_s,
            awake_s=awake_s,
            may_ask=self._owners.owner.may_ask,
            file=self._config_file,
            cache=node.files.descriptors,
        )

    def _offer(self) -> None:
        """What this node offers has changed."""
        self._runs.catalogue = self._offers.offering.catalogue
        self._connection.offer()

    def _stand(self) -> Standing:
        node = self._node
        standing = Standing(
            name=node.host.name,
            device_id=node.identity.device_id,
            identity=node.files.identity,
            errors=self._errors,
            watcher=self._watcher,
            containment=containment(),
            now_ms=self._now_ms,
            elapsed_s=elapsed_s,
        )
        self._watcher.tell(standing)
        self._memory.stored = standing.stored
        return standing

    def _status(self) -> StatusAnswer:
        """How it is now, for its owner."""
        requests = len(self._owners.desk.questions())
        return self._standing.answer(self._connection, self._certificate, self._runs, requests)

    def reload(self) -> Deferred[ReloadedAnswer]:
        """Take what the owner has written since, and what is installed now."""
        self._supervised.reloading()
        return maybeDeferred(self._reload).addBoth(self._supervised.reloaded)

    def _reload(self) -> Deferred[ReloadedAnswer]:
        kept = self._owners.reload_policy()

        def refused(failure: Failure) -> Catalogue:
            if not isinstance(failure.value, PalyraError):
                failure.raiseException()
            kept.append(f"What is offered stays as it was: {failure.value.sentence}")
            return self._offers.offering.catalogue

        def answer(catalogue: Catalogue) -> ReloadedAnswer:
            return ReloadedAnswer(
                capabilities=len(catalogue.offers),
                rules=len(self._owners.owner.policy.rules),
                faults=[f"{each.name}: {each.sentence}" for each in catalogue.broken],
                kept=kept,
            )

        return self._offers.reload().addErrback(refused).addCallback(answer)

    def _hung_up(self) -> None:
        self.reload().addErrback(lambda failure: self._log.failure("reload failed", failure))

    def _make_ways(self) -> Ways:
        """The ways to the gateways, as they were left."""
        node = self._node
        return Ways(
            reactor=self._reactor,
            elapsed_s=elapsed_s,
            files=node.files,
            host=node.host,
            config=self._config,
            proxies=proxies_of(node.host, os.environ),
            told=self._watcher.fell_back,
        )

    def _renewal(self) -> Renewal:
        return Renewal(
            reactor=self._reactor,
            elapsed_s=elapsed_s,
            jitter=random.uniform,
            identity=self._node.identity,
            store=self._node.files.identity,
            witness=self._standing,
        )

    def _rejoin(self) -> Rejoin | None:
        """The way back, where it is known on which address the gateway enrols."""
        node = self._node
        if not node.host.enrolment_address:
            return None
        return Rejoin(
            reactor=self._reactor,
            addresses=enrolments_of(node.host),
            channel=self._ways.enrolment,
            identity=node.identity,
            store=node.files.identity,
            announcement=lambda: announcement(self._offers.offering, node.host.name),
            witness=self._watcher,
            entropy=self._entropy,
        )

    def _connect(self) -> None:
        """Find out what is offered, then connect: jobs that wait for a plugin find it there, unless
        it takes very long to say what it is."""
        self._serving.begin()
        self._supervised.serving()
        self._surroundings.start()
        self._found = self._offers.begin()
        self._connected = self._found.addBoth(lambda _: self._connection.start())
        self._connected.addErrback(
            lambda failure: self._log.failure("the connection loop ended", failure)
        )

    def stopService(self) -> Deferred[None]:
        """Let running jobs end within the grace, then disconnect and close."""
        super().stopService()
        if self._hangup is not None:
            self._hangup.close()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._runs.close()
        running = self._runs.count
        self._supervised.stopping(running)
        if running:
            jobs = "1 job has" if running == 1 else f"{running} jobs have"
            line = f"stopping, {jobs} {self._config.shutdown_grace_s:g}s to finish"
            self._watcher.noticed(line, running)
        idle = self._runs.when_idle()
        idle.addTimeout(
            self._config.shutdown_grace_s, self._reactor, onTimeoutCancel=lambda *_: None
        )
        await idle
        await self._surroundings.stop()
        self._connection.stop()
        if not self._found.called:
            self._found.cancel()
        await self._connected
        await self._owners.stop()
        await self._offers.stop()
        if self._tracing is not None:
            await deferToThread(self._tracing.close)
        self._memory.stop()
        await self._errors.when_written()
        self._supervised.stopped()
        self._serving.end()
        self._lock.release()

    def _facts(self) -> DeviceFacts:
        host, identity = self._node.host, self._node.identity
        return DeviceFacts(
            device_id=identity.device_id,
            identity_fingerprint=identity.fingerprint,
            grpc_url=host.grpc_url,
            paired_at_unix_ms=host.paired_at_unix_ms,
            poll_interval_ms=host.poll_interval_ms,
            name=host.name,
        )

    def _hello(self, store_epoch: str) -> Hello:
        return greeting(
            self._node.identity.device_id,
            self._offers.offering.announced(),
            memory_id=self._memory.memory_id,
            attempts=self._runs.standings(),
            unix_ms=self._now_ms(),
            store_epoch=store_epoch,
            max_in_flight=self._config.max_running + self._config.max_waiting,
        )

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)


def paired_host(files: NodeFiles, catalogue: Catalogue, identity: DeviceIdentity) -> NodeHost:
    """The node host of a state root that is paired.

    :raises NotPaired: it is not.
    """
    host = files.host()
    if host is None or files.identity.client().current is None:
        raise NotPaired(str(files.state_root))
    return NodeHost(files, host, identity, catalogue)


def preferring(config: NodeSection, asked: Preference | None, host: HostFile) -> NodeSection:
    """The configuration with the transport that was asked for: now, or when it was paired."""
    kept = Preference(host.transport) if host.transport in _PREFERENCES else None
    return msgspec.structs.replace(config, transport=asked or kept or config.transport)
