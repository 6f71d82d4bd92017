"""Counting latencies exactly enough: to a tenth of a millisecond, in bounded memory."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

TENTHS_MAX: Final = 6_000_000
"""Ten minutes; longer waits count as this long."""


class LatencyHistogram:
    """How often each latency occurred, in tenths of a millisecond."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0

    def add(self, samples_ms: Iterable[float]) -> None:
        """Count samples."""
        for sample_ms in samples_ms:
            self._counts[min(max(round(sample_ms * 10), 0), TENTHS_MAX)] += 1
            self.count += 1

    def quantile_ms(self, per_thousand: int) -> float | None:
        """The smallest latency that this many of a thousand do not exceed; None without samples."""
        if self.count == 0:
            return None
        rank = -(-self.count * per_thousand // 1000)
        seen = 0
        for tenths in sorted(self._counts):
            seen += self._counts[tenths]
            if seen >= rank:
                break
        return tenths / 10

    def summary(self) -> dict[str, float | int | None]:
        """Median and 99th percentile, for reports."""
        return {
            "p50": self.quantile_ms(500),
            "p99": self.quantile_ms(990),
            "count": self.count,
        }
