"""Session keys: what a key that is not the account's own may ask for.

The two halves of one thing, both from the same plain envelope that the account's own key signs:

* the header ledger (`mempool`) decides who may sign at all: from which height on a key is in force,
  until when, its nonces, and that a key which expired or was revoked is dead for ever;
* the engine decides what an instruction of such a key may do, and counts what it has spent. A
  revocation holds here in the very block that carries it, before the ledger's does.

A key may only cancel; or trade as well, and set the dead man's switch (with which a key that only
cancels could keep orders alive); or also move collateral between the owner's accounts. No session
key ever withdraws, gives to somebody else, or changes keys. It may be confined to markets, to some
of the owner's accounts, and to an amount of notional: that of all orders which it placed at the
dearest they may trade at (a sell's limit, or the mark or its trigger where that is higher), but of
reduce-only ones only by how much their limit is worse than the mark: a key may always close, and
not give away what it closes. What it cancels does not come back. An option that is sold counts as
what it may have to pay, not as its premium: a put as its strike, a call as its underlying.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from crypto.digest import Domain, digest
from engine.accounts.sub_accounts import find_account
from engine.block import SessionGrant, SessionScope
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OneCancelsOther,
    PlaceOrder,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.limits import PRICE_MAX_TICKS
from engine.receipts import ReasonCode, Receipt, SessionEvent, SessionState, Status
from engine.trading.cancellation import find_order
from engine.waiting.orders import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.accounts.account import Account
    from engine.block import SessionRevocation
    from engine.instructions import AccountInstruction, Instruction
    from engine.run import BlockRun
    from engine.state import EngineState
    from engine.trading.market import Market

_OK: Final = ReasonCode.OK

_LAST: Final = TriggerSource.LAST

_CANCELS: Final = (Cancel, CancelAll)
_ORDERS: Final = (
    PlaceOrder,
    MarketOrder,
    Amend,
    ConditionalOrder,
    TrailingStop,
    OneCancelsOther,
    TwapOrder,
)

_PREFIX: Final = digest(Domain.STATE, b"session keys")
_RECORD: Final = Struct(">32sBQQQHH")
"""key, scope, expiry, spend cap (2^64 - 1 for none), spent, markets, sub-accounts."""
_NUMBER: Final = Struct(">I")
_NO_CAP: Final = 2**64 - 1


class Session:
    """What one key may do for an account."""

    __slots__ = ("expires_ms", "key", "markets", "scope", "spend_max", "spent", "subs")

    def __init__(
        self,
        key: bytes,
        scope: SessionScope,
        expires_ms: int,
        markets: tuple[int, ...],
        subs: tuple[int, ...],
        spend_max: int | None,
        spent: int,
    ) -> None:
        self.key = key
        self.scope = scope
        self.expires_ms = expires_ms
        self.markets = markets
        """Empty: all."""
        self.subs = subs
        """Of the owner's accounts, 0 for the main one; empty: all."""
        self.spend_max = spend_max
        """Micro-quote; None: as much as it likes."""
        self.spent = spent


class Charges:
    """What the session keys' orders of a block are worth, until it is known which were refused."""

    __slots__ = ("_charged", "_state")

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._charged: list[tuple[Account, Session, int, int]] = []

    def admit(
        self, session: Session, owner_id: bytes, sub: int, instruction: Instruction, slot: int
    ) -> ReasonCode:
        """May the key ask this for the owner's account of that number? If so, count it, until the
        receipt in that slot tells whether it came to anything."""
        state = self._state
        code = check_session(state, session, owner_id, sub, instruction)
        if code is not _OK or session.spend_max is None:
            return code
        amount = compute_spend(state, owner_id, sub, instruction)
        if amount == 0:
            return _OK
        if session.spent + amount > session.spend_max:
            return ReasonCode.SESSION_SPENT
        session.spent += amount
        self._charged.append((state.accounts[owner_id], session, amount, slot))
        return _OK

    def settle(self, receipts: Sequence[Receipt | None]) -> None:
        """Take back what was refused, or has only made an order smaller."""
        for owner, session, amount, slot in self._charged:
            receipt = receipts[slot]
            assert receipt is not None, "every instruction has a receipt by now"
            if receipt.status is Status.REFUSED or receipt.status is Status.ACCEPTED:
                session.spent -= amount
            else:
                self._state.mark_dirty(owner)


def encode_sessions(account: Account) -> bytes:
    """The digest of an account's session keys, of which there is at least one."""
    records = []
    for _, session in sorted(account.sessions.items()):
        cap = _NO_CAP if session.spend_max is None else session.spend_max
        counts = len(session.markets), len(session.subs)
        fields = session.key, session.scope, session.expires_ms, cap, session.spent, *counts
        records.append(_RECORD.pack(*fields))
        records += [_NUMBER.pack(number) for number in (*session.markets, *session.subs)]
    return sha256(_PREFIX + b"".join(records)).digest()


def change_sessions(run: BlockRun, changes: Sequence[SessionGrant | SessionRevocation]) -> None:
    """System phase: keys expire, then keys come, then keys go.

    The ledger lets no key be authorised that ever was before. So of a key that does both in one
    block the revocation is the later one, and the order of the envelopes cannot matter.
    """
    state = run.state
    for account_id, key in state.session_expiries.due(run.time_ms):
        _remove_session(state, state.accounts[account_id], key)
        run.events.append(SessionEvent(account_id, key, SessionState.EXPIRED))
    for change in sorted(changes, key=_rank):
        if isinstance(change, SessionGrant):
            account = state.open_account(change.account)
            _remove_session(state, account, change.key)
            session = Session(
                change.key,
                change.scope,
                change.expires_ms,
                change.markets,
                change.subs,
                change.spend_max_microquote,
                0,
            )
            add_session(state, account, session)
            become = SessionState.AUTHORISED
        else:
            # The ledger knows accounts that the engine does not, and lets them revoke.
            known = state.accounts.get(change.account)
            if known is None or not _remove_session(state, known, change.key):
                continue
            become = SessionState.REVOKED
        run.events.append(SessionEvent(change.account, change.key, become))


def add_session(state: EngineState, account: Account, session: Session) -> None:
    """Give an account a key that it does not have."""
    account.sessions[session.key] = session
    state.session_expiries.add(session.expires_ms, (account.account_id, session.key))
    state.mark_dirty(account)


def _remove_session(state: EngineState, account: Account, key: bytes) -> bool:
    """Did the account have the key? Then it has it no more."""
    session = account.sessions.pop(key, None)
    if session is None:
        return False
    state.session_expiries.remove(session.expires_ms, (account.account_id, key))
    state.mark_dirty(account)
    return True


def _rank(change: SessionGrant | SessionRevocation) -> tuple[bool, bytes, bytes]:
    return not isinstance(change, SessionGrant), change.account, change.key


def find_session(state: EngineState, owner_id: bytes, key: bytes) -> Session | None:
    """What a key may do for an account now; None: nothing."""
    owner = state.accounts.get(owner_id)
    session = None if owner is None else owner.sessions.get(key)
    return None if session is None or session.expires_ms <= state.time_ms else session


def check_session(
    state: EngineState, session: Session, owner_id: bytes, sub: int, instruction: Instruction
) -> ReasonCode:
    """May the key ask this for the owner's account of that number? The cap is not looked at."""
    if not isinstance(instruction, _find_allowed(session.scope)):
        return ReasonCode.SESSION_SCOPE
    subs = session.subs
    if subs and sub not in subs:
        return ReasonCode.SESSION_SUB_ACCOUNT
    if isinstance(instruction, Transfer):
        if instruction.account:
            return ReasonCode.SESSION_SCOPE
        if subs and instruction.sub not in subs:
            return ReasonCode.SESSION_SUB_ACCOUNT
        return _OK
    if not session.markets:
        return _OK
    account = find_account(state, owner_id, sub)
    named = _find_markets(account, instruction)
    is_confined = all(market in session.markets for market in named)
    return _OK if named and is_confined else ReasonCode.SESSION_MARKET


def _find_allowed(scope: SessionScope) -> tuple[type, ...]:
    """The kinds of instructions of a scope; all that is not named here needs the account's key."""
    if scope is SessionScope.CANCEL:
        return _CANCELS
    trades = (*_CANCELS, ArmDeadMan, *_ORDERS)
    return trades if scope is SessionScope.TRADE else (*trades, Transfer)


def _find_markets(account: Account | None, instruction: Instruction) -> tuple[int, ...]:
    """The markets that an instruction touches; none if it is all of them, or nobody knows."""
    if isinstance(instruction, OneCancelsOther):
        return instruction.first.market, instruction.second.market
    if isinstance(instruction, CancelAll):
        return () if instruction.market is None else (instruction.market,)
    if isinstance(instruction, Cancel | Amend):
        if account is None:
            return ()
        order = find_order(account, instruction.order_id, instruction.client_id)
        if isinstance(order, ReasonCode):
            return ()
        market = order.market if isinstance(order, Waiting) else order.exposure.market
        return (market.market_id,)
    if isinstance(instruction, ArmDeadMan):
        return ()
    market_id: int | None = getattr(instruction, "market", None)
    return () if market_id is None else (market_id,)


def compute_spend(
    state: EngineState, owner_id: bytes, sub: int, instruction: AccountInstruction | Instruction
) -> int:
    """What an instruction counts against a cap, micro-quote: 0 for all that is no new order."""
    if isinstance(instruction, OneCancelsOther):
        legs = (instruction.first, instruction.second)
        return max(compute_spend(state, owner_id, sub, leg) for leg in legs)
    if isinstance(instruction, Amend):
        account = find_account(state, owner_id, sub)
        if account is None:
            return 0
        order = find_order(account, instruction.order_id, instruction.client_id)
        if isinstance(order, ReasonCode | Waiting):
            return 0
        traded = order.exposure.market
        if order.reduce_only:
            worse_ticks = order.side * (instruction.price_ticks - traded.mark_price)
            return max(worse_ticks, 0) * instruction.size_lots * traded.unit
        price = _find_dearest_limit(traded, order.side, instruction.price_ticks)
        return _compute_value(traded, order.side, price, instruction.size_lots)
    if not isinstance(instruction, _ORDERS):
        return 0
    market = state.markets.get(instruction.market)
    if market is None:
        return 0
    if instruction.reduce_only:
        worse_ticks = _find_slippage(market, instruction)
        return max(worse_ticks, 0) * max(instruction.size_lots, 0) * market.unit
    price = _find_dearest_price(market, instruction)
    return _compute_value(market, instruction.side, price, instruction.size_lots)


def _compute_value(market: Market, side: int, price_ticks: int, lots: int) -> int:
    """What an order counts: what it may trade for, or what an option that it sells may cost in the
    end if that is more. As for a perpetual that is sold, a call's is its underlying's value now."""
    value = price_ticks * lots * market.unit
    series = market.series
    if series is not None and side < 0:
        owed_ticks = series.underlying.index_price if series.is_call else series.strike_ticks
        value = max(value, owed_ticks * lots * series.underlying.unit)
    return max(value, 0)


def _find_slippage(
    market: Market, order: PlaceOrder | MarketOrder | ConditionalOrder | TrailingStop | TwapOrder
) -> int:
    """By how many ticks an order may trade worse than the mark. What a stop waits for is the mark
    when it acts, but for trades: anybody makes one at any price in the band."""
    by_trades = isinstance(order, ConditionalOrder | TrailingStop) and order.source == _LAST
    if isinstance(order, TrailingStop):
        return order.slack_ticks + (order.offset_ticks if by_trades else 0)
    mark = market.mark_price
    if isinstance(order, MarketOrder):
        return order.side * (order.protective_price_ticks - mark)
    if isinstance(order, ConditionalOrder):
        if order.kind == TriggerKind.STOP and not by_trades:
            mark = order.trigger_ticks
        elif order.side > 0:
            mark = min(mark, order.trigger_ticks)
        else:
            mark = max(mark, order.trigger_ticks)
    return order.side * (order.price_ticks - mark)


def _find_dearest_price(
    market: Market, order: PlaceOrder | MarketOrder | ConditionalOrder | TrailingStop | TwapOrder
) -> int:
    """What a lot of an order may trade at, in ticks: a sell takes what the market gives, however
    low its limit. Before there is a mark anything may come."""
    if isinstance(order, MarketOrder):
        return _find_dearest_limit(market, order.side, order.protective_price_ticks)
    if isinstance(order, ConditionalOrder) and order.side < 0:
        # A sell that waits for a higher price trades there.
        price = max(order.price_ticks, order.trigger_ticks)
        return _find_dearest_limit(market, order.side, price)
    if not isinstance(order, TrailingStop):
        return _find_dearest_limit(market, order.side, order.price_ticks)
    mark = market.mark_price or PRICE_MAX_TICKS
    return mark + order.offset_ticks + order.slack_ticks if order.side > 0 else mark


def _find_dearest_limit(market: Market, side: int, limit_ticks: int) -> int:
    return limit_ticks if side > 0 else max(limit_ticks, market.mark_price or PRICE_MAX_TICKS)
