"""The presence board: who is online, by what is heard and for how long."""

from __future__ import annotations

from twisted.internet.task import Clock

from palyra.core.devices import PresenceState
from palyra.core.identifiers import DeviceId
from palyra.gateway.presence import PresenceBoard
from tests.store.samples import ulid

S = PresenceState
PI = DeviceId(ulid("pi"))


class Watched:
    """A board on a clock; wall time runs an hour ahead of elapsed time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.silent: list[DeviceId] = []
        self.board = PresenceBoard(
            self.clock,
            elapsed_ms=lambda: int(self.clock.seconds() * 1000),
            now_ms=lambda: int(self.clock.seconds() * 1000) + 3_600_000,
            silent=self._silent,
        )
        self.board.start()

    def _silent(self, device_id: DeviceId) -> None:
        self.silent.append(device_id)
        self.board.closed(device_id)

    def pass_s(self, seconds: float) -> PresenceState:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
        return self.board.state(PI)


def test_an_unseen_device_is_offline() -> None:
    """Nothing is known of a device that was not here since the start."""
    watched = Watched()
    assert watched.board.state(PI) is S.OFFLINE
    assert watched.board.last_heard_ms(PI) is None
    watched.board.stop()


def test_silence_makes_stale_then_offline() -> None:
    """25 s without a word: stale; 40 s: the session is closed; 10 s later: offline."""
    watched = Watched()
    watched.board.registered(PI, version_one=False)
    assert watched.pass_s(24.5) is S.ONLINE
    assert watched.pass_s(2) is S.STALE
    assert watched.silent == []
    watched.pass_s(15)
    assert watched.silent == [PI]
    assert watched.pass_s(10) is S.OFFLINE
    watched.board.stop()


def test_a_heartbeat_keeps_a_device_online() -> None:
    """Each word begins the count anew, and brings a stale device back."""
    watched = Watched()
    watched.board.registered(PI, version_one=False)
    for _ in range(10):
        assert watched.pass_s(15) is S.ONLINE
        watched.board.heard(PI)
    assert watched.pass_s(30) is S.STALE
    watched.board.heard(PI)
    assert watched.board.state(PI) is S.ONLINE
    assert watched.pass_s(26) is S.STALE
    watched.board.stop()


def test_a_closed_session_lingers() -> None:
    """Ten seconds after its end a device without a new session is offline, with one it is not."""
    watched = Watched()
    watched.board.registered(PI, version_one=False)
    watched.board.closed(PI)
    assert watched.pass_s(9) is S.ONLINE
    watched.board.registered(PI, version_one=False)
    assert watched.pass_s(9) is S.ONLINE
    watched.board.closed(PI)
    assert watched.pass_s(11) is S.OFFLINE
    watched.board.heard(PI)
    assert watched.board.state(PI) is S.OFFLINE
    watched.board.registered(PI, version_one=False)
    assert watched.board.state(PI) is S.ONLINE
    watched.board.stop()


def test_version_one_is_given_more_time() -> None:
    """A version-1 node is stale after 60 s and offline after five minutes."""
    watched = Watched()
    watched.board.registered(PI, version_one=True)
    assert watched.pass_s(59) is S.ONLINE
    assert watched.pass_s(2) is S.STALE
    assert watched.pass_s(238) is S.STALE
    assert watched.pass_s(3) is S.OFFLINE
    watched.board.stop()


def test_what_was_heard_is_taken_once() -> None:
    """The store is given wall times of devices that were heard since it was given any."""
    watched = Watched()
    watched.board.registered(PI, version_one=False)
    watched.pass_s(5)
    watched.board.heard(PI)
    assert watched.board.take_heard() == {PI: 3_605_000}
    assert watched.board.take_heard() == {}
    assert watched.board.last_heard_ms(PI) == 3_605_000
    watched.board.stop()
