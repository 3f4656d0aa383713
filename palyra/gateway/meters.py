"""Meters: what the gateway says of itself to Prometheus, and where each number comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from palyra import __version__
from palyra.core.devices import DeviceState, PresenceState
from palyra.core.frames import JobUpdate
from palyra.core.jobs import FINAL, JobState
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.sessions import Sessions
from palyra.observe.metrics import (
    SECONDS,
    SIZES,
    Histogram,
    Metrics,
    by_label,
    counter,
    gauge,
    gauge_histogram,
    histogram,
    histogram_of,
    one,
)

LIFE_S = (0.0, 300.0, 3_600.0, 4 * 3_600.0, 8 * 3_600.0, 16 * 3_600.0, 86_400.0, 7 * 86_400.0)
"""Upper ends of what is left of certificates: a third of a day is when renewal begins."""
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class JobMeter:
    """Counts the ends of jobs; a :class:`palyra.gateway.settlement.Watcher`."""

    def __init__(self) -> None:
        self.seconds = {state: Histogram(SECONDS) for state in FINAL}
        """From submission to the end, queue and approval included."""

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record."""
        job = update.job
        if job.finished_at_ms is not None:
            took_ms = job.finished_at_ms - job.call.submitted_at_ms
            self.seconds[job.state].observe(took_ms / 1000)


class CommitMeter:
    """Counts the transactions of the writer; called in its thread, and by nobody else there."""

    def __init__(self) -> None:
        self.sizes = Histogram(SIZES)
        self.seconds = Histogram(SECONDS)

    def committed(self, tasks: int, seconds: float) -> None:
        """A group of ``tasks`` was written in one transaction."""
        self.sizes.observe(tasks)
        self.seconds.observe(seconds)


class LagMeter:
    """How late the reactor is; :meth:`look` is to be called every ``every_s`` seconds."""

    every_s = 1.0

    def __init__(self, elapsed_s: Callable[[], float]) -> None:
        self.late = Histogram(LAG_S)
        self._elapsed_s = elapsed_s
        self._due_s: float | None = None

    def look(self) -> None:
        """Compare now with when this was due."""
        now_s = self._elapsed_s()
        if self._due_s is not None:
            self.late.observe(max(0.0, now_s - self._due_s))
        self._due_s = now_s + self.every_s


class Meters:
    """Every metric of a gateway (docs/operations.md names them)."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        elapsed_s: Callable[[], float],
        inventory: Inventory,
        board: PresenceBoard,
        sessions: Sessions,
        dispatcher: Dispatcher,
    ) -> None:
        self.metrics = Metrics()
        self.jobs = JobMeter()
        self.commits = CommitMeter()
        self.lag = LagMeter(elapsed_s)
        self.refused: Counter[tuple[str, str]] = Counter()
        """Peers and requests that were turned away, by listener and reason."""
        self._now_ms = now_ms
        self._inventory = inventory
        self._board = board
        self._sessions = sessions
        self._dispatcher = dispatcher
        dispatcher.watchers.append(self.jobs)
        self.metrics.add(
            gauge("palyra_build_info", "The gateway's version.", _build, "version"),
            gauge("palyra_sessions", "Live node sessions.", self._transports, "transport"),
            gauge("palyra_devices", "Paired devices.", self._presence, "presence"),
            gauge(
                "palyra_devices_revoked",
                "Devices that were revoked and not removed.",
                lambda: one(self._in_state(DeviceState.REVOKED)),
            ),
            gauge("palyra_jobs_unfinished", "Jobs that are not final.", self._states, "state"),
            gauge(
                "palyra_queue_depth",
                "Jobs that wait to be sent, rows of fan-outs included.",
                lambda: one(dispatcher.waiting),
            ),
            histogram(
                "palyra_job_seconds",
                "From the submission of a job to its end.",
                lambda: {(state.value,): each for state, each in self.jobs.seconds.items()},
                "state",
            ),
            histogram(
                "palyra_commit_batch_size",
                "Operations that were written in one transaction.",
                lambda: {(): self.commits.sizes},
            ),
            histogram(
                "palyra_commit_seconds",
                "Time of one transaction in the writer.",
                lambda: {(): self.commits.seconds},
            ),
            histogram(
                "palyra_reactor_lag_seconds",
                "How late the reactor looked up from its work.",
                lambda: {(): self.lag.late},
            ),
            gauge_histogram(
                "palyra_certificate_remaining_seconds",
                "What is left of the certificates of devices with a session.",
                lambda: {(): histogram_of(self._remaining(), LIFE_S)},
            ),
            gauge(
                "palyra_certificate_remaining_seconds_min",
                "What is left of the one that ends first; 0 without sessions.",
                lambda: one(min(self._remaining(), default=0.0)),
            ),
            counter(
                "palyra_refused",
                "Peers and requests that were turned away.",
                lambda: {key: float(count) for key, count in self.refused.items()},
                "listener",
                "reason",
            ),
        )

    def turned_away(self, listener: str, reason: str) -> None:
        """A peer or a request was turned away.  Reasons are codes of ours: their number is
        bounded."""
        self.refused[listener, reason] += 1

    def count_refusals(self, listener: str, counts: Mapping[str, int]) -> None:
        """Say the refusals of a listener that counts its own, by their reason."""
        self.metrics.add(
            counter(
                f"palyra_{listener}_refused",
                f"Peers that {listener} turned away.",
                lambda: by_label(counts),
                "reason",
            )
        )

    def _transports(self) -> dict[tuple[str, ...], float]:
        counts = Counter({"grpc": 0, "quic": 0})
        counts.update(session.peer.transport for session in self._sessions.all())
        return by_label(counts)

    def _presence(self) -> dict[tuple[str, ...], float]:
        counts = Counter({state.value: 0 for state in PresenceState})
        for device in self._inventory.devices():
            if device.state is DeviceState.PAIRED:
                counts[self._board.state(device.device_id).value] += 1
        return by_label(counts)

    def _in_state(self, state: DeviceState) -> int:
        return sum(device.state is state for device in self._inventory.devices())

    def _states(self) -> dict[tuple[str, ...], float]:
        counts = Counter({state.value: 0 for state in JobState if state not in FINAL})
        counts.update(self._dispatcher.states())
        return by_label(counts)

    def _remaining(self) -> list[float]:
        """Of devices in touch: who is switched off has no need of a certificate."""
        now_ms = self._now_ms()
        devices = [session.device_id for session in self._sessions.all()]
        newest = map(self._inventory.newest_certificate, devices)
        return [max(0, each.not_after_ms - now_ms) / 1000 for each in newest if each is not None]


def _build() -> dict[tuple[str, ...], float]:
    return {(__version__,): 1.0}
