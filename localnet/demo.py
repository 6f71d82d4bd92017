"""The demo traders as the supervisor sees them: a process, and the lines that it prints.

The process is `localnet.traders`. Once a second it prints one `TradersStatistics` on stdout. A tape
waits until it is told that the localnet is ready (`START_SIGNAL`).
"""

import signal
from typing import Final

import msgspec

from localnet.percentiles import LatencyHistogram
from localnet.tally import TradersStatistics

TRADERS: Final = "traders"
"""Name of the process, beside the nodes' names."""

START_SIGNAL: Final = signal.SIGUSR1
"""Tells the process to begin its tape."""


class DemoTraders:
    """What the traders have said so far."""

    def __init__(self) -> None:
        self.last = TradersStatistics()
        self.orders_per_s = 0
        """Between the last two lines, which are a second apart."""
        self.unreadable_lines = 0
        self._base = TradersStatistics()
        self.commit_latency = LatencyHistogram()
        self.receipt_latency = LatencyHistogram()
        self.recent_commit_latency = LatencyHistogram()
        """Of the last line only, for the live display."""

    def read_line(self, line: bytes) -> None:
        """Take one line of stdout; one that is no report is counted, not fatal."""
        try:
            report = msgspec.json.decode(line, type=TradersStatistics)
        except msgspec.MsgspecError:
            self.unreadable_lines += 1
            return
        self.orders_per_s = report.orders - self.last.orders
        self.last = report
        self.commit_latency.add(report.commit_latency_ms)
        self.receipt_latency.add(report.receipt_latency_ms)
        self.recent_commit_latency = LatencyHistogram()
        self.recent_commit_latency.add(report.commit_latency_ms)

    def begin_measuring(self) -> None:
        """Forget what came before: warming up is no measurement."""
        self._base = self.last
        self.commit_latency = LatencyHistogram()
        self.receipt_latency = LatencyHistogram()

    @property
    def orders(self) -> int:
        """Orders executed since measuring began."""
        return self.last.orders - self._base.orders

    @property
    def rejected(self) -> int:
        """Orders refused since measuring began."""
        return self.last.rejected - self._base.rejected
