"""What the genesis says of the options on a perpetual's index.

Integers only, so that it travels: rates and volatilities in ppm, times in seconds or milliseconds
as their names say. Defaults are those of the large venues (`docs/design/engine.md`).
"""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from engine.limits import (
    EXPIRIES_MAX,
    PPM,
    SERIES_MAX,
    SETTLEMENT_SAMPLES_MAX,
    STRIKES_PER_EXPIRY_MAX,
    SURFACE_KNOTS_MAX,
)
from engine.portfolio.rules import PortfolioRules

_Ppm = Annotated[int, Meta(ge=0, le=PPM)]
_VolPpm = Annotated[int, Meta(ge=1_000, le=20 * PPM)]


class OptionParams(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """European cash-settled calls and puts on a perpetual's index.

    What is listed follows from these numbers, the clock and the index (`engine.options.listing`);
    nobody decides it. A lot of an option is a lot of its underlying.
    """

    tick_size_microquote: Annotated[int, Meta(ge=1, le=2**48)]
    """Of a price for a whole unit of the base asset."""
    strike_step_ticks: Annotated[int, Meta(ge=1, le=2**31)]
    """Strikes are multiples of it, in ticks of the underlying."""
    strikes_each_side: Annotated[int, Meta(ge=0, le=STRIKES_PER_EXPIRY_MAX // 2)] = 5
    """Beside the one nearest to the index; more are listed as the index moves."""
    strikes_max: Annotated[int, Meta(ge=1, le=STRIKES_PER_EXPIRY_MAX)] = 24
    """Of one expiry."""
    expiries: Annotated[int, Meta(ge=1, le=EXPIRIES_MAX)] = 3
    """So many of the next ones are listed."""
    expiry_interval_ms: Annotated[int, Meta(ge=60_000, le=366 * 86_400_000)] = 86_400_000
    """From one expiry to the next."""
    expiry_offset_ms: Annotated[int, Meta(ge=0, le=366 * 86_400_000)] = 8 * 3_600_000
    """Expiries are multiples of the interval since 1970, and this later: 08:00 UTC."""
    window_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 1_800_000
    """Before an expiry, in which the index is sampled for the settlement price."""
    sample_interval_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 60_000
    """From one sample to the next."""
    mark_interval_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 1_000
    """Marks follow the clock in steps of it, and the index at once."""
    maker_fee_ppm: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0
    """Of the premium; negative: a rebate."""
    taker_fee_ppm: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Of the premium."""
    price_band_ppm: Annotated[int, Meta(ge=1_000, le=PPM)] = 50_000
    """Limit prices lie within so much *of the index* of the mark."""
    open_orders_max: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Of one series."""
    short_initial_ppm: _Ppm = 150_000
    """Of the index: initial margin of a short option, less what it is out of the money."""
    short_initial_min_ppm: _Ppm = 130_000
    """Of the index: at least this."""
    short_maintenance_ppm: _Ppm = 75_000
    """Of the index: maintenance margin of a short option."""
    vol_tenors_s: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=10 * 31_536_000)], ...],
        Meta(min_length=1, max_length=SURFACE_KNOTS_MAX),
    ] = (86_400, 604_800, 2_592_000, 7_776_000)
    """Times to expiry of the surface's rows."""
    vol_moneyness_ppm: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=100 * PPM)], ...],
        Meta(min_length=1, max_length=SURFACE_KNOTS_MAX),
    ] = (800_000, 900_000, 1_000_000, 1_100_000, 1_200_000)
    """Strike over forward of its columns."""
    vol_min_ppm: _VolPpm = 50_000
    """The least that may be reported; 10^6 is 100 % a year."""
    vol_max_ppm: _VolPpm = 5_000_000
    """The largest that may be reported."""
    vol_max_age_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 60_000
    """Reports of volatilities count for so long."""
    portfolio: PortfolioRules | None = None
    """None: no portfolio margin on this underlying, which then is margined by itself."""

    @property
    def series_max(self) -> int:
        """Of this underlying at one time: the listed expiries and one that awaits settlement."""
        return 2 * self.strikes_max * (self.expiries + 1)


def find_option_fault(params: OptionParams, lots_per_base: int) -> str:
    """What is wrong with the parameters of a market's options; nothing if they make sense."""
    if params.tick_size_microquote % lots_per_base:
        return "one lot of an option at one tick is not a whole micro-quote"
    if 2 * params.strikes_each_side + 1 > params.strikes_max:
        return "more strikes around the index than an expiry may have"
    if params.series_max > SERIES_MAX:
        return f"more than {SERIES_MAX} series"
    if params.window_ms % params.sample_interval_ms:
        return "the settlement window is no multiple of the interval of its samples"
    if params.window_ms // params.sample_interval_ms > SETTLEMENT_SAMPLES_MAX:
        return f"more than {SETTLEMENT_SAMPLES_MAX} samples for a settlement"
    if params.window_ms >= params.expiry_interval_ms:
        return "the settlement window is no shorter than the interval of the expiries"
    if params.expiry_offset_ms >= params.expiry_interval_ms:
        return "the offset of the expiries is no less than their interval"
    if params.maker_fee_ppm + params.taker_fee_ppm < 0:
        return "the rebate of an option exceeds its taker fee"
    if not params.short_maintenance_ppm <= params.short_initial_min_ppm <= params.short_initial_ppm:
        return "margins of a short option out of order"
    rules = params.portfolio
    if rules is not None and rules.hedged_delta_ppm > 2 * rules.net_delta_ppm:
        # The floor is (net - hedged / 2) |net delta| + hedged / 2 x (sum of absolute deltas): with
        # the first factor below zero, two positions would need more than both of them apart.
        return "the floor on the hedged delta is more than twice that on the net delta"
    if params.vol_min_ppm > params.vol_max_ppm:
        return "the least volatility is above the largest"
    if len(params.vol_tenors_s) * len(params.vol_moneyness_ppm) > SURFACE_KNOTS_MAX:
        return f"a surface of more than {SURFACE_KNOTS_MAX} knots"
    for knots in (params.vol_tenors_s, params.vol_moneyness_ppm):
        if any(left >= right for left, right in pairwise(knots)):
            return "the knots of the surface do not rise"
    return ""
