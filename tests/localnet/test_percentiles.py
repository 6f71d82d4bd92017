"""Percentiles are samples, and the histogram's are those of the sorted samples."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from localnet.percentiles import (
    TENTHS_MAX,
    LatencyHistogram,
    Percentiles,
    compute_percentile,
    compute_percentiles,
)

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=300)


@given(samples, st.integers(1, 1_000))
def test_a_percentile_is_the_least_sample_that_covers_its_share(
    given_samples: list[float], per_thousand: int
) -> None:
    value = compute_percentile(Counter(given_samples), per_thousand)
    assert value in given_samples
    covered = sum(sample <= value for sample in given_samples)
    assert covered * 1_000 >= per_thousand * len(given_samples)
    below = sum(sample < value for sample in given_samples)
    assert below * 1_000 < per_thousand * len(given_samples)


def test_percentiles_of_known_samples() -> None:
    hundred = compute_percentiles(float(each) for each in range(100, 0, -1))
    assert hundred == Percentiles(count=100, p50=50, p90=90, p99=99, max=100)
    assert compute_percentiles([3.5]) == Percentiles(1, 3.5, 3.5, 3.5, 3.5)


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_a_histogram_describes_tenths_of_a_millisecond_as_their_list_does(
    tenths: list[int],
) -> None:
    histogram = LatencyHistogram()
    histogram.add(each / 10 for each in tenths)
    whole = compute_percentiles(each / 10 for each in tenths)
    assert Percentiles(**histogram.summary()) == whole
    assert histogram.median_ms() == whole.p50


def test_no_wait_is_longer_than_the_longest() -> None:
    histogram = LatencyHistogram()
    histogram.add([1e12, -1.0])
    assert (histogram.summary()["max"], histogram.median_ms()) == (TENTHS_MAX / 10, 0.0)


def test_no_samples_have_no_percentiles() -> None:
    nothing = {"count": 0, "p50": None, "p90": None, "p99": None, "max": None}
    assert LatencyHistogram().summary() == nothing
    assert LatencyHistogram().median_ms() is None
