"""Portfolio margin of accounts: what `engine.portfolio.scenarios` computes, in the state of the
exchange.

An account that has opted in is margined by what it holds together. Of each underlying whose genesis
has rules for it, the perpetual and the options are one portfolio, tried in its scenarios; markets
without such rules are margined one by one, as everybody's. No underlying hedges another.

    positions   IM and MM of the portfolios, and the cross margin of all other positions
    orders      IM besides: for each market the larger of what its buys and its sells would need if
                each of them were all that the account held
    IM          positions + orders;  MM: positions alone

The form of the margin is subadditive (more held never needs more than both apart; a genesis sees to
it for the floor on deltas), so no fills of what rests can need more than IM. Orders that arrive are
judged together with what they would hedge; what then rests counts by itself. *All ends of all
markets* (rejected): two to the power of their number. Equity counts options at their marks, which
are whole ticks; what these are above the value in the scenarios is part of the margin, so that
rounding up lends nothing. Where initial margin grows with a perpetual's open interest, what it has
grown by is added to IM.

    arriving    admitted if equity covers IM with all of it filled
    maker       trades if equity covers IM before, or the IM of the positions after the fill
    either      else only as a hedge: the IM of the positions falls, what equity has above it (or
                lacks) gets no worse, and neither does the ratio of equity to MM

Needs are convex in what fills, so partial fills are never worse than the worse of both ends.
That holds for several orders, too. Orders that join a call auction stand beside each other until it
clears, and of one account only those of one side can trade: so a hedge among them is one by itself
and with all that have joined before it. Then every part of them is one that may trade at once.

Prices in all scenarios are computed once for new marks, when the first account asks. So are the
sums over an account's positions (`GroupSums`): a fill adds its lots to them, and what it would do
is found by adding its lots and taking them off again. They are exact, so the margins are those of
all positions summed up from nothing, which is what `compute_requirements` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.cross_margin import compute_orders_margin, compute_position_margin
from engine.limits import PORTFOLIO_POSITIONS_MAX, PPM, QUOTE_MICROQUOTE
from engine.options.chains import OptionChain, compute_price
from engine.portfolio.fixed_point import FRACTION_BITS, from_ratio
from engine.portfolio.scenarios import RiskArrays
from engine.portfolio.sums import PositionSums
from engine.portfolio.terms import (
    Instrument,
    InstrumentKind,
    MarketData,
    make_parameters,
)
from engine.receipts import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.accounts.account import Account, Exposure
    from engine.trading.market import Market

_UNIT_LOTS: Final = 1 << 20
"""Lots for which the margin of an order's unit is computed, so that rounding it costs nothing."""


class GroupSums:
    """What an account holds on one underlying, summed up; of one state of the marks."""

    __slots__ = ("_marked", "_perpetual_lots", "chain", "initial", "maintenance", "sums")

    def __init__(self, chain: OptionChain) -> None:
        self.chain = chain
        self._marked = 0
        """Its options at their marks, micro-quote."""
        self._perpetual_lots = 0
        self.sums = PositionSums(get_arrays(chain))
        self.initial = 0
        """As last computed, micro-quote."""
        self.maintenance = 0

    def change(self, market: Market, lots: int) -> None:
        """Add signed lots to one position."""
        # Sizes are in lots, as if these were units of the base asset: what comes out is divided.
        self.sums.change(self.chain.places[market.market_id], lots << FRACTION_BITS)
        if market.series is not None:
            self._marked += lots * market.mark_value
        else:
            self._perpetual_lots += lots

    def compute(self) -> tuple[int, int]:
        """IM and MM of these positions."""
        chain = self.chain
        mark, initial, maintenance = self.sums.compute_needs()
        unit = chain.underlying.params.lots_per_base << FRACTION_BITS
        # Whole ticks above what the scenarios start from are nobody's money.
        needed = max(self._marked - mark * QUOTE_MICROQUOTE // unit, 0)
        crowding = _compute_crowding(chain.underlying, self._perpetual_lots)
        initial_needed = needed + crowding - (-initial * QUOTE_MICROQUOTE // unit)
        return initial_needed, needed - (-maintenance * QUOTE_MICROQUOTE // unit)

    def is_current(self) -> bool:
        """Are the prices those of the present marks?"""
        return self.sums.arrays is self.chain.arrays


class PortfolioCache:
    """What an account with portfolio margin has cached; that it has one is state."""

    __slots__ = ("groups", "initial", "lots", "maintenance")

    def __init__(self) -> None:
        self.lots: dict[int, int] = {}
        """The positions for which the rest holds, by market."""
        self.groups: dict[int, GroupSums] = {}
        """By underlying; those of past marks are dropped (`get_arrays`)."""
        self.initial = 0
        """Of the positions, micro-quote."""
        self.maintenance = 0


def refresh_portfolio(account: Account) -> None:
    """Recompute what an account needs; its IM and those of its exposures are caches of it."""
    cache = account.portfolio
    assert cache is not None, "it has opted in"
    cache.lots = {
        market_id: exposure.lots
        for market_id, exposure in account.exposures.items()
        if exposure.lots
    }
    cache.groups = {}
    cache.initial, cache.maintenance = _sum_up(account, cache.groups)
    for group in cache.groups.values():
        group.chain.portfolios[account.account_id] = cache
    total = cache.initial
    for exposure in account.exposures.values():
        exposure.im = compute_open_margin(exposure.market, exposure.open_buy, exposure.open_sell)
        total += exposure.im
    account.im = total


def update_portfolio_exposure(exposure: Exposure) -> None:
    """Bring the caches in line with a changed exposure."""
    account = exposure.account
    cache = account.portfolio
    assert cache is not None, "it has opted in"
    market = exposure.market
    im = compute_open_margin(market, exposure.open_buy, exposure.open_sell)
    account.im += im - exposure.im
    exposure.im = im
    held = cache.lots.get(market.market_id, 0)
    lots = exposure.lots - held
    if not lots or account.margin_epoch < 0:
        return
    group = _find_group(cache, market)
    if group is not None:
        group.change(market, lots)
        initial, maintenance = group.compute()
        initial_change = initial - group.initial
        cache.maintenance += maintenance - group.maintenance
        group.initial, group.maintenance = initial, maintenance
    elif _is_alone(market):
        initial_change, maintenance_change = _compute_alone_change(market, held, lots)
        cache.maintenance += maintenance_change
    else:
        # Its first position on the underlying: the next use of the caches sums everything up.
        account.margin_epoch = -1
        return
    cache.lots[market.market_id] = exposure.lots
    cache.initial += initial_change
    account.im += initial_change


def _is_alone(market: Market) -> bool:
    """Is it margined by itself, as everybody's position there?"""
    return market.chain is None or market.chain.params.portfolio is None


def _find_group(cache: PortfolioCache, market: Market) -> GroupSums | None:
    """The sums that a position in the market is part of, if they are of the present marks."""
    if market.chain is None:
        return None
    group = cache.groups.get(market.chain.underlying.market_id)
    return group if group is not None and group.is_current() else None


def _compute_alone_change(market: Market, held: int, lots: int) -> tuple[int, int]:
    """By how much IM and MM grow with `lots` more in a market that is margined by itself."""
    after = held + lots
    initial = compute_orders_margin(market, after, -after)
    maintenance = compute_position_margin(market, after)
    return (
        initial - compute_orders_margin(market, held, -held),
        maintenance - compute_position_margin(market, held),
    )


def compute_requirements_after(exposure: Exposure, lots: int) -> tuple[int, int]:
    """IM and MM of the account's positions as if it held `lots` more of one. The caches are
    fresh."""
    account = exposure.account
    cache = account.portfolio
    assert cache is not None, "it has opted in"
    market = exposure.market
    if _is_alone(market):
        initial, maintenance = _compute_alone_change(market, exposure.lots, lots)
        return cache.initial + initial, cache.maintenance + maintenance
    group = _find_group(cache, market)
    if group is None:
        return compute_requirements(account, market, lots)
    group.change(market, lots)
    initial, maintenance = group.compute()
    group.change(market, -lots)
    return (
        cache.initial + initial - group.initial,
        cache.maintenance + maintenance - group.maintenance,
    )


def compute_requirements(
    account: Account, market: Market | None = None, lots: int = 0
) -> tuple[int, int]:
    """IM and MM of the account's positions in micro-quote, as if it held `lots` more of `market`,
    in which it has an exposure; from nothing, whatever is cached."""
    return _sum_up(account, {}, market, lots)


def find_underlying(market: Market) -> int:
    """By which market's id positions are margined together: that of all on one underlying."""
    if market.chain is None or market.chain.params.portfolio is None:
        return market.market_id
    return market.chain.underlying.market_id


def compute_maintenance_of(account: Account, underlyings: Collection[int]) -> int:
    """MM of the positions on some underlyings alone (`find_underlying`), from nothing."""
    maintenance = 0
    groups: dict[int, GroupSums] = {}
    for exposure in account.exposures.values():
        market = exposure.market
        if exposure.lots and find_underlying(market) in underlyings:
            maintenance += _sum_position(groups, market, exposure.lots)[1]
    return maintenance + sum(group.compute()[1] for group in groups.values())


def _sum_position(groups: dict[int, GroupSums], market: Market, lots: int) -> tuple[int, int]:
    """Add a position to the sums of its underlying; IM and MM of one that is alone."""
    chain = market.chain
    if chain is None or chain.params.portfolio is None:
        return compute_orders_margin(market, lots, -lots), compute_position_margin(market, lots)
    underlying_id = chain.underlying.market_id
    group = groups.get(underlying_id)
    if group is None:
        group = groups[underlying_id] = GroupSums(chain)
    group.change(market, lots)
    return 0, 0


def _sum_up(
    account: Account, groups: dict[int, GroupSums], market: Market | None = None, lots: int = 0
) -> tuple[int, int]:
    """IM and MM of all positions, and into `groups` the sums that they come from."""
    initial = maintenance = 0
    for exposure in account.exposures.values():
        each = exposure.market
        held = exposure.lots + lots if each is market else exposure.lots
        if not held:
            continue
        alone_initial, alone_maintenance = _sum_position(groups, each, held)
        initial += alone_initial
        maintenance += alone_maintenance
    for group in groups.values():
        group.initial, group.maintenance = group.compute()
        initial += group.initial
        maintenance += group.maintenance
    return initial, maintenance


def _compute_crowding(underlying: Market, lots: int) -> int:
    """What IM has grown by with the perpetual's open interest (`engine.prices.open_interest`), on
    what the account has of it: options hedge its price and not that it is hard to leave."""
    added_ppm = underlying.scaled_margin_ppm - underlying.initial_margin_ppm
    return -(-abs(lots) * underlying.mark_value * added_ppm // PPM)


def compute_open_margin(market: Market, buys: int, sells: int) -> int:
    """IM of the open orders in one market, in micro-quote, rounded up."""
    if not buys and not sells:
        return 0
    chain = market.chain
    if chain is None or chain.params.portfolio is None:
        # The same as a position of that size would need.
        return compute_orders_margin(market, buys, sells)
    long, short = _get_unit_margins(chain, market)
    return -(-max(buys * long, sells * short) // _UNIT_LOTS)


def _get_unit_margins(chain: OptionChain, market: Market) -> tuple[int, int]:
    """IM of `_UNIT_LOTS` bought, and sold, by themselves; at the first use since marks moved."""
    get_arrays(chain)
    margins = chain.unit_margins.get(market.market_id)
    if margins is None:
        group = GroupSums(chain)
        group.change(market, _UNIT_LOTS)
        long, _ = group.compute()
        group.change(market, -2 * _UNIT_LOTS)
        short, _ = group.compute()
        margins = chain.unit_margins[market.market_id] = (long, short)
    return margins


def get_arrays(chain: OptionChain) -> RiskArrays:
    """The prices of everything on an underlying in all scenarios, at the present marks."""
    if chain.arrays is None:
        assert chain.params.portfolio is not None, "only with rules there are scenarios"
        markets = [chain.underlying]
        instruments = [_make_perpetual(chain)]
        for expiry in chain.expiries.values():
            total, parts = chain.compute_forward(expiry)
            forward = compute_price(chain.underlying, total, parts)
            fixed = compute_price(chain.underlying, expiry.sample_sum, parts)
            time_s = from_ratio(chain.compute_time_left_ms(expiry), 1_000)
            for market in expiry.markets():
                series = market.series
                assert series is not None, "an expiry has options alone"
                markets.append(market)
                instruments.append(
                    Instrument(
                        InstrumentKind.CALL if series.is_call else InstrumentKind.PUT,
                        instruments[0].spot,
                        forward,
                        time_s=time_s,
                        strike=series.strike,
                        vol=from_ratio(series.vol_ppm, PPM),
                        forward_fixed=fixed,
                    )
                )
        chain.places = {market.market_id: place for place, market in enumerate(markets)}
        chain.unit_margins = {}
        for cache in chain.portfolios.values():
            cache.groups.pop(chain.underlying.market_id, None)
        chain.portfolios = {}
        rules = make_parameters(chain.params.portfolio)
        chain.arrays = RiskArrays(MarketData(tuple(instruments)), rules)
    return chain.arrays


def _make_perpetual(chain: OptionChain) -> Instrument:
    market = chain.underlying
    return Instrument(
        InstrumentKind.PERP,
        compute_price(market, market.index_price, 1),
        compute_price(market, market.mark_price, 1),
    )


def check_portfolio_order(
    exposure: Exposure, lots: int, equity_change: int, joined: int = 0
) -> ReasonCode:
    """May an order of `lots` (signed) be placed? The caches are fresh.

    `joined` are the lots (signed) of orders of its side that may trade together with it, which are
    open and have been checked; what they may cost is in `equity_change`.
    """
    account = exposure.account
    assert account.portfolio is not None, "it has opted in"
    is_new = not exposure.lots and not exposure.order_count
    if is_new and count_markets(account) >= PORTFOLIO_POSITIONS_MAX:
        return ReasonCode.PORTFOLIO_TOO_MANY_MARKETS
    orders_margin = account.im - account.portfolio.initial
    initial, maintenance = compute_requirements_after(exposure, lots)
    if account.equity + equity_change - initial >= orders_margin:
        return ReasonCode.OK
    if not _is_hedging_transition(account, initial, maintenance, equity_change):
        return ReasonCode.MARGIN_INSUFFICIENT
    if joined:
        initial, maintenance = compute_requirements_after(exposure, lots + joined)
        if not _is_hedging_transition(account, initial, maintenance, equity_change):
            return ReasonCode.MARGIN_INSUFFICIENT
    return ReasonCode.OK


def count_markets(account: Account) -> int:
    """Markets in which the account has a position or open orders."""
    return sum(1 for each in account.exposures.values() if each.lots or each.order_count)


def is_portfolio_fill_allowed(exposure: Exposure, lots: int, equity_change: int) -> bool:
    """May a resting order of the account trade `lots` (signed), given what that does to its equity?
    The caches are fresh."""
    account = exposure.account
    initial, maintenance = compute_requirements_after(exposure, lots)
    if account.equity + equity_change >= initial:
        return True
    return _is_hedging_transition(account, initial, maintenance, equity_change)


def _is_hedging_transition(
    account: Account, initial: int, maintenance: int, equity_change: int
) -> bool:
    """May an account that does not cover its margin go over to positions with this IM and MM?

    As with cross margin (`engine.margin.is_reducing_transition`): what it gives away must not lower
    the ratio of equity to MM, `equity' x MM >= equity x MM'` in integers. So nobody trades equity
    below zero, and whose equity is negative already hedges only at a gain. Besides, IM falls, by no
    less than equity does; and MM does not rise, for with less than nothing a ratio rises with it.
    """
    cache = account.portfolio
    assert cache is not None, "it has opted in"
    if initial >= cache.initial or maintenance > cache.maintenance:
        return False
    if equity_change < initial - cache.initial:
        return False
    equity = account.equity
    if cache.maintenance == 0:
        # There is no ratio: what it has may be lost, what it has not may not.
        return equity + equity_change >= min(equity, 0)
    return (equity + equity_change) * cache.maintenance >= equity * maintenance
