"""The core's timers: each fires once, at its own newest deadline, and never after it was cancelled.

Deadlines are in the core's time. A timer waits at least as long as it had to go when it was set,
by the monotonic clock, and until the core's clock shows its deadline (`node.clock`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import trio

from node.clock import Clock


class _Armed(NamedTuple):
    deadline_ms: int
    earliest_at_s: float


class Timers:
    """Named timers. `set` from the trio thread, `run` as a task of its own."""

    def __init__(self, clock: Clock, fire: Callable[[str], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._armed: dict[str, _Armed] = {}
        self._changed = trio.Event()
        self._sleeps_until_s = math.inf

    def set(self, name: str, deadline_ms: int | None) -> None:
        """Arm a timer, in place of its earlier deadline if it has one; None cancels it."""
        if deadline_ms is None:
            self._armed.pop(name, None)
            return
        at_s = self._clock.instant_of(deadline_ms)
        self._armed[name] = _Armed(deadline_ms, at_s)
        if at_s < self._sleeps_until_s:
            self._changed.set()

    async def run(self) -> None:
        """Fire what is due, until cancelled."""
        while True:
            self._changed = trio.Event()
            self._sleeps_until_s = min(map(self._due_at_s, self._armed.values()), default=math.inf)
            with trio.CancelScope(deadline=self._sleeps_until_s):
                await self._changed.wait()
            self._fire_due()

    def _fire_due(self) -> None:
        now_s = trio.current_time()
        due = [
            (armed, name) for name, armed in self._armed.items() if self._due_at_s(armed) <= now_s
        ]
        for armed, name in sorted(due):
            # One that fired before may have set or cancelled this one.
            if self._armed.get(name) is armed:
                del self._armed[name]
                self._fire(name)

    def _due_at_s(self, armed: _Armed) -> float:
        return max(armed.earliest_at_s, self._clock.instant_of(armed.deadline_ms))
