"""Ends a run that hangs: an endless loop of a node is a finding as its crash is, with its seed.

What is measured is the processor time of one event, so neither a slow machine nor a long run is
taken for one that hangs.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict

STUCK_CPU_S: Final = 20.0
"""No event takes so long: the slowest take milliseconds. It is looked at so often, so a run ends
within twice as long."""

WATCHDOG: Final = "watchdog"
"""The rule that every event comes to an end."""


class StuckError(BrokenRuleError):
    """Somebody goes on and on with one event."""

    oracle = WATCHDOG
    verdict = Verdict.CRASH


@contextmanager
def watching(count_events: Callable[[], int]) -> Iterator[None]:
    """Raises `StuckError` wherever the main thread is when it got through no event for too long. In
    other threads nothing is watched, for signals do not reach them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = -1

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        del number
        events = count_events()
        if events == seen:
            place = "" if frame is None else f", now in {frame.f_code.co_qualname}"
            raise StuckError(f"an event takes more than {STUCK_CPU_S:g} s of processor time{place}")
        seen = events

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, STUCK_CPU_S, STUCK_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
