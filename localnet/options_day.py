"""A day of options that takes minutes: what is listed, and who trades it. Pure.

*Quoters* quote every open series on both sides around the volatility that the members report.
*Takers* buy and sell at random. Two *spreaders* with equal deposits try the same vertical spreads:
they buy a call and sell the one of the next strike against it, the first margined by its portfolio,
the second crosswise. `localnet.options_crowd` has them act.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from engine.genesis import MarketParams
from engine.instructions import MarketOrder, PlaceOrder, Side, TimeInForce
from engine.limits import PPM, QUOTE_MICROQUOTE
from engine.options.params import OptionParams
from engine.portfolio.black76 import compute_prices
from engine.portfolio.fixed_point import FRACTION_BITS, from_ratio
from localnet.crash import Deposits, find_market
from localnet.markets import AccountPlan
from localnet.splitmix import SplitMix
from node.cli.views import MarketInfo

EXPIRIES: Final = 2
"""Listed at a time, beside the one whose window has begun."""

STRIKES_MAX: Final = 10
"""Of one expiry: the index takes further ones along."""

TENORS_S: Final = (30, 120)
MONEYNESS_PPM: Final = (990_000, 995_000, 1_000_000, 1_005_000, 1_010_000)
"""Knots of the surface where series of minutes are: near, and close to the index."""

QUOTE_LOTS_A_BASE: Final = 2
"""Whole units of the base asset that a quoter offers on each side of a series."""

HALF_SPREAD_PPM: Final = 100_000
"""Of the volatility: a quoter buys at so much less, and sells at so much more."""

EDGE_MICROQUOTE: Final = QUOTE_MICROQUOTE
"""Besides, for a whole unit: a quote is older than the index that it meets."""

TAKE_MAX_TENTHS: Final = 4
"""A taker's order is at most so many tenths of a whole unit."""

SPREAD_PARTS_OF_BASE: Final = 2
"""A spread is on one whole unit over this."""

SPREAD_LEFT_MIN_MS: Final = 8_000
"""No spread is begun in a series that lives no longer."""


PORTFOLIO_SPREADER: Final = "spreader-portfolio"
CROSS_SPREADER: Final = "spreader-cross"
"""Names of the two accounts."""


class OptionsDay(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of one market whose series live for minutes."""

    market: str
    expiry_every_s: Annotated[float, Meta(ge=60)]
    """From one expiry to the next, on round times of the clock."""
    window_s: Annotated[float, Meta(gt=0)]
    """Before an expiry, in which the index is sampled."""
    sample_every_s: Annotated[float, Meta(gt=0)]
    strike_step: Annotated[int, Meta(ge=1, le=1_000_000)]
    """From one strike to the next, in whole units of quote."""
    strikes_each_side: Annotated[int, Meta(ge=1, le=4)]
    """Of the one nearest to the index."""
    spreader: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    """What each of the two spreaders has, in whole units of quote."""
    quoters: Deposits = ()
    takers: Deposits = ()

    def option_params(self, base: MarketParams) -> OptionParams:
        """Those of the market's own options, brought down to minutes."""
        assert base.options is not None, "somebody has checked"
        return replace(
            base.options,
            strike_step_ticks=max(
                1, self.strike_step * QUOTE_MICROQUOTE // base.tick_size_microquote
            ),
            strikes_each_side=self.strikes_each_side,
            strikes_max=STRIKES_MAX,
            expiries=EXPIRIES,
            expiry_interval_ms=round(1_000 * self.expiry_every_s),
            expiry_offset_ms=0,
            window_ms=round(1_000 * self.window_s),
            sample_interval_ms=max(1, round(1_000 * self.sample_every_s)),
            vol_tenors_s=TENORS_S,
            vol_moneyness_ppm=MONEYNESS_PPM,
        )

    def markets(self, markets: Sequence[MarketParams]) -> tuple[MarketParams, ...]:
        """These, one of them with series that live for minutes."""
        own = find_market(markets, self.market)
        ours = replace(own, options=self.option_params(own))
        return tuple(ours if each is own else each for each in markets)

    def accounts(self) -> tuple[AccountPlan, ...]:
        """Whom the genesis needs beside a localnet's own accounts."""
        pairs = [
            *zip(self.quoter_names(), self.quoters, strict=True),
            *zip(self.taker_names(), self.takers, strict=True),
            (PORTFOLIO_SPREADER, self.spreader),
            (CROSS_SPREADER, self.spreader),
        ]
        return tuple(AccountPlan(name, whole * QUOTE_MICROQUOTE, False) for name, whole in pairs)

    def quoter_names(self) -> list[str]:
        """By number."""
        return [f"quoter{number}" for number in range(len(self.quoters))]

    def taker_names(self) -> list[str]:
        """By number."""
        return [f"taker{number}" for number in range(len(self.takers))]


class Spread(NamedTuple):
    """A call that is bought, and one of a higher strike that is sold against it; market ids."""

    bought: int
    sold: int


class SpreadAttempt(NamedTuple):
    """One account's attempt at a spread, after its first leg has traded."""

    account: str
    bought: str
    sold: str
    lots: int
    envelope_id: bytes
    """Of the order that sells."""


def find_open_series(markets: Iterable[MarketInfo], underlying: int) -> list[MarketInfo]:
    """The series that take orders, by id."""
    return [
        each
        for each in markets
        if each.option is not None
        and each.option.underlying == underlying
        and each.option.vol_ppm > 0
        and each.index_price_ticks > 0
        and not each.option.is_closed
    ]


def compute_option_quotes(
    series: MarketInfo, strike_microquote: int, now_ms: int
) -> list[PlaceOrder]:
    """A bid and an ask by Black-76 at the forward that the exchange shows, with a volatility below
    and one above that of the members; prices round away from each other. The bid is left out where
    it would be nothing, and so is what the band would refuse."""
    option = series.option
    assert option is not None, "it is a series"
    forward = from_ratio(option.forward_microquote, QUOTE_MICROQUOTE)
    strike = from_ratio(strike_microquote, QUOTE_MICROQUOTE)
    time_s = from_ratio(max(option.expiry_ms - now_ms, 0), 1_000)
    low, high = (
        prices.call if option.is_call else prices.put
        for prices in (
            compute_prices(forward, strike, from_ratio(vol_ppm, PPM), time_s)
            for vol_ppm in (
                option.vol_ppm * (PPM - HALF_SPREAD_PPM) // PPM,
                option.vol_ppm * (PPM + HALF_SPREAD_PPM) // PPM,
            )
        )
    )
    tick = series.tick_size_microquote
    bid = ((low * QUOTE_MICROQUOTE >> FRACTION_BITS) - EDGE_MICROQUOTE) // tick
    ask = -(((-high * QUOTE_MICROQUOTE >> FRACTION_BITS) - EDGE_MICROQUOTE) // tick)
    lots = QUOTE_LOTS_A_BASE * series.lots_per_base
    return [
        PlaceOrder(series.market, side, ticks, lots, TimeInForce.POST_ONLY)
        for side, ticks in ((Side.BUY, bid), (Side.SELL, ask))
        if max(1, series.band_low_ticks) <= ticks <= series.band_high_ticks
    ]


def compute_take(series: MarketInfo, side: Side, lots: int) -> MarketOrder | None:
    """An order that takes what is quoted, even if the quote moves a little; None if there is no
    quote on the other side."""
    best = series.best_ask_ticks if side is Side.BUY else series.best_bid_ticks
    if best is None:
        return None
    slack = best // 4 + 1 + 2 * EDGE_MICROQUOTE // series.tick_size_microquote
    protective = min(max(best + side * slack, 1, series.band_low_ticks), series.band_high_ticks)
    return MarketOrder(series.market, side, protective, lots)


def compute_random_take(random: SplitMix, open_series: Sequence[MarketInfo]) -> MarketOrder | None:
    """Either side of any series that is quoted there."""
    if not open_series:
        return None
    series = open_series[random.below(len(open_series))]
    side = Side.BUY if random.below(2) else Side.SELL
    lots = 1 + random.below(max(1, TAKE_MAX_TENTHS * series.lots_per_base // 10))
    return compute_take(series, side, lots)


def choose_spread(open_series: Iterable[MarketInfo], expiry_ms: int) -> Spread | None:
    """The highest call of the expiry with a delta of at least a half, or else the lowest, and the
    next one above; only such as are quoted where they would be taken, and None without any."""
    calls = sorted(
        (option.strike_ticks, each.market, each)
        for each in open_series
        if (option := each.option) is not None and option.is_call and option.expiry_ms == expiry_ms
    )
    chosen = None
    for (_, _, lower), (_, _, upper) in pairwise(calls):
        option = lower.option
        assert option is not None, "it is a call"
        is_quoted = lower.best_ask_ticks is not None and upper.best_bid_ticks is not None
        if is_quoted and (chosen is None or option.greeks.delta_micro >= PPM // 2):
            chosen = Spread(lower.market, upper.market)
    return chosen
