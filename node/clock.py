"""The node's clock: wall time for block times and nonces, without its jumps.

A core is told one time, and what it measures with it must never run backwards. So the clock runs
on the monotonic clock and is held to the wall clock at a bounded interval, because machines start
with a wrong time, sleep, and have their time stepped by NTP: a node that read the wall clock only
once would be off for ever, and its proposals refused.

- The wall clock is a little ahead: this clock steps forward at once. Timers do not follow the step:
  what was to happen in 300 ms still happens in 300 ms.
- It is far ahead: the step is believed once it has been there for `DOUBTED_CHECKS` readings, since
  there is no quick way back. A node that followed a time server's error of an hour for two seconds
  would be alone with its time for two hours.
- The wall clock is behind: this clock runs at half speed until it has been caught up with. Timers
  wait for it, so that a core never hears of a deadline that by its own time has not come.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import structlog
import trio

CHECK_INTERVAL_S: Final = 1.0
"""How long a wrong time goes unnoticed."""

STEP_DOUBTED_MS: Final = 1_000.0
"""A forward step from here on is doubted at first."""

DOUBTED_CHECKS: Final = 30
"""Readings in a row that must show such a step before it is believed."""

STEP_LOGGED_MS: Final = 100.0
"""A correction from here on is told to the operator; below are the wall clock's own small ones."""

_ROUNDING_MS: Final = 0.1
"""Waiting this much longer makes sure that a deadline, read as whole milliseconds, has come."""

_log = structlog.get_logger()


def _read_wall_ms() -> float:
    return time.time_ns() / 1_000_000


class Clock:
    """Milliseconds since the Unix epoch that never run backwards while the process lives."""

    def __init__(self, read_wall_ms: Callable[[], float] = _read_wall_ms) -> None:
        self._read_wall_ms = read_wall_ms
        self._started_at_s = self._read_at_s = trio.current_time()
        self._wall_ms = read_wall_ms()
        """The wall clock's time at `_read_at_s`."""
        self._ahead_ms = 0.0
        """How far this clock was ahead of the wall clock then."""
        self._doubted_checks = 0
        """Readings in a row that showed a step too far to be believed at once."""

    def now_ms(self) -> int:
        """The time that the core is told."""
        return math.floor(self._compute_now_ms())

    def uptime_ms(self) -> int:
        """Milliseconds since the clock was made; no step of the wall clock shows in it."""
        return int((trio.current_time() - self._started_at_s) * 1000)

    def instant_of(self, time_ms: float) -> float:
        """When, in trio's seconds, this clock will say `time_ms`, if nothing corrects it before."""
        elapsed_ms = time_ms - self._wall_ms
        if elapsed_ms < 2 * self._ahead_ms:
            elapsed_ms = 2 * (elapsed_ms - self._ahead_ms)
        return self._read_at_s + (elapsed_ms + _ROUNDING_MS) / 1000

    def follow_wall(self) -> float:
        """Read the wall clock again; returns by how many milliseconds it moved since the last
        reading beyond the time that passed (negative: back), 0 while the step is doubted."""
        now_ms, expected_ms = self._compute_now_ms(), self._compute_wall_ms()
        wall_ms = self._read_wall_ms()
        if wall_ms - now_ms >= STEP_DOUBTED_MS and self._doubted_checks + 1 < DOUBTED_CHECKS:
            self._doubted_checks += 1
            return 0.0
        self._doubted_checks = 0
        self._wall_ms = wall_ms
        self._read_at_s = trio.current_time()
        self._ahead_ms = max(0.0, now_ms - wall_ms)
        return wall_ms - expected_ms

    async def run(self) -> None:
        """Keep following the wall clock, until cancelled."""
        while True:
            await trio.sleep(CHECK_INTERVAL_S)
            moved_ms = self.follow_wall()
            if abs(moved_ms) >= STEP_LOGGED_MS:
                _log.warning("wall_clock_stepped", moved_ms=round(moved_ms))

    def _compute_wall_ms(self) -> float:
        return self._wall_ms + (trio.current_time() - self._read_at_s) * 1000

    def _compute_now_ms(self) -> float:
        wall_ms = self._compute_wall_ms()
        return wall_ms + max(0.0, self._ahead_ms - (wall_ms - self._wall_ms) / 2)
