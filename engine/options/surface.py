"""The volatility surface of an underlying: a median of what the committee's members report.

A report is a whole surface: volatilities at fixed times to expiry (rows) and fixed ratios of strike
to forward (columns). So whoever reports need not know what is listed, and a new expiry has
volatilities from its first block on. Each knot of the surface is the power-weighted median of that
knot over the fresh reports, by the rules of the index (`engine.prices.oracle`): members with less
than a third of the power cannot move a knot beyond what honest members say of it; without a quorum
the surface is stale and keeps what it was.

Between columns volatility is linear in the ratio of strike to forward, between rows the total
variance is linear in time; beyond the outermost knots volatility is flat. All are rounded down, to
10^-6. *A formula with five parameters* (rejected): a median of parameters is no surface that
anybody has reported.
"""

from bisect import bisect_right

from engine.instructions import VolatilityReport
from engine.limits import PPM, TIME_MAX_MS
from engine.options.chains import OptionChain, VolReport
from engine.options.params import OptionParams
from engine.portfolio.fixed_point import compute_isqrt
from engine.prices.oracle import check_source, compute_weighted_median, is_quorum
from engine.receipts import ReasonCode
from engine.run import BlockRun
from engine.state import EngineState


def accept_volatilities(run: BlockRun, reporter: bytes, report: VolatilityReport) -> ReasonCode:
    """Take a member's surface, or say why not."""
    if reporter not in run.state.reporters:
        return ReasonCode.ORACLE_NOT_A_REPORTER
    chain = run.state.chains.get(report.market)
    if chain is None:
        return ReasonCode.ORACLE_UNKNOWN_MARKET
    params = chain.params
    if len(report.vols_ppm) != len(params.vol_tenors_s) * len(params.vol_moneyness_ppm):
        return ReasonCode.OPTION_SURFACE_INVALID
    if not all(params.vol_min_ppm <= vol <= params.vol_max_ppm for vol in report.vols_ppm):
        return ReasonCode.OPTION_SURFACE_INVALID
    previous = chain.reports.get(reporter)
    code = check_source(
        run.time_ms,
        params.vol_max_age_ms,
        report.sequence,
        report.source_time_ms,
        0 if previous is None else previous.sequence,
        0 if previous is None else previous.source_time_ms,
    )
    if code is ReasonCode.OK:
        chain.reports[reporter] = VolReport(report.vols_ppm, report.sequence, report.source_time_ms)
        chain.reports_fresh_until_ms = -1
        chain.dirty = True
    return code


def forget_reporters(state: EngineState) -> None:
    """The committee has changed: drop the surfaces of those who left."""
    for chain in state.chains.values():
        chain.reports_fresh_until_ms = -1
        for key in [key for key in chain.reports if key not in state.reporters]:
            del chain.reports[key]
            chain.dirty = True


def update_surface(chain: OptionChain, reporters: dict[bytes, int], time_ms: int) -> None:
    """Recompute the surface if reports came, left or grew too old."""
    if time_ms <= chain.reports_fresh_until_ms:
        return
    max_age_ms = chain.params.vol_max_age_ms
    fresh = [
        (report, reporters[key])
        for key, report in chain.reports.items()
        if report.source_time_ms >= time_ms - max_age_ms
    ]
    chain.reports_fresh_until_ms = min(
        (report.source_time_ms + max_age_ms for report, _ in fresh), default=TIME_MAX_MS
    )
    stale = not is_quorum(sum(power for _, power in fresh), reporters)
    if stale != chain.stale:
        chain.stale = stale
        chain.dirty = True
    if stale:
        return
    vols_ppm = tuple(
        compute_weighted_median([(report.vols_ppm[knot], power) for report, power in fresh])
        for knot in range(len(chain.params.vol_tenors_s) * len(chain.params.vol_moneyness_ppm))
    )
    if vols_ppm != chain.vols_ppm:
        chain.vols_ppm = vols_ppm
        chain.dirty = True


def compute_vol_ppm(
    params: OptionParams, vols_ppm: tuple[int, ...], moneyness_ppm: int, time_ms: int
) -> int:
    """The volatility at a ratio of strike to forward and a time to expiry above zero."""
    tenors = params.vol_tenors_s
    row = bisect_right(tenors, time_ms // 1_000)
    if row == 0:
        return _compute_row_ppm(params, vols_ppm, 0, moneyness_ppm)
    early = _compute_row_ppm(params, vols_ppm, row - 1, moneyness_ppm)
    if row == len(tenors):
        return early
    late = _compute_row_ppm(params, vols_ppm, row, moneyness_ppm)
    early_ms, late_ms = tenors[row - 1] * 1_000, tenors[row] * 1_000
    # Of both weights together the variance is at most a few times 10^24.
    weighted = early * early * early_ms * (late_ms - time_ms)
    weighted += late * late * late_ms * (time_ms - early_ms)
    return compute_isqrt(weighted // (time_ms * (late_ms - early_ms)))


def _compute_row_ppm(
    params: OptionParams, vols_ppm: tuple[int, ...], row: int, moneyness_ppm: int
) -> int:
    knots = params.vol_moneyness_ppm
    start = row * len(knots)
    column = bisect_right(knots, moneyness_ppm)
    if column == 0:
        return vols_ppm[start]
    left = vols_ppm[start + column - 1]
    if column == len(knots):
        return left
    right = vols_ppm[start + column]
    low, high = knots[column - 1], knots[column]
    return left + (right - left) * (moneyness_ppm - low) // (high - low)


def compute_moneyness_ppm(strike_ticks: int, forward_ticks: int, parts: int) -> int:
    """Strike over a forward of `forward_ticks / parts` ticks, rounded down."""
    return strike_ticks * parts * PPM // forward_ticks
