"""Snapshots: the whole state as canonical bytes, and back, with the root as proof.

A snapshot holds what the root commits to and nothing else: caches are rebuilt. Equal states give
equal bytes, however they came to be. `restore` trusts nothing: the bytes are checked for form, the
books are rebuilt in the order of the ids (which is their priority), and the root computed from the
result must be the one claimed, which the caller compares with a certified one.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.types import Digest, Uint
from engine.accounts.account import pack_cost, unpack_cost
from engine.accounts.fees import enter_fee_epoch
from engine.commitment.root import compute_state_root
from engine.errors import InvariantViolation, SnapshotError
from engine.genesis import EngineGenesis, GenesisError, validate_genesis
from engine.instructions import SelfTradeMode, Side, TimeInForce
from engine.invariants import compute_balances_owed, validate_all
from engine.limits import (
    FUNDING_SAMPLES_PER_INTERVAL_MAX,
    FUNDING_VOTES_PER_SAMPLE_MAX,
    POSITION_MAX_LOTS,
    PPM,
    PRICE_MAX_TICKS,
    SERIES_ID_FIRST,
    SERIES_ID_MAX,
)
from engine.prices.funding import Funding, pack_index, unpack_index
from engine.prices.mark import AVERAGE_SCALE
from engine.snapshots.accounts import (
    SnapshotSession,
    SnapshotSubAccount,
    SnapshotVolume,
    SnapshotWithdrawal,
    pack_sessions,
    pack_sub_accounts,
    pack_volumes,
    pack_withdrawals,
    unpack_sessions,
    unpack_sub_accounts,
    unpack_volumes,
    unpack_withdrawals,
)
from engine.snapshots.checks import require_rising
from engine.snapshots.liquidations import (
    SnapshotDistress,
    pack_cursor,
    pack_distressed,
    unpack_liquidations,
)
from engine.snapshots.options import (
    SnapshotChain,
    pack_chains,
    pack_portfolios,
    unpack_chains,
    unpack_portfolios,
)
from engine.snapshots.waiting import (
    Deadline,
    SnapshotConditional,
    SnapshotTwap,
    pack_conditionals,
    pack_deadlines,
    pack_twaps,
    unpack_deadlines,
    unpack_waiting,
)
from engine.state import EngineState
from engine.trading.book import Order
from engine.trading.market import Market, Report
from engine.trading.resting import rest_order

SNAPSHOT_VERSION: Final = 3
"""Raised whenever the shape or the meaning of the bytes changes; stays below 128."""

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Lots = Annotated[int, Meta(ge=1, le=POSITION_MAX_LOTS)]
_Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Position = Annotated[int, Meta(ge=-POSITION_MAX_LOTS, le=POSITION_MAX_LOTS)]
_FundingIndex = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A signed number: MessagePack holds none so large."""
_Price = Annotated[int, Meta(ge=1, le=PRICE_MAX_TICKS)]


class SnapshotReport(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One reporter's latest report."""

    reporter: Digest
    price_ticks: _Price
    sequence: Uint
    source_time_ms: Uint


class SnapshotFunding(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a market with funding remembers."""

    index: _FundingIndex
    rate_ppb: _Int64
    votes: Annotated[tuple[_Int64, ...], Meta(max_length=FUNDING_VOTES_PER_SAMPLE_MAX)]
    samples: Annotated[tuple[_Int64, ...], Meta(max_length=FUNDING_SAMPLES_PER_INTERVAL_MAX)]
    vote_due_ms: Uint
    sample_due_ms: Uint
    due_ms: Uint


class SnapshotMark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a market with a mark of its own remembers."""

    price_ticks: Annotated[int, Meta(ge=0, le=PRICE_MAX_TICKS)]
    average: Annotated[int, Meta(ge=-AVERAGE_SCALE, le=AVERAGE_SCALE)]
    last_price_ticks: Annotated[int, Meta(ge=0, le=PRICE_MAX_TICKS)]
    due_ms: Uint


class SnapshotMarket(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One market's index and reports, the latter by reporter."""

    market: Uint
    index_price_ticks: Annotated[int, Meta(ge=0, le=PRICE_MAX_TICKS)]
    is_stale: bool
    reports: tuple[SnapshotReport, ...]
    funding: SnapshotFunding | None
    mark: SnapshotMark | None
    scaled_margin_ppm: Annotated[int, Meta(ge=0, le=PPM)]
    """The initial margin in force."""


class SnapshotPosition(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One position, and its market's funding index at its last settlement."""

    market: Uint
    lots: _Position
    funding_index: _FundingIndex
    cost: Annotated[bytes, Meta(min_length=16, max_length=16)]
    """Zero where there is no liquidation."""


class SnapshotAccount(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One account's balance and its positions that are not zero, by market."""

    account: Digest
    quote_microquote: _Int64
    positions: tuple[SnapshotPosition, ...]


class SnapshotOrder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One open order."""

    order_id: Uint
    owner: Digest
    market: Uint
    side: Side
    price_ticks: _Price
    lots: _Lots
    client_id: Uint
    tif: TimeInForce
    self_trade: SelfTradeMode
    reduce_only: bool
    good_til_ms: Uint


class EngineSnapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state after a block. Every list is in rising order of its key."""

    version: int
    genesis: EngineGenesis
    state_root: Digest
    height: Uint
    time_ms: Uint
    next_order_id: Uint
    fees_microquote: _Int64
    insurance_microquote: _Int64
    funding_pool: Annotated[bytes, Meta(min_length=16, max_length=16)]
    deposits_total_microquote: Uint
    pending_withdrawals_microquote: Uint
    withdrawals_total_microquote: Uint
    markets: tuple[SnapshotMarket, ...]
    accounts: tuple[SnapshotAccount, ...]
    orders: tuple[SnapshotOrder, ...]
    conditionals: tuple[SnapshotConditional, ...]
    twaps: tuple[SnapshotTwap, ...]
    deadlines: tuple[Deadline, ...]
    next_series_id: Annotated[int, Meta(ge=SERIES_ID_FIRST, le=SERIES_ID_MAX)]
    settlement_pool: Annotated[bytes, Meta(min_length=16, max_length=16)]
    chains: tuple[SnapshotChain, ...]
    next_withdrawal_id: _Positive
    withdrawals: tuple[SnapshotWithdrawal, ...]
    sub_accounts: tuple[SnapshotSubAccount, ...]
    volumes: tuple[SnapshotVolume, ...]
    portfolios: tuple[Digest, ...]
    """Accounts with portfolio margin."""
    sessions: tuple[SnapshotSession, ...]
    liquidation_cursor: Digest
    distressed: tuple[SnapshotDistress, ...]


def snapshot(state: EngineState) -> bytes:
    """The canonical bytes of the state, which must be between blocks."""
    assert not state.is_rootless, "this state has skipped a root"
    return encode(
        EngineSnapshot(
            SNAPSHOT_VERSION,
            state.genesis,
            compute_state_root(state),
            state.height,
            state.time_ms,
            state.next_order_id,
            state.fees,
            state.insurance,
            state.funding_pool.to_bytes(16, "big", signed=True),
            state.deposits_total,
            state.pending_withdrawals,
            state.withdrawals_total,
            _pack_markets(state),
            _pack_accounts(state),
            _pack_orders(state),
            pack_conditionals(state),
            pack_twaps(state),
            pack_deadlines(state),
            state.next_series_id,
            state.settlement_pool.to_bytes(16, "big", signed=True),
            pack_chains(state),
            state.next_withdrawal_id,
            pack_withdrawals(state),
            pack_sub_accounts(state),
            pack_volumes(state),
            pack_portfolios(state),
            pack_sessions(state),
            pack_cursor(state),
            pack_distressed(state),
        )
    )


def restore(data: bytes) -> EngineState:
    """The state in a snapshot. Raises `SnapshotError`; the caller checks its root and size."""
    packed = _decode(data)
    state = EngineState(packed.genesis)
    state.height = packed.height
    state.time_ms = packed.time_ms
    state.next_order_id = packed.next_order_id
    state.fees = packed.fees_microquote
    state.insurance = packed.insurance_microquote
    state.funding_pool = int.from_bytes(packed.funding_pool, "big", signed=True)
    if state.funding_pool and not state.is_funded:
        raise SnapshotError("a funding pool where no market has funding")
    state.next_series_id = packed.next_series_id
    state.settlement_pool = int.from_bytes(packed.settlement_pool, "big", signed=True)
    if not state.chains and (state.settlement_pool or state.next_series_id != SERIES_ID_FIRST):
        raise SnapshotError("series or their settlements where no market has options")
    state.deposits_total = packed.deposits_total_microquote
    state.pending_withdrawals = packed.pending_withdrawals_microquote
    state.withdrawals_total = packed.withdrawals_total_microquote
    _unpack_markets(state, packed)
    unpack_chains(state, packed.chains)
    _unpack_accounts(state, packed)
    unpack_portfolios(state, packed.portfolios)
    _unpack_orders(state, packed)
    unpack_waiting(state, packed.conditionals, packed.twaps)
    unpack_deadlines(state, packed.deadlines)
    unpack_withdrawals(state, packed.next_withdrawal_id, packed.withdrawals)
    unpack_sub_accounts(state, packed.sub_accounts)
    unpack_volumes(state, packed.volumes)
    unpack_sessions(state, packed.sessions)
    enter_fee_epoch(state)
    unpack_liquidations(state, packed.liquidation_cursor, packed.distressed)
    _validate_restored(state, packed)
    return state


def _decode(data: bytes) -> EngineSnapshot:
    """The snapshot, well-formed in itself."""
    _require_version(data)
    try:
        packed = decode(EngineSnapshot, data)
        validate_genesis(packed.genesis)
    except (DecodeError, GenesisError) as error:
        raise SnapshotError(str(error)) from error
    return packed


def _require_version(data: bytes) -> None:
    """Refuse another version by its number, before its shape: it may have other fields.

    The first byte opens the array of fields (three bytes from 16 fields on), the next is the
    version.
    """
    start = 3 if data[:1] == b"\xdc" else 1
    if data[start : start + 1] != bytes([SNAPSHOT_VERSION]):
        found = data[start] if len(data) > start else "none"
        raise SnapshotError(f"version {found}, expected {SNAPSHOT_VERSION}")


def _pack_markets(state: EngineState) -> tuple[SnapshotMarket, ...]:
    return tuple(
        SnapshotMarket(
            market.market_id,
            market.index_price,
            market.stale,
            tuple(
                SnapshotReport(key, report.price_ticks, report.sequence, report.source_time_ms)
                for key, report in sorted(market.reports.items(), key=lambda entry: entry[0])
            ),
            _pack_funding(market.funding),
            _pack_mark(market),
            market.scaled_margin_ppm,
        )
        for market in state.perpetuals.values()
    )


def _pack_funding(funding: Funding | None) -> SnapshotFunding | None:
    if funding is None:
        return None
    return SnapshotFunding(
        pack_index(funding.index),
        funding.rate_ppb,
        tuple(funding.votes),
        tuple(funding.samples),
        funding.vote_due_ms,
        funding.sample_due_ms,
        funding.due_ms,
    )


def _unpack_funding(funding: Funding, packed: SnapshotFunding) -> None:
    funding.index = unpack_index(packed.index)
    funding.rate_ppb = packed.rate_ppb
    funding.votes = list(packed.votes)
    funding.samples = list(packed.samples)
    funding.vote_due_ms = packed.vote_due_ms
    funding.sample_due_ms = packed.sample_due_ms
    funding.due_ms = packed.due_ms


def _pack_mark(market: Market) -> SnapshotMark | None:
    mark = market.mark
    if mark is None:
        return None
    return SnapshotMark(market.mark_price, mark.average, mark.last_price, mark.due_ms)


def _unpack_mark(market: Market, packed: SnapshotMark | None) -> None:
    """The mark of a market whose index is already in place."""
    mark = market.mark
    if mark is None or packed is None:
        if mark is not None or packed is not None:
            raise SnapshotError("a mark where its genesis has none, or the other way round")
        market.set_mark(market.index_price)
        return
    market.set_mark(packed.price_ticks)
    mark.index_price = market.index_price
    mark.average = packed.average
    mark.last_price = packed.last_price_ticks
    mark.due_ms = packed.due_ms


def _pack_accounts(state: EngineState) -> tuple[SnapshotAccount, ...]:
    return tuple(
        SnapshotAccount(
            account_id,
            account.quote,
            tuple(
                SnapshotPosition(
                    market_id,
                    exposure.lots,
                    pack_index(exposure.funding_index),
                    pack_cost(exposure.cost if exposure.market.is_cost_kept else 0),
                )
                for market_id, exposure in sorted(
                    account.exposures.items(), key=lambda entry: entry[0]
                )
                if exposure.lots
            ),
        )
        for account_id, account in sorted(state.accounts.items(), key=lambda entry: entry[0])
    )


def _pack_orders(state: EngineState) -> tuple[SnapshotOrder, ...]:
    return tuple(
        SnapshotOrder(
            order_id,
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
        for order_id, order in sorted(state.orders.items())
    )


def _unpack_markets(state: EngineState, packed: EngineSnapshot) -> None:
    if [market.market for market in packed.markets] != list(state.perpetuals):
        raise SnapshotError("its markets are not those of its genesis")
    for packed_market in packed.markets:
        market = state.perpetuals[packed_market.market]
        if packed_market.index_price_ticks:
            market.set_index(packed_market.index_price_ticks)
        market.scaled_margin_ppm = packed_market.scaled_margin_ppm
        is_scaled = market.scaled_margin_ppm != market.initial_margin_ppm
        if is_scaled and market.params.open_interest is None:
            raise SnapshotError("a margin that grew where its genesis lets none grow")
        _unpack_mark(market, packed_market.mark)
        market.stale = packed_market.is_stale
        if (market.funding is None) != (packed_market.funding is None):
            raise SnapshotError("funding where its genesis has none, or the other way round")
        if market.funding is not None and packed_market.funding is not None:
            _unpack_funding(market.funding, packed_market.funding)
        require_rising([report.reporter for report in packed_market.reports], "reports")
        for report in packed_market.reports:
            market.reports[report.reporter] = Report(
                report.price_ticks, report.sequence, report.source_time_ms
            )


def _unpack_accounts(state: EngineState, packed: EngineSnapshot) -> None:
    require_rising([account.account for account in packed.accounts], "accounts")
    for packed_account in packed.accounts:
        account = state.open_account(packed_account.account)
        account.quote = account.checked_quote = packed_account.quote_microquote
        require_rising([position.market for position in packed_account.positions], "positions")
        for position in packed_account.positions:
            market = state.markets.get(position.market)
            if market is None or position.lots == 0:
                raise SnapshotError("a position in no market or of no size")
            exposure = account.exposure(market)
            exposure.lots = exposure.checked_lots = position.lots
            market.open_interest += max(position.lots, 0)
            exposure.funding_index = unpack_index(position.funding_index)
            exposure.cost = unpack_cost(position.cost)
            if exposure.cost and not market.is_cost_kept:
                raise SnapshotError("the cost of a position where none is kept")
        state.mark_dirty(account)


def _unpack_orders(state: EngineState, packed: EngineSnapshot) -> None:
    require_rising([order.order_id for order in packed.orders], "orders")
    for packed_order in packed.orders:
        account = state.accounts.get(packed_order.owner)
        market = state.markets.get(packed_order.market)
        if account is None or market is None:
            raise SnapshotError("an order of nobody or in no market")
        if packed_order.client_id and packed_order.client_id in account.clients:
            raise SnapshotError("two orders of an account share one client id")
        rest_order(
            state,
            Order(
                packed_order.order_id,
                account.exposure(market),
                1 if packed_order.side is Side.BUY else -1,
                packed_order.price_ticks,
                packed_order.lots,
                packed_order.client_id,
                packed_order.tif,
                packed_order.self_trade,
                packed_order.reduce_only,
                packed_order.good_til_ms,
            ),
        )


def _validate_restored(state: EngineState, packed: EngineSnapshot) -> None:
    if max((*state.orders, *state.waiting), default=0) >= state.next_order_id:
        raise SnapshotError("an order id that is not yet given")
    try:
        validate_all(state)
    except InvariantViolation as error:
        raise SnapshotError(str(error)) from error
    state.checked_owed = compute_balances_owed(state)
    if compute_state_root(state) != packed.state_root:
        raise SnapshotError("its contents do not have the root that it claims")
