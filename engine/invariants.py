"""What must hold after every block; a violation is our bug and halts the node.

    sum of balances + fees + insurance + funding pool + settlement pool + pending withdrawals
        == deposits - withdrawals
    pending withdrawals == sum of those that L1 has not settled
    positions of each market sum to zero, the long ones to its open interest
    no book is crossed
    the insurance fund has paid no more than it had
    who is liquidated stands in the tables of that, and nobody else

Money is checked exactly in every block: the changes since the last check, over all accounts that
changed, must cancel out. That is the full identity by induction, at the cost of the accounts
touched, and it keeps the open interest of every market up to date, whatever changed a position.
At multiples of `FULL_CHECK_INTERVAL_BLOCKS` and after a restore it is summed over every
account, which also catches a change that was not noted.
"""

from engine.accounts.account import Account
from engine.errors import InvariantViolation
from engine.limits import EXPOSURES_KEPT_MAX, FULL_CHECK_INTERVAL_BLOCKS
from engine.state import EngineState


def compute_balances_owed(state: EngineState) -> int:
    """What all account balances must sum to, micro-quote."""
    return (
        state.deposits_total
        - state.withdrawals_total
        - state.fees
        - state.insurance
        - state.funding_pool
        - state.settlement_pool
        - state.pending_withdrawals
    )


def validate_changes(state: EngineState) -> None:
    """Check what changed since the last check. Raises `InvariantViolation`."""
    change = 0
    positions: dict[int, int] = {}
    for account in state.dirty_accounts:
        change += account.quote - account.checked_quote
        account.checked_quote = account.quote
        if account.position_record is None:
            _note_positions(account, positions)
        if len(account.exposures) > EXPOSURES_KEPT_MAX:
            for exposure in list(account.exposures.values()):
                account.forget_exposure(exposure)
    owed = compute_balances_owed(state)
    if change != owed - state.checked_owed:
        raise InvariantViolation(
            f"height {state.height}: balances changed by {change}, "
            f"should have by {owed - state.checked_owed}"
        )
    state.checked_owed = owed
    _require_zero(state, positions)
    if state.insurance < 0:
        raise InvariantViolation(f"height {state.height}: insurance {state.insurance}")
    for market in state.markets.values():
        if market.book.is_crossed():
            raise InvariantViolation(f"height {state.height}: market {market.market_id} is crossed")
    if state.height % FULL_CHECK_INTERVAL_BLOCKS == 0:
        validate_all(state)


def validate_all(state: EngineState) -> None:
    """Check the identity over every account. Raises `InvariantViolation`."""
    total = sum(account.quote for account in state.accounts.values())
    owed = compute_balances_owed(state)
    if total != owed:
        raise InvariantViolation(f"height {state.height}: balances {total}, owed {owed}")
    pending = sum(withdrawal.amount for withdrawal in state.withdrawals.values())
    if pending != state.pending_withdrawals:
        raise InvariantViolation(
            f"height {state.height}: withdrawals {pending}, pending {state.pending_withdrawals}"
        )
    _validate_liquidations(state)
    positions: dict[int, int] = {}
    longs = dict.fromkeys(state.markets, 0)
    for account in state.accounts.values():
        for market_id, exposure in account.exposures.items():
            positions[market_id] = positions.get(market_id, 0) + exposure.lots
            longs[market_id] += max(exposure.lots, 0)
    _require_zero(state, positions)
    for market in state.markets.values():
        if market.open_interest != longs[market.market_id]:
            raise InvariantViolation(
                f"height {state.height}: market {market.market_id} has an open interest of "
                f"{longs[market.market_id]}, noted is {market.open_interest}"
            )


def _validate_liquidations(state: EngineState) -> None:
    """The tables of liquidations say what the accounts say."""
    liquidations = state.liquidations
    if liquidations is None:
        return
    distressed = [account for account in state.accounts.values() if account.distress is not None]
    debts = sum(record.debt for record in liquidations.records.values())
    if (
        len(liquidations.roster) != len(state.accounts)
        or len(liquidations.records) != len(distressed)
        or any(
            liquidations.records.get(account.account_id) is not account.distress
            for account in distressed
        )
        or liquidations.debts != debts
    ):
        raise InvariantViolation(f"height {state.height}: the tables of liquidations are wrong")


def _note_positions(account: Account, positions: dict[int, int]) -> None:
    """Add the account's position changes since the last check to the sums by market."""
    for market_id, exposure in account.exposures.items():
        before, lots = exposure.checked_lots, exposure.lots
        if lots != before:
            positions[market_id] = positions.get(market_id, 0) + lots - before
            market = exposure.market
            market.open_interest += max(lots, 0) - max(before, 0)
            if market.params.open_interest is not None:
                market.dirty = True
            exposure.checked_lots = lots


def _require_zero(state: EngineState, positions: dict[int, int]) -> None:
    unequal = [market_id for market_id, total in positions.items() if total]
    if unequal:
        raise InvariantViolation(f"height {state.height}: positions of markets {unequal} not zero")
