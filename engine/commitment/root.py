"""The state root: what is committed, in which bytes, updated only where it changed.

One 16-ary Merkle map (`crypto.merkle`) over five kinds of leaves, all numbers big-endian:

    "a" | account id   quote i64 | digest of open orders
                       | (market u32 | position i64 | funding index i256, if it has funding
                          | cost i128, where there is liquidation)*
                       | (2^31 u32 | digest of what waits)?
                       | (2^31 + 1 u32 | owner's account id | number u32, if a sub-account)?
                       | (2^31 + 3 u32 | digest of session keys)?
                       | (2^31 + 2 u32 | epoch, volume u64 | digest of earlier epochs, if it counts
                         volume)?
                       | (2^31 + 50 u32, if it has portfolio margin)?
                       | (2^31 + 40 u32 | stage u8
                          | elapsed, paused, seen, due, cool, debt u64, if liquidated)?
    "m" | market u32   index u64 | stale u8 | digest of the oracle reports | if it has funding:
                       funding index i256 | rate i64 | vote, sample, interval due u64
                       | digest of votes and samples, i64 each | if it has a mark of its own:
                       mark u64 | average premium i64 | last price, vote due u64
                       | if its margin scales: open interest u128 | initial margin in force u32
    "m" | series u32   underlying u32 | expiry u64 | strike u64 | is call u8
    "o" | market u32   surface stale u8 | digest of surface, reports, expiries
                       | (expiry, sum of samples u64 | their number u32 | next sample due u64)*
    "s"                height, time, next order id u64 | fees, insurance, deposits, pending
                       withdrawals, withdrawals i64 | genesis digest | if any market has funding:
                       funding pool i128 | if any market has options: next series u32
                       | settlement pool i128 | (2^31 u32 | next withdrawal u64,
                       once there was one)? | where there is liquidation: cursor (an account
                       id)
    "w" | number u64   account id | destination 20 bytes | amount, height u64: a withdrawal that L1
                       has not settled

Positions are those that are not zero, by market id; the funding index of one is its market's at the
last settlement. Which markets have funding, a mark of their own or margin that grows with open
interest, the genesis says. What waits is the account's conditional and TWAP orders by id
(`waiting`) and the deadline of its dead man's switch. Without any of these the leaf ends before:
2^31 and more are above all market ids, so no other leaf reads like it. Of earlier epochs with
volume the digest covers (epoch, volume u64)*; without any it is zero. The part of
2^31 + 40 is the account's liquidation while it is under way (`engine.liquidation.distress`).

The digest of open orders covers the account's orders by id, 48 bytes each (`records`); ids give the
priority at each price, so the account leaves commit to every book. A leaf for each order was
rejected: an order always touches its owner's leaf as well, so it would double the work; this way
one proof also shows that an account has *no other* orders, and a proof of a balance stays short.
"""

from hashlib import sha256
from operator import itemgetter
from struct import Struct
from typing import Final

from crypto.digest import ZERO_DIGEST, Domain, digest
from engine.accounts.account import Account, pack_cost
from engine.accounts.fees import encode_volume
from engine.accounts.sessions import encode_sessions
from engine.accounts.withdrawals import encode_withdrawal
from engine.liquidation.distress import encode_distress
from engine.options.chains import encode_chain, encode_series
from engine.prices.funding import Funding, pack_index
from engine.state import EngineState
from engine.trading.market import Market
from engine.waiting.orders import encode_deadline, encode_waiting

_ORDERS_PREFIX: Final = digest(Domain.STATE, b"open orders")
"""Stands before the records of an account's open orders: a domain of their own, hashed once."""

_WAITING_PREFIX: Final = digest(Domain.STATE, b"waiting orders")
WAITING_MARK: Final = (2**31).to_bytes(4, "big")
PORTFOLIO_MARK: Final = (2**31 + 50).to_bytes(4, "big")
DISTRESS_MARK: Final = (2**31 + 40).to_bytes(4, "big")

OWNER: Final = Struct(">32sI")
OWNER_MARK: Final = (2**31 + 1).to_bytes(4, "big")
SESSIONS_MARK: Final = (2**31 + 3).to_bytes(4, "big")
VOLUME_MARK: Final = (2**31 + 2).to_bytes(4, "big")

POSITION: Final = Struct(">Iq")
QUOTE: Final = Struct(">q")
_MARKET: Final = Struct(">QB")
_REPORT: Final = Struct(">32sQQQ")
_PREMIUM: Final = Struct(">q")
_FUNDING: Final = Struct(">qQQQ")
_MARK: Final = Struct(">QqQQ")
_SYSTEM: Final = Struct(">QQQqqqqq")

_WITHDRAWALS: Final = Struct(">IQ")
_WITHDRAWALS_MARK: Final = 2**31

SYSTEM_KEY: Final = b"s"

_MARKET_ID: Final = itemgetter(0)


def account_key(account_id: bytes) -> bytes:
    """The key of an account's leaf."""
    return b"a" + account_id


def market_key(market_id: int) -> bytes:
    """The key of a market's leaf."""
    return b"m" + market_id.to_bytes(4, "big")


def withdrawal_key(withdrawal_id: int) -> bytes:
    """The key of a pending withdrawal's leaf."""
    return b"w" + withdrawal_id.to_bytes(8, "big")


def compute_orders_digest(account: Account) -> bytes:
    """The digest of all open orders of an account; zero bytes if there are none."""
    records = account.order_records.collect()
    return sha256(_ORDERS_PREFIX + records).digest() if records else ZERO_DIGEST


def compute_waiting_digest(account: Account) -> bytes:
    """The digest of all that waits for an account's sake, with at least one thing that does."""
    records = [encode_waiting(order) for order in account.waiting.values()]
    if account.deadline_ms:
        records.append(encode_deadline(account.deadline_ms))
    assert records, "something waits"
    return sha256(_WAITING_PREFIX + b"".join(records)).digest()


def encode_account(account: Account) -> bytes:
    """The value of an account's leaf."""
    positions = account.position_record
    if positions is None:
        held = [
            exposure
            for _, exposure in sorted(account.exposures.items(), key=_MARKET_ID)
            if exposure.lots
        ]
        positions = b"".join(
            [
                POSITION.pack(exposure.market.market_id, exposure.lots)
                + (b"" if exposure.market.funding is None else pack_index(exposure.funding_index))
                + (pack_cost(exposure.cost) if exposure.market.is_cost_kept else b"")
                for exposure in held
            ]
        )
        account.position_record = positions
    value = QUOTE.pack(account.quote) + compute_orders_digest(account) + positions
    if account.waiting or account.deadline_ms:
        value += WAITING_MARK + compute_waiting_digest(account)
    if account.sub:
        value += OWNER_MARK + OWNER.pack(account.owner.account_id, account.sub)
    if account.sessions:
        value += SESSIONS_MARK + encode_sessions(account)
    if account.volume is not None:
        value += VOLUME_MARK + encode_volume(account.volume)
    if account.portfolio is not None:
        value += PORTFOLIO_MARK
    if account.distress is not None:
        value += DISTRESS_MARK + encode_distress(account.distress)
    return value


def chain_key(market_id: int) -> bytes:
    """The key of the leaf about the options on a market."""
    return b"o" + market_id.to_bytes(4, "big")


def encode_market(market: Market) -> bytes:
    """The value of a market's leaf."""
    if market.series is not None:
        return encode_series(market.series)
    reports = b"".join(
        _REPORT.pack(key, report.price_ticks, report.sequence, report.source_time_ms)
        for key, report in sorted(market.reports.items(), key=lambda entry: entry[0])
    )
    value = _MARKET.pack(market.index_price, market.stale) + digest(Domain.STATE, reports)
    if market.funding is not None:
        value += _encode_funding(market.funding)
    mark = market.mark
    if mark is not None:
        value += _MARK.pack(market.mark_price, mark.average, mark.last_price, mark.due_ms)
    if market.params.open_interest is not None:
        value += market.open_interest.to_bytes(16, "big")
        value += market.scaled_margin_ppm.to_bytes(4, "big")
    return value


def _encode_funding(funding: Funding) -> bytes:
    votes, samples = (
        b"".join([_PREMIUM.pack(premium) for premium in premiums])
        for premiums in (funding.votes, funding.samples)
    )
    dues = (funding.vote_due_ms, funding.sample_due_ms, funding.due_ms)
    return (
        pack_index(funding.index)
        + _FUNDING.pack(funding.rate_ppb, *dues)
        + digest(Domain.STATE, votes, samples)
    )


def encode_system(state: EngineState) -> bytes:
    """The value of the one leaf about the whole engine."""
    numbers = _SYSTEM.pack(
        state.height,
        state.time_ms,
        state.next_order_id,
        state.fees,
        state.insurance,
        state.deposits_total,
        state.pending_withdrawals,
        state.withdrawals_total,
    )
    value = numbers + state.genesis_digest
    if state.is_funded:
        value += state.funding_pool.to_bytes(16, "big", signed=True)
    if state.chains:
        value += state.next_series_id.to_bytes(4, "big")
        value += state.settlement_pool.to_bytes(16, "big", signed=True)
    if state.next_withdrawal_id > 1:
        value += _WITHDRAWALS.pack(_WITHDRAWALS_MARK, state.next_withdrawal_id)
    if state.liquidations is not None:
        value += state.liquidations.cursor
    return value


def read_totals(value: bytes) -> tuple[int, int, int, int, int, int, int, int] | None:
    """With what the leaf about the whole engine begins: height, time, next order id, fees,
    insurance, deposits, pending withdrawals, withdrawals. None if the bytes are no such leaf."""
    if len(value) < _SYSTEM.size:
        return None
    height, time_ms, order_id, fees, insurance, deposits, pending, withdrawals = (
        _SYSTEM.unpack_from(value)
    )
    return height, time_ms, order_id, fees, insurance, deposits, pending, withdrawals


def compute_state_root(state: EngineState) -> bytes:
    """Write every changed leaf and return the root. The lists of changes are left empty."""
    changes: dict[bytes, bytes | None] = {}
    for account in state.dirty_accounts:
        changes[account_key(account.account_id)] = encode_account(account)
    for market_id in state.removed_markets:
        changes[market_key(market_id)] = None
    for withdrawal_id in state.dirty_withdrawals:
        withdrawal = state.withdrawals.get(withdrawal_id)
        changes[withdrawal_key(withdrawal_id)] = (
            None if withdrawal is None else encode_withdrawal(withdrawal)
        )
    state.forget_changes()
    for market_id, chain in state.chains.items():
        if chain.dirty:
            changes[chain_key(market_id)] = encode_chain(chain)
            chain.dirty = False
    for market in state.markets.values():
        if market.dirty:
            changes[market_key(market.market_id)] = encode_market(market)
            market.dirty = False
    changes[SYSTEM_KEY] = encode_system(state)
    state.tree.update_many(changes)
    return state.tree.root()
