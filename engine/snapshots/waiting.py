"""What waits, as snapshots hold it: orders by id and deadlines by account, packed and checked."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from crypto.types import Digest, Uint
from engine.accounts.account import Account
from engine.errors import SnapshotError
from engine.instructions import SelfTradeMode, Side, TimeInForce, TriggerSource
from engine.limits import ORDER_SIZE_MAX_LOTS, PRICE_MAX_TICKS
from engine.snapshots.checks import require_rising
from engine.state import EngineState
from engine.trading.market import Market
from engine.waiting.dead_man import set_deadline
from engine.waiting.orders import Conditional, Twap, Waiting
from engine.waiting.waitlist import add_waiting

_Lots = Annotated[int, Meta(ge=1, le=ORDER_SIZE_MAX_LOTS)]
_Ticks = Annotated[int, Meta(ge=0, le=PRICE_MAX_TICKS)]
_Trigger = Annotated[int, Meta(ge=-PRICE_MAX_TICKS, le=2 * PRICE_MAX_TICKS)]
_Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]

Deadline = tuple[Digest, _Positive]
"""(account, time in milliseconds) of a dead man's switch that is armed."""


class SnapshotWaiting(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all orders that wait have in common."""

    order_id: Uint
    owner: Digest
    market: Uint
    side: Side
    price_ticks: _Ticks
    lots: _Lots
    client_id: Uint
    self_trade: SelfTradeMode
    reduce_only: bool


class SnapshotConditional(
    SnapshotWaiting, frozen=True, array_like=True, forbid_unknown_fields=True
):
    """One conditional order."""

    sense: Literal[-1, 1]
    source: TriggerSource
    trigger_ticks: _Trigger
    offset_ticks: _Ticks
    slack_ticks: _Ticks
    tif: TimeInForce
    good_til_ms: Uint
    partner: Uint
    is_fired: bool


class SnapshotTwap(SnapshotWaiting, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One TWAP order."""

    size_lots: _Lots
    start_ms: Uint
    interval_ms: _Positive
    slices: _Positive
    next_slice: _Positive


def _pack_common(
    order: Waiting,
) -> tuple[int, bytes, int, Side, int, int, int, SelfTradeMode, bool]:
    return (
        order.order_id,
        order.account.account_id,
        order.market.market_id,
        Side.BUY if order.side > 0 else Side.SELL,
        order.price,
        order.lots,
        order.client_id,
        order.self_trade,
        order.reduce_only,
    )


def _unpack_common(
    packed: SnapshotWaiting, account: Account, market: Market
) -> tuple[int, Account, Market, int, int, int, int, SelfTradeMode, bool]:
    return (
        packed.order_id,
        account,
        market,
        1 if packed.side is Side.BUY else -1,
        packed.price_ticks,
        packed.lots,
        packed.client_id,
        packed.self_trade,
        packed.reduce_only,
    )


def pack_conditionals(state: EngineState) -> tuple[SnapshotConditional, ...]:
    """All conditional orders, by id."""
    return tuple(
        SnapshotConditional(
            *_pack_common(order),
            1 if order.sense > 0 else -1,
            order.source,
            order.trigger,
            order.offset,
            order.slack,
            order.tif,
            order.good_til_ms,
            order.partner,
            order.is_fired,
        )
        for _, order in sorted(state.waiting.items())
        if isinstance(order, Conditional)
    )


def pack_twaps(state: EngineState) -> tuple[SnapshotTwap, ...]:
    """All TWAP orders, by id."""
    return tuple(
        SnapshotTwap(
            *_pack_common(order),
            order.size,
            order.start_ms,
            order.interval_ms,
            order.slices,
            order.next_slice,
        )
        for _, order in sorted(state.waiting.items())
        if isinstance(order, Twap)
    )


def pack_deadlines(state: EngineState) -> tuple[Deadline, ...]:
    """All deadlines, by account."""
    return tuple(
        (account_id, state.accounts[account_id].deadline_ms)
        for account_id in sorted(state.accounts)
        if state.accounts[account_id].deadline_ms
    )


def unpack_waiting(
    state: EngineState, conditionals: Sequence[SnapshotConditional], twaps: Sequence[SnapshotTwap]
) -> None:
    """Let these orders wait again, in a state that has its open orders already.

    Raises `SnapshotError` for orders that no state holds together.
    """
    require_rising([each.order_id for each in conditionals], "conditional orders")
    require_rising([each.order_id for each in twaps], "TWAP orders")
    both: list[SnapshotWaiting] = [*conditionals, *twaps]
    for packed in sorted(both, key=lambda each: each.order_id):
        account = state.accounts.get(packed.owner)
        market = state.markets.get(packed.market)
        if account is None or market is None:
            raise SnapshotError("an order of nobody or in no market")
        if packed.client_id and packed.client_id in account.clients:
            raise SnapshotError("two orders of an account share one client id")
        if packed.order_id in state.orders or packed.order_id in state.waiting:
            raise SnapshotError("two orders share one id")
        if isinstance(packed, SnapshotTwap):
            add_waiting(state, _unpack_twap(packed, account, market))
        else:
            assert isinstance(packed, SnapshotConditional)
            add_waiting(state, _unpack_conditional(packed, account, market))
    for each in conditionals:
        if each.partner:
            _unpack_partner(state, each)


def _unpack_conditional(
    packed: SnapshotConditional, account: Account, market: Market
) -> Conditional:
    order = Conditional(
        *_unpack_common(packed, account, market),
        packed.sense,
        packed.source,
        packed.trigger_ticks,
        packed.offset_ticks,
        packed.slack_ticks,
        packed.tif,
        packed.good_til_ms,
    )
    order.partner = packed.partner
    order.is_fired = packed.is_fired
    return order


def _unpack_twap(packed: SnapshotTwap, account: Account, market: Market) -> Twap:
    if packed.lots > packed.size_lots or packed.next_slice > packed.slices:
        raise SnapshotError("a TWAP order beyond its end")
    return Twap(
        *_unpack_common(packed, account, market),
        packed.size_lots,
        packed.start_ms,
        packed.interval_ms,
        packed.slices,
        packed.next_slice,
    )


def _unpack_partner(state: EngineState, packed: SnapshotConditional) -> None:
    """The legs of a pair belong to one account; two that wait name each other."""
    other = state.waiting.get(packed.partner)
    resting = state.orders.get(packed.partner)
    if isinstance(other, Conditional) and other.partner == packed.order_id:
        owner = other.account.account_id
    elif resting is not None and packed.partner not in state.pairs:
        owner = resting.exposure.account.account_id
        state.pairs[packed.partner] = packed.order_id
    else:
        raise SnapshotError("a pair of which one leg is missing")
    if owner != packed.owner:
        raise SnapshotError("a pair of two accounts")


def unpack_deadlines(state: EngineState, deadlines: Sequence[Deadline]) -> None:
    """Arm the dead men's switches again. Raises `SnapshotError`."""
    require_rising([account_id for account_id, _ in deadlines], "deadlines")
    for account_id, deadline_ms in deadlines:
        account = state.accounts.get(account_id)
        if account is None:
            raise SnapshotError("a dead man's switch of nobody")
        set_deadline(state, account, deadline_ms)
