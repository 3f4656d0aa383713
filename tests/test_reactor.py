"""The reactor of the daemons, in a process of its own: a reactor is chosen once."""

from __future__ import annotations

import subprocess
import sys

CLOCK_SET_BACK = """
import time
from threading import Timer
real, back = time.time, [0]
time.time = lambda: real() - back[0]  # before anything keeps the function

from palyra._reactor import require_asyncio_reactor, the_reactor
require_asyncio_reactor()
from twisted.internet.task import LoopingCall
reactor, turns = the_reactor(), []

def turn():
    turns.append(reactor.seconds())
    if len(turns) == 2:  # while the next turn is waited for
        Timer(0.02, lambda: back.__setitem__(0, 3600)).start()
    if len(turns) == 6:
        call.stop()
        reactor.stop()

def late():
    print("stuck after", len(turns))
    reactor.stop()

watchdog = Timer(10, lambda: reactor.callFromThread(late))
watchdog.daemon = True
watchdog.start()
call = LoopingCall(turn)
call.clock = reactor
call.start(0.1)
reactor.run()
print(len(turns), round(turns[0] - turns[-1], -2))
"""


def test_a_clock_that_is_set_back() -> None:
    """What is due stays due, and the time of day is the new one."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK_SET_BACK],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    turns, set_back_s = done.stdout.split()
    assert int(turns) >= 6 and float(set_back_s) == 3600, done
