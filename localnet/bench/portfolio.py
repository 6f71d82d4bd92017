"""What portfolio margin costs: risk arrays of a whole board of options, and one account's margin.

Arrays are built once whenever marks move (200 instruments, the published scenarios); an account of
20 positions is then margined out of them. Both are the least of several runs, as others use the
machine, too.
"""

import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from engine.portfolio.fixed_point import ONE, from_ratio
from engine.portfolio.scenarios import RiskArrays
from engine.portfolio.sums import compute_margin
from engine.portfolio.terms import (
    DAY_S,
    Instrument,
    InstrumentKind,
    MarketData,
    PortfolioParameters,
)

POSITIONS: Final = 20
EXPIRIES: Final = 5
STRIKES: Final = 20

ARRAYS_RUNS: Final = 5
MARGIN_RUNS: Final = 500


class PortfolioRun(Struct, frozen=True):
    """The least time of each half."""

    instruments: int
    scenarios: int
    positions: int
    arrays_ms: float
    margin_us: float


def measure_portfolio() -> PortfolioRun:
    """Time arrays and margin, with calls and puts of all expiries and strikes."""
    instruments = tuple(
        Instrument(
            kind,
            60_000 * ONE,
            (60_000 + 150 * week) * ONE,
            time_s=7 * week * DAY_S,
            strike=(30_000 + 3_000 * step) * ONE,
            vol=from_ratio(65, 100),
            rate=from_ratio(5, 100),
        )
        for week in range(1, EXPIRIES + 1)
        for step in range(STRIKES)
        for kind in (InstrumentKind.CALL, InstrumentKind.PUT)
    )
    data, parameters = MarketData(instruments), PortfolioParameters()
    arrays_s = _find_least(lambda: RiskArrays(data, parameters), ARRAYS_RUNS)
    arrays = RiskArrays(data, parameters)
    step = len(instruments) // POSITIONS
    positions = tuple(
        (place * step, from_ratio(5, 4) * (-1) ** place) for place in range(POSITIONS)
    )
    margin_s = _find_least(lambda: compute_margin(arrays, positions, 0), MARGIN_RUNS)
    return PortfolioRun(
        instruments=len(instruments),
        scenarios=len(parameters.scenarios),
        positions=len(positions),
        arrays_ms=round(arrays_s * 1_000, 3),
        margin_us=round(margin_s * 1_000_000, 1),
    )


def _find_least(work: Callable[[], object], times: int) -> float:
    """The least seconds of several runs."""
    least = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - started)
    return least
