"""What the demo market makers quote, as pure functions of price and position.

Several levels on both sides of a reference price, larger further out. A maker leans against its
position: quotes move away from the side on which it already holds much, and that side thins out to
nothing at the position limit. Its position therefore reverts to zero and its account stays solvent
for as long as it runs.
"""

from typing import NamedTuple

from engine.genesis import MarketParams
from engine.instructions import CancelAll, Instruction, PlaceOrder, Side, TimeInForce
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, PPM, PRICE_MAX_TICKS, QUOTE_MICROQUOTE


class QuotePlan(NamedTuple):
    """How a maker quotes one market."""

    levels: int
    """On each side."""
    half_spread_ppm: int
    """Distance of the best quotes from the reference price."""
    level_spacing_ppm: int
    """Distance between neighbouring levels; at least one tick."""
    level_notional_microquote: int
    """Value of the best level; the n-th is n times as large."""
    position_limit_microquote: int
    """Value of a position at which the maker quotes only to reduce it."""
    skew_max_ppm: int
    """How far the whole quote moves at the position limit; below `half_spread_ppm`, so that no
    maker crosses another one that quotes from the same reference."""


DEMO_PLAN = QuotePlan(
    levels=5,
    half_spread_ppm=200,
    level_spacing_ppm=200,
    level_notional_microquote=10_000 * QUOTE_MICROQUOTE,
    position_limit_microquote=5_000_000 * QUOTE_MICROQUOTE,
    skew_max_ppm=150,
)
"""Markets that follow a generated path: 150,000 on each side."""

TAPE_PLAN = QuotePlan(
    levels=8,
    half_spread_ppm=100,
    level_spacing_ppm=200,
    level_notional_microquote=100_000 * QUOTE_MICROQUOTE,
    position_limit_microquote=20_000_000 * QUOTE_MICROQUOTE,
    skew_max_ppm=80,
)
"""The market that replays a tape: 3,600,000 on each side of each maker."""


def compute_depth_lots(plan: QuotePlan, params: MarketParams, reference_ticks: int) -> int:
    """What one maker without a position quotes on each side, in lots."""
    return sum(
        _level_lots(plan, params, reference_ticks, level) for level in range(1, plan.levels + 1)
    )


def _level_lots(plan: QuotePlan, params: MarketParams, price_ticks: int, level: int) -> int:
    lot_value = price_ticks * params.unit_microquote
    wanted = plan.level_notional_microquote * level // lot_value
    return min(max(wanted, 1), params.order_size_max_lots)


def compute_quotes(
    plan: QuotePlan, params: MarketParams, reference_ticks: int, position_lots: int
) -> list[PlaceOrder]:
    """Return the maker's orders, best first, bids and asks in turn; none crosses another.

    Prices round away from the reference: a maker never quotes better than its plan.
    """
    assert reference_ticks >= 1
    limit_lots = max(
        1, plan.position_limit_microquote // (reference_ticks * params.unit_microquote)
    )
    held = min(max(position_lots, -limit_lots), limit_lots)
    # A long maker moves its quotes down: its asks become attractive, its bids do not.
    skew_ppm = -plan.skew_max_ppm * held // limit_lots
    orders = []
    bid_limit, ask_limit = PRICE_MAX_TICKS + 1, 0
    for level in range(1, plan.levels + 1):
        away_ppm = plan.half_spread_ppm + (level - 1) * plan.level_spacing_ppm
        bid = min(reference_ticks * (PPM + skew_ppm - away_ppm) // PPM, bid_limit - 1)
        ask = -(-reference_ticks * (PPM + skew_ppm + away_ppm) // PPM)
        ask = max(ask, ask_limit + 1, bid + 1)
        bid_limit, ask_limit = bid, ask
        lots = _level_lots(plan, params, reference_ticks, level)
        buy_lots = lots * (limit_lots - max(held, 0)) // limit_lots
        sell_lots = lots * (limit_lots + min(held, 0)) // limit_lots
        if bid >= 1 and buy_lots:
            orders.append(_quote(params.market, Side.BUY, bid, buy_lots))
        if ask <= PRICE_MAX_TICKS and sell_lots:
            orders.append(_quote(params.market, Side.SELL, ask, sell_lots))
    return orders


def _quote(market: int, side: Side, price_ticks: int, lots: int) -> PlaceOrder:
    return PlaceOrder(market, side, price_ticks, lots, TimeInForce.POST_ONLY)


def pack_requotes(markets: list[tuple[int, list[PlaceOrder]]]) -> list[list[Instruction]]:
    """Cancel-and-replace bundles: one market's cancel and new quotes share a bundle.

    So one signature moves a market's whole quote, and at no height is it half old, half new.
    """
    bundles: list[list[Instruction]] = []
    for market, orders in markets:
        part: list[Instruction] = [CancelAll(market), *orders]
        assert len(part) <= INSTRUCTIONS_PER_BUNDLE_MAX, "a market's quote fits into one bundle"
        if bundles and len(bundles[-1]) + len(part) <= INSTRUCTIONS_PER_BUNDLE_MAX:
            bundles[-1].extend(part)
        else:
            bundles.append(part)
    return bundles
