"""The demo traders as the supervisor sees them: a process, and the lines that it prints.

The process is `localnet.traders`. Once a second it prints one JSON object on stdout: totals since
its start, and the latencies of the orders of that second.
"""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from localnet.latency import LatencyHistogram
from localnet.supervisor import ProcessPlan
from node.network import Network

TRADERS: Final = "traders"
"""Name of the process, beside the nodes' names."""


class TradersLine(Struct, frozen=True):
    """One line of the traders' stdout."""

    orders: int = 0
    """Order instructions with a result, since the start."""
    rejected: int = 0
    """Orders that were refused, by the engine or with their envelope, since the start."""
    commit_latency_ms: tuple[float, ...] = ()
    """From sending an envelope to seeing it ordered; of the last second."""
    receipt_latency_ms: tuple[float, ...] = ()
    """From sending an envelope to its executed receipt; of the last second."""
    quoted: bool = False
    """All markets have quotes on both sides."""
    tape_done: bool = False
    """A tape was given and has been played to its end."""


class DemoTraders:
    """What the traders have said so far."""

    def __init__(self) -> None:
        self.last = TradersLine()
        self.orders_per_s = 0
        """Between the last two lines, which are a second apart."""
        self.unreadable_lines = 0
        self._base = TradersLine()
        self.commit_latency = LatencyHistogram()
        self.receipt_latency = LatencyHistogram()
        self.recent_commit_latency = LatencyHistogram()
        """Of the last line only, for the live display."""

    def read_line(self, line: bytes) -> None:
        """Take one line of stdout; one that is no report is counted, not fatal."""
        try:
            report = msgspec.json.decode(line, type=TradersLine)
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


def traders_plan(
    network: Network, *, seed: int, tape: Path | None, speed: str | None
) -> ProcessPlan:
    """How to start the traders' process."""
    arguments = ["--dir", str(network.path), "--seed", str(seed)]
    if tape is not None:
        arguments += ["--tape", str(tape.absolute())]
    if speed is not None:
        arguments += ["--speed", speed]
    return ProcessPlan(
        name=TRADERS,
        module="localnet.traders",
        arguments=tuple(arguments),
        stderr_path=network.run_dir / "traders.log",
        pipe_stdout=True,
    )
