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


ON_NOBODYS_BEHALF = """
from contextvars import ContextVar
from threading import Timer

from palyra._reactor import event_loop, require_asyncio_reactor, the_reactor
require_asyncio_reactor()
from twisted.internet.task import LoopingCall
reactor, who, turns = the_reactor(), ContextVar("who", default="nobody"), []

def turn():
    turns.append(who.get())
    if len(turns) == 2:
        loop = event_loop(reactor)
        Timer(0.01, lambda: loop.call_soon_threadsafe(request)).start()
    if len(turns) == 6:
        call.stop()
        reactor.stop()

def request():  # as a socket that has something to read makes one
    who.set("ana")
    reactor.callLater(0, lambda: turns.append(who.get()))

call = LoopingCall(turn)
call.clock = reactor
call.start(0.05)
reactor.callLater(10, reactor.stop)
reactor.run()
print(*turns)
"""


def test_timers_act_for_nobody() -> None:
    """What a timer does is not done on behalf of whoever asked for something before."""
    done = subprocess.run(
        [sys.executable, "-c", ON_NOBODYS_BEHALF],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert len(done.stdout.split()) >= 6 and set(done.stdout.split()) == {"nobody"}, done
