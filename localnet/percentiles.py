"""Percentiles by nearest rank: a value that occurred, never one between two.

A benchmark keeps every sample. A localnet that runs for days keeps a `LatencyHistogram`, exact to
a tenth of a millisecond in bounded memory.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

TENTHS_MAX: Final = 6_000_000
"""Ten minutes; longer waits count as this long."""


class Percentiles(Struct, frozen=True):
    """The distribution of some samples, in their unit."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


def compute_percentile(counts: Mapping[float, int], per_thousand: int) -> float:
    """The least sample that so many of a thousand do not exceed; `counts` says how often each
    occurred."""
    assert counts
    assert 0 < per_thousand <= 1_000
    rank = -(-sum(counts.values()) * per_thousand // 1_000)
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    raise AssertionError("no rank is above the number of samples")


def compute_percentiles(samples: Iterable[float]) -> Percentiles:
    """Describe the samples; there must be at least one."""
    return _describe(Counter(samples))


def _describe(counts: Mapping[float, int]) -> Percentiles:
    return Percentiles(
        count=sum(counts.values()),
        p50=compute_percentile(counts, 500),
        p90=compute_percentile(counts, 900),
        p99=compute_percentile(counts, 990),
        max=max(counts),
    )


class LatencyHistogram:
    """How often each latency occurred, to a tenth of a millisecond."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, samples_ms: Iterable[float]) -> None:
        """Count samples."""
        for sample_ms in samples_ms:
            self._counts[min(max(round(sample_ms * 10), 0), TENTHS_MAX) / 10] += 1

    def median_ms(self) -> float | None:
        """None without samples."""
        return compute_percentile(self._counts, 500) if self._counts else None

    def summary(self) -> dict[str, Any]:
        """`Percentiles` for reports; without samples its values are None."""
        if not self._counts:
            return dict.fromkeys(Percentiles.__struct_fields__) | {"count": 0}
        return msgspec.structs.asdict(_describe(self._counts))
