"""Exact percentiles: every sample is kept and sorted, nothing is interpolated."""

from collections.abc import Sequence

from msgspec import Struct


class Percentiles(Struct, frozen=True):
    """The distribution of some samples, in their unit."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


def compute_percentile(ordered: Sequence[float], per_thousand: int) -> float:
    """The least of the sorted samples that so many of a thousand do not exceed (nearest rank)."""
    assert ordered
    assert 0 < per_thousand <= 1_000
    rank = -(-len(ordered) * per_thousand // 1_000)
    return ordered[rank - 1]


def compute_percentiles(samples: Sequence[float]) -> Percentiles:
    """Sort the samples and describe them; there must be at least one."""
    ordered = sorted(samples)
    return Percentiles(
        count=len(ordered),
        p50=compute_percentile(ordered, 500),
        p90=compute_percentile(ordered, 900),
        p99=compute_percentile(ordered, 990),
        max=ordered[-1],
    )
