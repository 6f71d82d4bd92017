"""The index price: a power-weighted median of what the committee's members last reported.

Of total power T, the index moves only while reports no older than the market's maximum age cover
Q = floor(2T/3)+1. Then it is the lower weighted median of those reports: the least price such that
reports at or below it hold at least half of the reporting power. Members with less than a third
of the power cannot move it beyond what honest members reported. With less coverage the index is
*stale*: it keeps its last value, margin goes on using it, and orders that could increase a
position are refused. A member that leaves a report out keeps its previous one in force until that
one is too old.

Before the first index of a market nothing but cancels happens in it.
"""

from engine.instructions import OracleReport
from engine.limits import (
    PRICE_MAX_TICKS,
    SEQUENCE_MAX,
    SOURCE_TIME_AHEAD_MAX_MS,
    TIME_MAX_MS,
)
from engine.receipts import ReasonCode
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.market import Market, Report


def accept_report(run: BlockRun, reporter: bytes, report: OracleReport) -> ReasonCode:
    """Take a member's report, or say why not."""
    state = run.state
    if reporter not in state.reporters:
        return ReasonCode.ORACLE_NOT_A_REPORTER
    market = state.perpetuals.get(report.market)
    if market is None:
        return ReasonCode.ORACLE_UNKNOWN_MARKET
    if not 0 < report.price_ticks <= PRICE_MAX_TICKS:
        return ReasonCode.ORACLE_PRICE_INVALID
    previous = market.reports.get(reporter)
    code = check_source(
        run.time_ms,
        market.oracle_max_age_ms,
        report.sequence,
        report.source_time_ms,
        0 if previous is None else previous.sequence,
        0 if previous is None else previous.source_time_ms,
    )
    if code is ReasonCode.OK:
        market.reports[reporter] = Report(
            report.price_ticks, report.sequence, report.source_time_ms
        )
        market.reports_fresh_until_ms = -1
        market.dirty = True
    return code


def check_source(
    now_ms: int,
    max_age_ms: int,
    sequence: int,
    source_time_ms: int,
    previous_sequence: int,
    previous_time_ms: int,
) -> ReasonCode:
    """Is a report newer than the reporter's last one, and of a time that may count?"""
    if not previous_sequence < sequence <= SEQUENCE_MAX:
        return ReasonCode.ORACLE_SEQUENCE
    if not -SOURCE_TIME_AHEAD_MAX_MS <= now_ms - source_time_ms <= max_age_ms:
        return ReasonCode.ORACLE_SOURCE_TIME
    if source_time_ms < previous_time_ms:
        return ReasonCode.ORACLE_SOURCE_TIME
    return ReasonCode.OK


def is_quorum(covered_power: int, reporters: dict[bytes, int]) -> bool:
    """Do fresh reports cover `floor(2T/3) + 1` of the committee's power?"""
    return covered_power >= 2 * sum(reporters.values()) // 3 + 1


def adopt_reporters(state: EngineState, reporters: dict[bytes, int]) -> bool:
    """Make this the committee, forget reports of those who left; return whether it has changed."""
    if reporters == state.reporters:
        return False
    state.reporters = reporters
    for market in state.perpetuals.values():
        market.reports_fresh_until_ms = -1
        for key in [key for key in market.reports if key not in reporters]:
            del market.reports[key]
            market.dirty = True
    return True


def update_indices(state: EngineState, time_ms: int) -> None:
    """Recompute the index of every market of which reports came, left or grew too old."""
    for market in state.perpetuals.values():
        if time_ms > market.reports_fresh_until_ms:
            _update_index(market, state.reporters, time_ms)


def _update_index(market: Market, reporters: dict[bytes, int], time_ms: int) -> None:
    oldest_ms = time_ms - market.oracle_max_age_ms
    fresh = [
        (report.price_ticks, reporters[key], report.source_time_ms)
        for key, report in market.reports.items()
        if report.source_time_ms >= oldest_ms
    ]
    market.reports_fresh_until_ms = min(
        (entry[2] + market.oracle_max_age_ms for entry in fresh), default=TIME_MAX_MS
    )
    covered = sum(entry[1] for entry in fresh)
    stale = not is_quorum(covered, reporters)
    if stale != market.stale:
        market.stale = stale
        market.dirty = True
    if stale:
        return
    price = compute_weighted_median([(entry[0], entry[1]) for entry in fresh])
    if price != market.index_price:
        market.set_index(price)
        market.dirty = True


def compute_weighted_median(reports: list[tuple[int, int]]) -> int:
    """The least price such that (price, power) pairs at or below it hold half of the power."""
    assert reports, "an index needs reports"
    total = sum(power for _, power in reports)
    below = 0
    for price, power in sorted(reports):
        below += power
        if 2 * below >= total:
            return price
    raise AssertionError("all power together is at least half of it")
