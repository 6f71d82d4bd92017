"""Reading the state: what a gateway shows. Pure functions; nothing here changes anything."""

from itertools import islice

from msgspec import Struct

from engine.accounts.account import Account
from engine.accounts.fees import compute_epoch_volume, compute_tier, compute_trailing_volume
from engine.block import SessionScope
from engine.cross_margin import compute_orders_margin, compute_position_margin
from engine.genesis import Matching
from engine.instructions import (
    MarginMode,
    SelfTradeMode,
    Side,
    TimeInForce,
    TriggerKind,
    TriggerSource,
)
from engine.limits import DEPTH_LEVELS_MAX
from engine.liquidation.views import LiquidationView, view_liquidation
from engine.margin import compute_equity
from engine.options.views import GreeksView, OptionView, view_greeks, view_option
from engine.portfolio.margin import compute_open_margin, compute_requirements
from engine.prices.funding import compute_settlement
from engine.state import EngineState
from engine.trading.book import BookSide, Order
from engine.trading.market import Market
from engine.waiting.orders import Conditional, Twap


class MarketView(Struct, frozen=True, array_like=True):
    """One market."""

    market: int
    symbol: str
    tick_size_microquote: int
    lots_per_base: int
    unit_microquote: int
    initial_margin_ppm: int
    """Of the value at the mark; of an option all of it, for long positions alone (`option`)."""
    maintenance_margin_ppm: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    index_price_ticks: int
    """0 before the first index. Of an option its mark: the index is that of its underlying."""
    is_stale: bool
    band_low_ticks: int
    band_high_ticks: int
    best_bid_ticks: int | None
    best_ask_ticks: int | None
    open_orders: int
    funding_rate_ppb: int | None
    """The last rate, for eight hours; None: the market has no funding, or no interval of it has
    ended since genesis."""
    funding_due_ms: int
    """Block time of the next payment; 0: not known yet, or never."""
    mark_price_ticks: int
    """What positions are valued and margined at; 0 before the first index."""
    matching: Matching
    """How takers trade."""
    open_interest_lots: int
    """All long positions, which are as large as all short ones."""
    scaled_margin_ppm: int
    """The initial margin in force, which may grow with open interest."""
    option: OptionView | None
    """None for a perpetual."""


class LevelView(Struct, frozen=True, array_like=True):
    """All orders at one price."""

    price_ticks: int
    size_lots: int
    orders: int


class BookView(Struct, frozen=True, array_like=True):
    """The best levels of a market, best first."""

    market: int
    bids: tuple[LevelView, ...]
    asks: tuple[LevelView, ...]


class PositionView(Struct, frozen=True, array_like=True):
    """An account's exposure in one market."""

    market: int
    size_lots: int
    """Negative for a short."""
    value_microquote: int
    """At the mark, signed."""
    open_buy_lots: int
    open_sell_lots: int
    initial_margin_microquote: int
    """Of this market by itself, as cross margin has it."""
    maintenance_margin_microquote: int
    greeks: GreeksView


class OrderView(Struct, frozen=True, array_like=True):
    """One open order."""

    order_id: int
    owner: bytes
    market: int
    side: Side
    price_ticks: int
    size_lots: int
    client_id: int
    tif: TimeInForce
    self_trade: SelfTradeMode
    reduce_only: bool
    good_til_ms: int


class ConditionalView(Struct, frozen=True, array_like=True):
    """One order that waits for a price."""

    order_id: int
    owner: bytes
    market: int
    side: Side
    kind: TriggerKind
    """A trailing stop is a stop order with an offset."""
    source: TriggerSource
    trigger_ticks: int
    """Where it is now."""
    offset_ticks: int
    """How far a trailing stop's trigger follows; 0 for all others."""
    price_ticks: int
    """The limit; 0 for a trailing stop, which trades up to `slack_ticks` beyond its trigger."""
    slack_ticks: int
    size_lots: int
    client_id: int
    tif: TimeInForce
    self_trade: SelfTradeMode
    reduce_only: bool
    good_til_ms: int
    partner_order_id: int
    """The other leg, which ends with it; 0 for none."""
    is_fired: bool
    """Its trigger was reached; it runs in the next block."""


class TwapView(Struct, frozen=True, array_like=True):
    """One order that trades in slices."""

    order_id: int
    owner: bytes
    market: int
    side: Side
    price_ticks: int
    size_lots: int
    filled_lots: int
    client_id: int
    self_trade: SelfTradeMode
    reduce_only: bool
    slices: int
    next_slice: int
    """Counted from 1."""
    next_slice_ms: int
    """When it is due."""
    ends_ms: int


class WithdrawalView(Struct, frozen=True, array_like=True):
    """One withdrawal that L1 has not settled."""

    withdrawal_id: int
    destination: bytes
    """An address on L1."""
    amount_microquote: int
    height: int
    """Of the block that took it."""


class SubAccountView(Struct, frozen=True, array_like=True):
    """One sub-account, in short."""

    sub: int
    account: bytes
    equity_microquote: int


class SessionView(Struct, frozen=True, array_like=True):
    """One session key."""

    key: bytes
    scope: SessionScope
    expires_ms: int
    markets: tuple[int, ...]
    """Empty: all."""
    subs: tuple[int, ...]
    """Empty: all of the owner's accounts."""
    spend_max_microquote: int | None
    spent_microquote: int
    """Counted only under a cap."""


class FeeTierView(Struct, frozen=True, array_like=True):
    """Where an account stands in the fee schedule; a sub-account stands with its owner."""

    tier: int
    """0: each market's own fees."""
    volume_microquote: int
    """What counted for it: that of full epochs."""
    taker_reduction_ppm: int
    maker_reduction_ppm: int
    next_volume_microquote: int | None
    """What the next tier asks for; None: this is the best."""
    epoch_volume_microquote: int
    """Traded in the present epoch, which does not count yet."""
    epoch_ends_ms: int
    """Block time from which on it does."""


class AccountView(Struct, frozen=True, array_like=True):
    """One account, margined at the current marks."""

    account: bytes
    quote_microquote: int
    """What funding is owed and not yet settled included."""
    equity_microquote: int
    initial_margin_microquote: int
    maintenance_margin_microquote: int
    positions: tuple[PositionView, ...]
    """Markets with a position or open orders, by id."""
    orders: tuple[OrderView, ...]
    """By id."""
    conditionals: tuple[ConditionalView, ...] = ()
    twaps: tuple[TwapView, ...] = ()
    dead_man_deadline_ms: int = 0
    """When everything open and waiting is cancelled; 0 for never."""
    withdrawals: tuple[WithdrawalView, ...] = ()
    """On their way to L1, oldest first."""
    owner: bytes | None = None
    """Whose sub-account it is; None for a main account."""
    sub: int = 0
    """Its number among the owner's; 0 for a main account."""
    sub_accounts: tuple[SubAccountView, ...] = ()
    """By number."""
    sessions: tuple[SessionView, ...] = ()
    """Keys that may act for it, by key."""
    fee_tier: FeeTierView | None = None
    """None: everybody pays each market's own fees."""
    margin_mode: MarginMode = MarginMode.CROSS
    """With portfolio margin the account's margins are not the sums of its positions'."""
    liquidation: LiquidationView | None = None
    """None: it is not under liquidation."""


def view_markets(state: EngineState) -> tuple[MarketView, ...]:
    """All markets, by id."""
    return tuple(
        MarketView(
            market.market_id,
            market.params.symbol,
            market.params.tick_size_microquote,
            market.params.lots_per_base,
            market.unit,
            market.initial_margin_ppm,
            market.maintenance_margin_ppm,
            market.maker_fee_ppm,
            market.taker_fee_ppm,
            market.index_price,
            market.stale,
            market.band_low,
            market.band_high,
            market.book.bids.best_price(),
            market.book.asks.best_price(),
            market.book.order_count,
            _view_funding_rate(state, market),
            0 if market.funding is None else market.funding.due_ms,
            market.mark_price,
            market.params.matching,
            market.open_interest,
            market.scaled_margin_ppm,
            view_option(market),
        )
        for market in state.markets.values()
    )


def _view_funding_rate(state: EngineState, market: Market) -> int | None:
    funding = market.funding
    if funding is None or funding.due_ms - funding.params.interval_ms <= state.genesis.time_ms:
        return None
    return funding.rate_ppb


def view_book(state: EngineState, market_id: int, levels: int) -> BookView | None:
    """Up to `levels` (at most `DEPTH_LEVELS_MAX`) levels of each side; None: no such market."""
    market = state.markets.get(market_id)
    if market is None:
        return None
    count = min(max(levels, 0), DEPTH_LEVELS_MAX)
    return BookView(
        market_id, _view_side(market.book.bids, count), _view_side(market.book.asks, count)
    )


def _view_side(side: BookSide, count: int) -> tuple[LevelView, ...]:
    return tuple(
        LevelView(side.sign * key, side.levels[key].lots, side.levels[key].count)
        for key in islice(reversed(side.keys), count)
    )


def view_account(state: EngineState, account_id: bytes) -> AccountView | None:
    """An account's balance, margin, positions and orders; None: no such account.

    Margin is computed here from the state alone, not from the engine's caches.
    """
    account = state.accounts.get(account_id)
    if account is None:
        return None
    positions = _view_positions(account)
    initial = sum(position.initial_margin_microquote for position in positions)
    maintenance = sum(position.maintenance_margin_microquote for position in positions)
    if account.portfolio is not None:
        initial, maintenance = compute_requirements(account)
        initial += sum(
            compute_open_margin(each.market, each.open_buy, each.open_sell)
            for each in account.exposures.values()
        )
    waiting = account.waiting.values()
    return AccountView(
        account_id,
        account.quote + compute_settlement(account),
        compute_equity(state, account),
        initial,
        maintenance,
        positions,
        tuple(_view_order(order) for order in account.orders.values()),
        tuple(_view_conditional(order) for order in waiting if isinstance(order, Conditional)),
        tuple(_view_twap(order) for order in waiting if isinstance(order, Twap)),
        account.deadline_ms,
        tuple(
            WithdrawalView(each.withdrawal_id, each.destination, each.amount, each.height)
            for each in account.withdrawals.values()
        ),
        account.owner.account_id if account.sub else None,
        account.sub,
        tuple(
            SubAccountView(number, each.account_id, compute_equity(state, each))
            for number, each in sorted(account.subs.items())
        ),
        _view_sessions(state, account),
        _view_fee_tier(state, account.owner),
        MarginMode.CROSS if account.portfolio is None else MarginMode.PORTFOLIO,
        view_liquidation(state, account),
    )


def _view_positions(account: Account) -> tuple[PositionView, ...]:
    """By market, those with orders alone too."""
    positions: list[PositionView] = []
    for market_id, exposure in sorted(account.exposures.items()):
        if not exposure.lots and not exposure.order_count:
            continue
        market = exposure.market
        lots = exposure.lots
        positions.append(
            PositionView(
                market_id,
                lots,
                lots * market.mark_value,
                exposure.open_buy,
                exposure.open_sell,
                compute_orders_margin(market, lots + exposure.open_buy, exposure.open_sell - lots),
                compute_position_margin(market, lots),
                view_greeks(market, lots),
            )
        )
    return tuple(positions)


def _view_sessions(state: EngineState, account: Account) -> tuple[SessionView, ...]:
    """By key; none that has expired."""
    return tuple(
        SessionView(
            key, each.scope, each.expires_ms, each.markets, each.subs, each.spend_max, each.spent
        )
        for key, each in sorted(account.sessions.items())
        if each.expires_ms > state.time_ms
    )


def _view_fee_tier(state: EngineState, owner: Account) -> FeeTierView | None:
    fees = state.genesis.fee_tiers
    if fees is None:
        return None
    tier = compute_tier(state, owner)
    reached = fees.tiers[tier - 1] if tier else None
    return FeeTierView(
        tier,
        compute_trailing_volume(state, owner),
        0 if reached is None else reached.taker_reduction_ppm,
        0 if reached is None else reached.maker_reduction_ppm,
        fees.tiers[tier].volume_microquote if tier < len(fees.tiers) else None,
        compute_epoch_volume(state, owner),
        state.fee_epoch * fees.epoch_ms,
    )


def view_order(state: EngineState, order_id: int) -> OrderView | None:
    """An open order; None: it is not open (any more)."""
    order = state.orders.get(order_id)
    return None if order is None else _view_order(order)


def view_waiting(state: EngineState, order_id: int) -> ConditionalView | TwapView | None:
    """An order that waits for a price or a time; None: it does not (any more)."""
    order = state.waiting.get(order_id)
    if isinstance(order, Conditional):
        return _view_conditional(order)
    return _view_twap(order) if isinstance(order, Twap) else None


def _view_conditional(order: Conditional) -> ConditionalView:
    return ConditionalView(
        order.order_id,
        order.account.account_id,
        order.market.market_id,
        Side.BUY if order.side > 0 else Side.SELL,
        TriggerKind.STOP if order.sense == -order.side else TriggerKind.TAKE_PROFIT,
        order.source,
        order.trigger,
        order.offset,
        order.price,
        order.slack,
        order.lots,
        order.client_id,
        order.tif,
        order.self_trade,
        order.reduce_only,
        order.good_til_ms,
        order.partner,
        order.is_fired,
    )


def _view_twap(order: Twap) -> TwapView:
    return TwapView(
        order.order_id,
        order.account.account_id,
        order.market.market_id,
        Side.BUY if order.side > 0 else Side.SELL,
        order.price,
        order.size,
        order.size - order.lots,
        order.client_id,
        order.self_trade,
        order.reduce_only,
        order.slices,
        order.next_slice,
        order.due_ms(),
        order.start_ms + order.slices * order.interval_ms,
    )


def _view_order(order: Order) -> OrderView:
    return OrderView(
        order.order_id,
        order.exposure.account.account_id,
        order.exposure.market.market_id,
        Side.BUY if order.side > 0 else Side.SELL,
        order.price,
        order.lots,
        order.client_id,
        order.tif,
        order.self_trade,
        order.reduce_only,
        order.good_til_ms,
    )
