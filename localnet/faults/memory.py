"""How much memory the nodes hold, sampled from /proc, and whether it grows."""

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from localnet.machine import read_descendants

INTERVAL_S: Final = 5.0
WARM_UP_MAX_S: Final = 180.0
"""What is compared begins a third into the run, at three minutes at the latest: until then caches
and histories fill up to their bounds."""
WINDOW_S: Final = 30.0
"""Medians are taken over this long, or a tenth of a short run."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class MemorySample(NamedTuple):
    """One node at one moment."""

    at_s: float
    """From the beginning of the run."""
    node: str
    starts: int
    """How often it had been started: memory of two runs is not compared."""
    size_bytes: int
    """Of the process and all that it started."""


class MemoryGrowth(NamedTuple):
    """Of one node over the run."""

    node: str
    before_bytes: int
    after_bytes: int

    @property
    def percent(self) -> float:
        return round(100 * (self.after_bytes - self.before_bytes) / self.before_bytes, 2)


def read_rss_bytes(pid: int) -> int:
    """Resident memory of a process and all that it started; 0 where there is no /proc."""
    total = 0
    for each in read_descendants([pid]):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            continue  # It has just ended.
    return total


def compute_growth(samples: Iterable[MemorySample], length_s: float) -> list[MemoryGrowth]:
    """Of every node that ran unbroken from the beginning to the end, by name: one that was started
    anew fills its caches later than the others."""
    start_s = min(WARM_UP_MAX_S, length_s / 3)
    window_s = min(WINDOW_S, length_s / 10)
    by_node: dict[str, list[MemorySample]] = {}
    for sample in samples:
        by_node.setdefault(sample.node, []).append(sample)
    grown = []
    for node, own in sorted(by_node.items()):
        before = [each for each in own if start_s <= each.at_s <= start_s + window_s]
        after = [each for each in own if each.at_s >= length_s - window_s]
        if before and after and own[0].starts == after[-1].starts:
            grown.append(
                MemoryGrowth(
                    node,
                    int(median(each.size_bytes for each in before)),
                    int(median(each.size_bytes for each in after)),
                )
            )
    return grown
